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


class TruthsCounted(nn.Module):
    """An integer goes round by the truth values of the sequence alone, and weighs what another state becomes."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(I, H), nn.Linear(H, 2)

    def forward(self, x: Tensor) -> Tensor:
        h, n = x.new_zeros(x.size(0), H), torch.ones(x.size(0), 1, dtype=torch.int64)
        outputs = []
        for step in x.unbind(1):
            h = self.cell(step, h) * (1 + n % 3) / 4
            n = (n * 2 + (step[:, :1] > 0)) % 5
            outputs.append(self.head(h))
        return torch.stack(outputs, 1)


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
