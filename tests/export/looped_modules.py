"""Modules with a loop over time in their own forward, as people write them."""

import torch
from torch import Tensor, nn

I, H, O = 4, 6, 3


def scaled(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * 0.3)


class Written(nn.Module):
    """An LSTM from nothing: one matrix for x and one for h, columns first, and the list that people make of it."""

    def __init__(self) -> None:
        super().__init__()
        self.from_x, self.from_h, self.offset = scaled(I, 4 * H), scaled(H, 4 * H), scaled(4 * H)

    def forward(self, x: Tensor, start: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        rows, steps, _ = x.size()
        h, c = start if start is not None else (torch.zeros(rows, H), torch.zeros(rows, H))
        seen = []
        for t in range(steps):
            mixed = x[:, t, :] @ self.from_x + h @ self.from_h + self.offset
            keep, let, show = torch.sigmoid(mixed[:, : 3 * H]).chunk(3, 1)
            c = keep * c + let * torch.tanh(mixed[:, 3 * H :])
            h = show * torch.tanh(c)
            seen.append(h.unsqueeze(0))
        return torch.cat(seen, dim=0).transpose(0, 1).contiguous(), (h, c)


class Classifier(nn.Module):
    """Tokens, a layer written by hand deep inside, its last step, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, I)
        self.encoder = Written()
        self.head = nn.Linear(H, O)

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.log_softmax(self.head(self.encoder(self.words(tokens))[0][:, -1, :]), dim=1)


class TwoCells(nn.Module):
    """Two of torch's cells in one loop, with a head in the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = nn.LSTMCell(I, H), nn.LSTMCell(H, H)
        self.head = nn.Linear(H, O)

    def forward(self, x: Tensor) -> Tensor:
        a = b = c = d = torch.zeros(x.size(0), H)
        said = []
        for piece in x.split(1, dim=1):
            a, b = self.low(piece.squeeze(1), (a, b))
            c, d = self.high(nn.functional.dropout(a, 0.5, self.training), (c, d))
            said += [self.head(c)]
        return torch.stack(said, 1)


class WithoutOutputGate(nn.Module):
    """What a step gives is computed from its cell alone, but the first begins from zeros; only the last is read."""

    def __init__(self) -> None:
        super().__init__()
        self.from_x, self.from_h = nn.Linear(I, H), nn.Linear(H, H)

    def forward(self, x: Tensor) -> Tensor:
        h, c = torch.zeros(x.size(0), H), torch.ones(x.size(0), H)
        for step in x.unbind(1):
            c = c + torch.tanh(self.from_x(step) + self.from_h(h))
            h = torch.tanh(c)
        return h


class LastTwo(nn.Module):
    """Each step reads the sum of the last two states: the sum is what has to be carried."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(I, H)

    def forward(self, x: Tensor) -> Tensor:
        states = [torch.zeros(x.size(0), H), torch.zeros(x.size(0), H)]
        for step in x.unbind(1):
            states.append(self.cell(step, states[-1] + states[-2]))
        return states[-1]


class Filled(nn.Module):
    """A GRU of separate maps that fills its output in place, time first."""

    def __init__(self) -> None:
        super().__init__()
        self.x_maps, self.h_maps = nn.Linear(I, 3 * H), nn.Linear(H, 3 * H)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.size(1), H)
        out = torch.zeros(x.size(0), x.size(1), H)
        for t in range(x.size(0)):
            for_x, for_h = self.x_maps(x[t]).chunk(3, -1), self.h_maps(h).chunk(3, -1)
            z = torch.sigmoid(for_x[0] + for_h[0])
            n = torch.tanh(for_x[2] + torch.sigmoid(for_x[1] + for_h[1]) * for_h[2])
            h = z * h + (1 - z) * n
            out[t, :, :] = h
        return out


class Slots(nn.Module):
    """Its states have T + 1 slots, the first of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(I, H)

    def forward(self, x: Tensor) -> Tensor:
        rows, steps, _ = x.shape
        h, c = x.new_zeros(rows, steps + 1, H), torch.zeros(rows, steps + 1, H)
        for t in range(steps):
            h[:, t + 1], c[:, t + 1] = self.cell(x[:, t], (h[:, t], c[:, t]))
        return h[:, 1:]


class SlotsTimeFirst(nn.Module):
    """Slots along the first axis, the first of them learned; the state is made by hand, the last slot read too."""

    def __init__(self) -> None:
        super().__init__()
        self.from_x, self.from_h, self.start = nn.Linear(I, H), nn.Linear(H, H), scaled(H)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.empty(x.size(1) + 1, x.size(0), H)
        h[0] = self.start
        for t in range(1, x.size(1) + 1):
            h[t] = torch.tanh(self.from_x(x[:, t - 1, :]) + self.from_h(h[t - 1]))
        return h.transpose(0, 1)[:, 1:] + h[-1].unsqueeze(1)


class SlotsBackwards(nn.Module):
    """From the last step to the first, written a slice at a time; then a loop whose first step reads the last slot."""

    def __init__(self) -> None:
        super().__init__()
        self.back, self.there = nn.GRUCell(I, H), nn.GRUCell(I, H)

    def forward(self, x: Tensor) -> Tensor:
        rows, steps, _ = x.shape
        h, g = torch.zeros(rows, steps + 1, H), torch.zeros(rows, steps, H)
        for t in reversed(range(steps)):
            h[:, t : t + 1] = self.back(x[:, t], h[:, t + 1 : t + 2].squeeze(1)).unsqueeze(1)
        for t in range(steps):
            g[:, t] = self.there(x[:, t], g[:, t - 1])
        return torch.cat([h[:, :-1], g], 2)


class SlotsOfAPair(nn.Module):
    """Both states in one tensor of slots."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(I, H)

    def forward(self, x: Tensor) -> Tensor:
        both = x.new_zeros(2, x.size(0), x.size(1) + 1, H)
        for t in range(x.size(1)):
            both[0, :, t + 1], both[1, :, t + 1] = self.cell(x[:, t], (both[0, :, t], both[1, :, t]))
        return both[0, :, 1:]


class LayersInPlace(nn.Module):
    """One tensor for the states of all layers, each written in place."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList([nn.GRUCell(I, H), nn.GRUCell(H, H)])

    def forward(self, x: Tensor) -> Tensor:
        h, seen = x.new_zeros(2, x.size(0), H), []
        for step in x.unbind(1):
            below = step
            for k, cell in enumerate(self.cells):
                h[k] = below = cell(below, h[k])
            seen.append(h[-1].clone())
        return torch.stack(seen, 1)


class SlotsInAList(nn.Module):
    """A list that begins with the state before the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(I, H)

    def forward(self, x: Tensor) -> Tensor:
        seen = [x.new_zeros(x.size(0), H)]
        for step in x.unbind(1):
            seen.append(self.cell(step, seen[-1]))
        return torch.stack(seen, 1)[:, 1:]


class BothWays(nn.Module):
    """A cell for each direction, in loops of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.there, self.back = nn.GRUCell(I, H), nn.GRUCell(I, H)

    def forward(self, x: Tensor) -> Tensor:
        forwards, backwards = [], []
        h = None
        for step in x.unbind(1):
            h = self.there(step, h)
            forwards.append(h)
        h = None
        for t in reversed(range(x.size(1))):
            h = self.back(x[:, t], h)
            backwards.insert(0, h)
        return torch.cat([torch.stack(forwards, 1), torch.stack(backwards, 1)], 2)


class DeepBothWays(nn.Module):
    """A layer both ways over what a layer both ways gave and, for those forwards, over the sequence again."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.back = BothWays(), nn.GRUCell(2 * H, H)
        self.there, self.head = nn.LSTMCell(2 * H + I, H), nn.Linear(2 * H, O)

    def forward(self, x: Tensor) -> Tensor:
        below, said = self.low(x), []
        h = c = back = torch.zeros(x.size(0), H)
        for t in range(x.size(1)):
            h, c = self.there(torch.cat([below[:, t], x[:, t]], 1), (h, c))
            said.append(h)
        other = torch.zeros(x.size(0), x.size(1), H)
        for t in reversed(range(x.size(1))):
            back = self.back(below[:, t], back)
            other[:, t] = back
        return self.head(torch.cat([torch.stack(said, 1), other], 2)) + below[:, -1:, :O]


class NormedBetween(nn.Module):
    """Two loops, the second over what the first gave, normalised by its mean and variance."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList([nn.GRUCell(I, H), nn.GRUCell(H, H)])

    def forward(self, x: Tensor) -> Tensor:
        for cell in self.cells:
            h, said = torch.zeros(x.size(0), H), []
            for t in range(x.size(1)):
                h = cell(x[:, t], h)
                said.append(h)
            y = torch.stack(said, 1)
            x = (y - y.mean(-1, keepdim=True)) / torch.sqrt(y.var(-1, keepdim=True, unbiased=False) + 1e-2)
        return x


class SaidWordFedBack(nn.Module):
    """Each step reads the word that the step before said, and whether it was the last: an integer and a truth value."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.cell, self.head = nn.Embedding(O, 2), nn.GRUCell(I + 2, H), nn.Linear(H, O)

    def forward(self, x: Tensor) -> Tensor:
        h, said = x.new_zeros(x.size(0), H), []
        word, done = torch.ones(x.size(0), dtype=torch.long), torch.zeros(x.size(0), dtype=torch.bool)
        for step in x.unbind(1):
            h = torch.where(done.unsqueeze(1), h, self.cell(torch.cat([step, self.words(word)], 1), h))
            scores = self.head(h)
            word = scores.argmax(1)
            done = done | (word == 0)
            said.append(scores)
        return torch.stack(said, 1)


class Normaliser(nn.Module):
    """What each step makes of its second state is read by the next one alone, scaled: nobody computes it at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(I, H)

    def forward(self, x: Tensor) -> Tensor:
        h, n, said = x.new_zeros(x.size(0), H), x.new_ones(x.size(0), 1), []
        for step in x.unbind(1):
            h = self.cell(step, h / n)
            n = torch.maximum(0.9 * n, h[:, :1].abs() + 0.5)
            said.append(h)
        return torch.stack(said, 1)


class ThreeStates(nn.Module):
    """Three tensors that need each other."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(I, H)

    def forward(self, x: Tensor) -> Tensor:
        h = n = m = torch.zeros(x.size(0), H)
        said = []
        for step in x.unbind(1):
            h = self.cell(step, h + n * m)
            n = torch.tanh(n + h)
            m = torch.sigmoid(m * h + n)
            said.append(h)
        return torch.stack(said, 1)


class Layered(nn.Module):
    """A list of states, one for each layer, stacked anew at every step; what x alone decides comes before the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Linear(I, H)
        self.maps = nn.ModuleList([nn.Linear(H, H) for _ in range(2)])
        self.peep = scaled(H)

    def forward(self, x: Tensor) -> Tensor:
        rows, steps, _ = x.shape
        gates = torch.sigmoid(self.gates(x.reshape(-1, I))).view(rows, steps, H)
        states = torch.zeros(2, rows, H)
        for t in range(steps):
            below, new = gates[:, t], []
            for k, one in enumerate(self.maps):
                old = states[k]
                below = torch.tanh(one(old) + self.peep * old) * below + (1 - below) * old
                new.append(below)
            states = torch.stack(new)
        return states[-1]


class KeptInSelf(nn.Module):
    """The state held as an attribute, begun anew in forward from what was learned; the mean over time as output."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.RNNCell(I, H, nonlinearity="relu")
        self.start = scaled(1, H)

    def forward(self, x: Tensor) -> Tensor:
        self.h = self.start.expand(x.size(0), -1)
        total = []
        for t in range(x.shape[1]):
            self.h = self.cell(x[:, t], self.h)
            total.append(self.h)
        return torch.stack(total, 1).mean(1)


class ByColumns(nn.Module):
    """The batch as columns."""

    def __init__(self) -> None:
        super().__init__()
        self.from_x, self.from_h, self.offset, self.out = scaled(H, I), scaled(H, H), scaled(H, 1), scaled(O, H)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(H, x.size(0))
        for t in range(x.size(1)):
            h = torch.tanh(self.from_x @ x[:, t].t() + self.from_h @ h + self.offset)
        return (self.out @ h).t()


class TokensInTheLoop(nn.Module):
    """The embedding is read step by step, and the output gate only after the state is."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.maps, self.peep = nn.Embedding(11, H), nn.Linear(H, 2 * H), scaled(H)

    def forward(self, tokens: Tensor) -> Tensor:
        c = torch.zeros(tokens.size(0), H)
        out = []
        for t in range(tokens.size(1)):
            word = self.words(tokens[:, t])
            keep, show = torch.split(self.maps(word), H, dim=1)
            keep = torch.sigmoid(keep + self.peep * c)
            c = keep * c + (1 - keep) * word
            out.append(torch.sigmoid(show) * torch.tanh(c))
        return torch.stack(out, dim=1)


class Normed(nn.Module):
    """The product with the state is normalised and scaled before anything of the step is added to it."""

    def __init__(self) -> None:
        super().__init__()
        self.from_x, self.from_h, self.norm = nn.Linear(I, 4 * H), nn.Linear(H, 4 * H), nn.LayerNorm(4 * H)
        self.gain = scaled(4 * H)

    def forward(self, x: Tensor) -> Tensor:
        h = c = torch.zeros(x.size(0), H)
        said = []
        for step in x.unbind(1):
            keep, let, show, new = (self.from_x(step) + self.gain * self.norm(self.from_h(h))).chunk(4, 1)
            c = keep.sigmoid() * c + let.sigmoid() * new.tanh()
            h = show.sigmoid() * c.tanh()
            said.append(h)
        return torch.stack(said, 1)


class LearnedOrGiven(nn.Module):
    """Loops its only child from the state that it is given, and else from one that it learned."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(I, H)
        self.h, self.c = scaled(1, H), scaled(1, H)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, c = (self.h.repeat(x.size(0), 1), self.c.repeat(x.size(0), 1)) if state is None else state
        said = []
        for step in x.unbind(1):
            h, c = self.cell(step, (h, c))
            said.append(h)
        return torch.stack(said, 1), (h, c)


class Blocks(nn.Module):
    """Residual blocks, each with a norm and a projection of the whole sequence and then a loop over it."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Linear(I, H)
        self.norms = nn.ModuleList([nn.LayerNorm(H) for _ in range(2)])
        self.maps, self.back = nn.ModuleList([nn.Linear(H, 2 * H) for _ in range(2)]), nn.Linear(H, H)

    def forward(self, x: Tensor) -> Tensor:
        x = self.front(x)
        for norm, one in zip(self.norms, self.maps, strict=True):
            keep, new = one(norm(x)).chunk(2, -1)
            h, said = torch.zeros_like(new[:, 0]), []
            for t in range(x.size(1)):
                h = torch.sigmoid(keep[:, t]) * h + new[:, t]
                said.append(h)
            said = torch.stack(said, 1)
            x = x + self.back(said * torch.rsqrt(said.pow(2).mean(-1, keepdim=True) + 1e-5))
        return x


class MatricesTimeFirst(nn.Module):
    """Layer after layer, each x @ W of all steps and then a loop; time first inside, written with matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.from_x = nn.ParameterList([scaled(I, H), scaled(H, H)])
        self.from_h = nn.ParameterList([scaled(H, H), scaled(H, H)])

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        for w, u in zip(self.from_x, self.from_h, strict=True):
            mixed, h, said = x @ w, torch.zeros(x.size(1), H), []
            for step in mixed:
                h = torch.tanh(step + h @ u)
                said.append(h)
            x = torch.stack(said)
        return x.transpose(0, 1)


class FirstOfTheHead(nn.Module):
    """Reads one step of what a head gives of all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(I, H), nn.Linear(H, O)

    def forward(self, x: Tensor) -> Tensor:
        h, said = torch.zeros(x.size(0), H), []
        for step in x.unbind(1):
            h = self.cell(step, h)
            said.append(h)
        given = self.head(torch.stack(said, 1))
        return given[:, 0] + given.mean(1)
