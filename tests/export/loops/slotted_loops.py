"""Networks of strangers whose loop over time fills slots of an output, for the tests of rolling up."""

import torch
from torch import Tensor, nn

from .looped_modules import H, I, scaled


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
