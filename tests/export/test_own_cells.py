"""A user's own cell that does not keep the cell protocol is told in one sentence before anything is made of it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cellgate.export.errors import ExportError, SourceError
from cellgate.export.exportable import prepare
from cellgate.export.graph.onnx_graph import export_onnx
from cellgate.model import LSTMLayer, SequenceModel


class Cell(nn.Module):
    """As a user writes one: what forward does is the test's."""

    def __init__(self, input_dim: int, hidden_dim: int, returns: Callable[..., Any], states: int = 2) -> None:
        super().__init__()
        self.joint = nn.Linear(input_dim + hidden_dim, hidden_dim)
        self.state_spec = tuple((name, hidden_dim) for name in "hcd"[:states])
        self.returns = returns

    def forward(self, x: Tensor, state: Any) -> Any:
        return self.returns(self, x, state)


class TakesBothApart(Cell):
    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> Any:  # type: ignore[override]
        return h, (h, c)


def step(cell: Cell, x: Tensor, state: Any) -> Any:
    h, c = state
    h = torch.tanh(cell.joint(torch.cat([x, h], 1)) + c)
    return h, (h, c)


@pytest.mark.parametrize(
    ("returns", "states", "said"),
    [
        pytest.param(step, 1, r"Cell.forward failed \(ValueError: .*forward\(x, h\) .*, h\)$", id="one-state"),
        pytest.param(step, 3, r"failed \(ValueError: .*\), expected forward\(x, state = \[h, c, d\]\)", id="three"),
        pytest.param(lambda cell, x, _: cell.joint(x), 2, r"failed \(RuntimeError: mat1 and mat2 .*\)", id="shapes"),
        pytest.param(lambda _, x, state: (state[0], *state), 2, r"a tuple of Tensor, Tensor, Tensor, exp", id="flat"),
        pytest.param(lambda _, x, state: (x, (state[0], x)), 2, r"output \[3, 2\] .*, expected \[B, 4\]", id="wide"),
        pytest.param(lambda _, x, state: (state[0], (state[0], x)), 2, r"c as \[3, 2\], expected \[B, 4\]", id="c"),
    ],
)
def test_what_is_wrong_with_a_cell_is_said_of_the_cell(returns: Callable[..., Any], states: int, said: str) -> None:
    network = SequenceModel(2, 4, 3, cell=Cell, returns=returns, states=states)

    with pytest.raises(SourceError, match=said) as caught:
        prepare(network)

    assert "\n" not in str(caught.value)


def test_a_layer_around_such_a_cell_is_told_as_well() -> None:
    with pytest.raises(SourceError, match=r"TakesBothApart.forward failed .*expected forward\(x, state = \(h, c\)\)"):
        prepare(LSTMLayer(TakesBothApart, 2, 4, returns=step), input_dim=2)


def test_a_cell_that_keeps_the_protocol_is_taken_and_left_as_it_was(exported: Any) -> None:
    network = SequenceModel(2, 4, 3, cell=Cell, returns=step)

    assert exported(network).largest_difference() < 2e-6

    assert not network.stacks[0].layers[0].cell._forward_hooks
    assert not network.stacks[0].layers[0].cell._forward_pre_hooks


def test_what_fails_outside_a_cell_is_not_said_of_the_cell() -> None:
    network = SequenceModel(2, 4, 3, cell=Cell, returns=step)
    network.head = nn.Linear(7, 3)

    with pytest.raises(ExportError, match="could not be captured as a graph") as caught:
        export_onnx(prepare(network))

    assert "Cell" not in str(caught.value)
