"""Networks of strangers with several loops over time, or one over several states, for the tests of rolling up."""

import torch
from torch import Tensor, nn

from .looped_modules import H, I, O, scaled


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
