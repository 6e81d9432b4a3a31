"""Modules with a loop over time that do something with their weights, or lay their steps out, in a way of their own."""

import torch
from torch import Tensor, nn

from .looped_modules import H, I, scaled


class ProjectedLast(nn.Module):
    """A cell whose state is a projection of what it gave, in both directions at once, and the last of it alone."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList([nn.LSTMCell(I, H), nn.LSTMCell(I, H)])
        self.projections = nn.ModuleList([nn.Linear(H, H), nn.Linear(H, H)])

    def forward(self, x: Tensor) -> Tensor:
        h, c, g, d = (torch.zeros(x.size(0), H) for _ in range(4))
        for t in range(x.size(1)):
            h, c = self.cells[0](x[:, t], (h, c))
            g, d = self.cells[1](x[:, x.size(1) - t - 1], (g, d))
            h, g = self.projections[0](h), self.projections[1](g)
        return torch.cat([h, g], 1)


class SentToTheGpu(nn.Module):
    """As code of a time when everybody wrote .cuda()."""

    def __init__(self) -> None:
        super().__init__()
        self.from_x, self.from_h = nn.Linear(I, H), nn.Linear(H, H, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h, seen = torch.zeros(x.size(0), H).cuda(), []
        for step in x.to("cuda").unbind(1):
            h = torch.tanh(self.from_x(step) + self.from_h(h))
            seen.append(h)
        return torch.stack(seen, 1)


class KeptWithinBounds(nn.Module):
    """An IndRNN that clamps its weights in forward, once before the loop and once in each step, in two ways."""

    def __init__(self) -> None:
        super().__init__()
        self.from_x = nn.Linear(I, H)
        self.kept, self.clamped = nn.Parameter(torch.randn(H) * 2), nn.Parameter(torch.randn(H) * 2)

    def forward(self, x: Tensor) -> Tensor:
        self.kept.data.copy_(torch.clamp(self.kept.data, min=-0.9, max=0.9))
        h, seen = torch.zeros(x.size(0), H), []
        for t in range(x.size(1)):
            self.clamped.data.clamp_(-0.7, 0.7)
            h = torch.relu(self.from_x(x[:, t]) + self.kept * self.clamped * h)
            seen.append(h)
        return torch.stack(seen, 1)


class WeightsInADict(nn.Module):
    """A liquid cell that looks its weights up in a dict, and takes two sums over one function of its state."""

    def __init__(self) -> None:
        super().__init__()
        made = {"steep": torch.rand(H, H) + 1, "middle": torch.rand(H, H), "weight": torch.rand(H, H)}
        made["leak"] = torch.rand(H)
        self.from_x, self.signs = nn.Linear(I, H), torch.randn(H, H).sign()
        self.named = {name: nn.Parameter(tensor) for name, tensor in made.items()}
        for name, parameter in self.named.items():
            self.register_parameter(name, parameter)

    def forward(self, x: Tensor) -> Tensor:
        v, seen = torch.zeros(x.size(0), H), []
        for t in range(x.size(1)):
            open_ = self.named["weight"] * torch.sigmoid(self.named["steep"] * (v.unsqueeze(-1) - self.named["middle"]))
            above = self.named["leak"] * v + (open_ * self.signs).sum(1) + self.from_x(x[:, t])
            v = above / (self.named["leak"] + open_.sum(1) + torch.tensor(1.5))
            seen.append(v)
        return torch.stack(seen, 1)


class SqueezedByName(nn.Module):
    """Steps first, and an axis squeezed that is the batch: of one row alone it would be gone."""

    def __init__(self) -> None:
        super().__init__()
        self.from_x, self.from_h = scaled(I, H), scaled(H, H)

    def forward(self, x: Tensor) -> Tensor:
        h, seen = torch.zeros(x.size(1), H), []
        for t in range(x.size(0)):
            h = torch.tanh(x[t] @ self.from_x + h @ self.from_h)
            seen.append(h)
        return torch.stack(seen, 0).squeeze(1)


class KeepsItsState(nn.Module):
    """Goes on where its last call ended, and keeps that in itself."""

    def __init__(self) -> None:
        super().__init__()
        self.from_x, self.from_h = scaled(I, H), scaled(H, H)
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        h, seen = torch.zeros(x.size(0), H) if self.kept is None else self.kept, []
        for step in x.unbind(1):
            h = torch.tanh(step @ self.from_x + h @ self.from_h)
            seen.append(h)
        self.kept = h
        return torch.stack(seen, 1)


class WidthOfNoLayer(nn.Module):
    """Steps first, and one matrix for step and state together, which tells the width of neither."""

    def __init__(self) -> None:
        super().__init__()
        self.joint = scaled(I + H, 2 * H)

    def forward(self, x: Tensor) -> Tensor:
        h, seen = torch.zeros(x.size(1), H), []
        for t in range(x.size(0)):
            keep, new = (torch.cat([x[t], h], 1) @ self.joint).chunk(2, 1)
            h = torch.lerp(h, torch.tanh(new), torch.sigmoid(keep))
            seen.append(h)
        return torch.stack(seen, 0)
