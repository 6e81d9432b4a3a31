"""Loops whose first step begins with a number, with nothing, or leaves out what zeros would give."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellgate.export.errors import UnsupportedLayerError
from cellgate.export.exportable import prepare

from .looped_modules import H, I, scaled

pytestmark = pytest.mark.long


class Started(nn.Module):
    """Two maps of the step, one of the state, and a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.new, self.gate, self.cell = nn.Linear(I, H), nn.Linear(I, H), nn.LSTMCell(I, H)
        self.back, self.biased = scaled(H, H), nn.Linear(H, H)

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class FromZero(Started):
    def forward(self, x: Tensor) -> Tensor:
        h: Any = 0.0
        for step in x.unbind(1):
            h = torch.tanh(self.new(step) + h * 0.9)
        return h  # type: ignore[no-any-return]


class GatedFromZero(Started):
    """The number is a factor beside a tensor; what it becomes is given out at once."""

    def forward(self, x: Tensor) -> Tensor:
        h: Any = 0
        said = []
        for step in x.unbind(1):
            keep = torch.sigmoid(self.gate(step))
            h = keep * torch.tanh(self.new(step)) + (1 - keep) * h
            said.append(h)
        return torch.stack(said, 1)


class FromOne(Started):
    def forward(self, x: Tensor) -> Tensor:
        h: Any = 1.0
        said = []
        for step in x.unbind(1):
            h = torch.tanh(h * 0.5 + self.new(step))
            said.append(h)
        return torch.stack(said, 1)


class CellWithoutState(Started):
    def forward(self, x: Tensor) -> Tensor:
        h, c = self.cell(x[:, 0])
        said = [h]
        for t in range(1, x.size(1)):
            h, c = self.cell(x[:, t], (h, c))
            said.append(h)
        return torch.stack(said, 1)


class ZerosWhereNone(Started):
    def forward(self, x: Tensor) -> Tensor:
        state, said = None, []
        for step in x.unbind(1):
            if state is None:
                state = torch.zeros(x.size(0), H), torch.zeros_like(self.new(step))
            state = self.cell(step, state)
            said.append(state[0])
        return torch.stack(said, 1)


class ProductLeftOut(Started):
    """Backwards."""

    def forward(self, x: Tensor) -> Tensor:
        h, said = None, []
        for step in reversed(x.unbind(1)):
            mixed = self.new(step)
            h = torch.tanh(mixed if h is None else mixed + h @ self.back)
            said.append(h)
        return torch.stack(said[::-1], 1)


class WrittenFromNone(Started):
    """An LSTM without a state in its first step: no product, and no forget gate."""

    def __init__(self) -> None:
        super().__init__()
        self.from_x, self.from_h = nn.Linear(I, 4 * H), nn.Linear(H, 4 * H, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = c = None
        said = []
        for step in x.unbind(1):
            mixed = self.from_x(step) if h is None else self.from_x(step) + self.from_h(h)
            i, f, g, o = mixed.chunk(4, 1)
            new = i.sigmoid() * g.tanh()
            c = new if c is None else f.sigmoid() * c + new
            h = o.sigmoid() * c.tanh()
            said.append(h)
        return torch.stack(said, 1)


@pytest.mark.covering("one")
@pytest.mark.parametrize(
    ("make", "operator", "streams"),
    [
        pytest.param(FromZero, "Scan", True, id="number"),
        pytest.param(GatedFromZero, "Scan", True, id="number-as-a-factor"),
        pytest.param(FromOne, "Scan", False, id="one"),
        pytest.param(CellWithoutState, "LSTM", True, id="cell-without-state"),
        pytest.param(ZerosWhereNone, "LSTM", True, id="zeros-where-none"),
        pytest.param(ProductLeftOut, "Scan", True, id="product-left-out"),
        pytest.param(WrittenFromNone, "LSTM", True, id="written-from-none"),
    ],
)
def test_first_step_that_does_what_the_others_do_is_exported(
    exported: Any, make: Callable[[], nn.Module], operator: str, streams: bool
) -> None:
    module = make().eval()

    graph = exported(module)

    assert [layer.operator for layer in graph.exportable.layers] == [operator]
    assert bool(graph.exportable.signature.state) == streams
    x, _, *state = graph.exportable.example(4, 19)
    lengths = np.array([19, 8, 1, 2], np.int32)
    y, *_ = graph.run(x.numpy(), lengths, *(np.zeros_like(tensor.numpy()) for tensor in state))
    for row, count in enumerate(lengths):
        with torch.no_grad():
            expected = module(x[row : row + 1, :count]).numpy()
        found = y[row, :count] if y.ndim == 3 else y[row]
        assert float(np.abs(expected[0] - found).max()) < 2e-6


class BiasLeftOut(Started):
    """From zeros, the first step would add a bias."""

    def forward(self, x: Tensor) -> Tensor:
        h, said = None, []
        for step in x.unbind(1):
            mixed = self.new(step)
            h = torch.tanh(mixed if h is None else mixed + self.biased(h))
            said.append(h)
        return torch.stack(said, 1)


class UngatedFirst(Started):
    """From zeros, the first step would have a gate before it."""

    def forward(self, x: Tensor) -> Tensor:
        h, said = None, []
        for step in x.unbind(1):
            keep, new = torch.sigmoid(self.gate(step)), torch.tanh(self.new(step))
            h = new if h is None else (1 - keep) * h + keep * new
            said.append(h)
        return torch.stack(said, 1)


class GreatestSoFar(Started):
    """The first step is what the others would make of no number: that a zero is one, shows on runs."""

    def forward(self, x: Tensor) -> Tensor:
        h, said = None, []
        for step in x.unbind(1):
            h = self.new(step) if h is None else torch.maximum(h, self.new(step))
            said.append(h)
        return torch.stack(said, 1)


@pytest.mark.parametrize("make", [BiasLeftOut, UngatedFirst, GreatestSoFar])
def test_first_step_that_zeros_would_not_give_is_refused(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(UnsupportedLayerError, match=r"does not do the same in every step; let .* the first from zeros"):
        prepare(make())
