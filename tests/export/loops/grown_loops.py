"""Loops that lay their steps out by growing a tensor, and that add them up."""

import torch
from torch import Tensor, nn

I, H = 4, 6


class GrownFromNothing(nn.Module):
    """The first step as it is, then one behind the other."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(I, H)

    def forward(self, x: Tensor) -> Tensor:
        h, grown = x.new_zeros(x.size(0), H), None
        for step in x.unbind(1):
            h = self.cell(step, h)
            grown = h[:, None] if grown is None else torch.cat([grown, h[:, None]], 1)
        assert grown is not None
        return grown


class GrownFromEmpty(GrownFromNothing):
    def forward(self, x: Tensor) -> Tensor:
        h, grown = x.new_zeros(x.size(0), H), x.new_zeros(x.size(0), 0, H)
        for step in x.unbind(1):
            h = self.cell(step, h)
            grown = torch.cat([grown, h.unsqueeze(1)], dim=1)
        return grown


class GrownTimeFirst(GrownFromNothing):
    """From an empty tensor of one axis."""

    def forward(self, x: Tensor) -> Tensor:
        h, grown = x.new_zeros(x.size(1), H), torch.tensor([])
        for step in x:
            h = self.cell(step, h)
            grown = torch.cat((grown, h.unsqueeze(0)))
        return grown


class GrownBackwards(GrownFromNothing):
    def forward(self, x: Tensor) -> Tensor:
        h, grown = x.new_zeros(x.size(0), H), x.new_zeros(x.size(0), 0, H)
        for t in reversed(range(x.size(1))):
            h = self.cell(x[:, t], h)
            grown = torch.cat([h[:, None], grown], 1)
        return grown


class SummedList(GrownFromNothing):
    """``sum`` begins with the number 0."""

    def forward(self, x: Tensor) -> Tensor:
        h, seen = x.new_zeros(x.size(0), H), []
        for step in x.unbind(1):
            h = self.cell(step, h)
            seen.append(h)
        return sum(seen) / 10  # type: ignore[return-value]


class CountedList(GrownFromNothing):
    """Truth values, added up to a whole number."""

    def forward(self, x: Tensor) -> Tensor:
        h, seen = x.new_zeros(x.size(0), H), []
        for step in x.unbind(1):
            h = self.cell(step, h)
            seen.append(h > 0)
        return sum(seen).float() / 10  # type: ignore[union-attr]
