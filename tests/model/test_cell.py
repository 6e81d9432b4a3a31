"""The cell protocol: activations by name, the declared state, and the shapes that a state must have."""

import math

import pytest
import torch
from torch import nn

from cellgate.model import CellError
from cellgate.model.cell import ACTIVATIONS, activate, check_activations, check_state, state_spec_of

_POINTS = (-30.0, -3.5, -0.25, 0.0, 0.75, 2.0, 30.0)
_WRITTEN_OUT = {
    "sigmoid": lambda v: 1 / (1 + math.exp(-v)),
    "tanh": math.tanh,
    "relu": lambda v: max(v, 0.0),
    "hard_sigmoid": lambda v: min(max(v / 6 + 0.5, 0.0), 1.0),
    "softsign": lambda v: v / (1 + abs(v)),
}


class _Declares(nn.Module):
    def __init__(self, spec: object) -> None:
        super().__init__()
        self.state_spec = spec


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_is_the_function_of_its_name(name):
    actual = activate(name, torch.tensor(_POINTS, dtype=torch.float64))

    assert actual.tolist() == pytest.approx([_WRITTEN_OUT[name](v) for v in _POINTS], rel=1e-14, abs=1e-14)


def test_unknown_activation_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"'swish' is not known, expected one of sigmoid, tanh, relu"):
        check_activations("sigmoid", "swish")


def test_declared_state_is_returned_with_names_and_widths():
    assert state_spec_of(_Declares([["h", 3], ("c", 5)])) == (("h", 3), ("c", 5))


def test_cell_without_declared_state_is_refused_with_an_example():
    with pytest.raises(CellError, match=r"Linear declares no state_spec, expected for example"):
        state_spec_of(nn.Linear(1, 1))


@pytest.mark.parametrize(
    "spec",
    [(), (("h", 3), ("h", 4)), (("h", 0),), (("h",),), ((3, 3),), (("h", 2.0),), ("h", 3), 3],
    ids=["empty", "same name", "no width", "no pair", "number for name", "width no integer", "one pair bare", "number"],
)
def test_malformed_declared_state_is_refused(spec):
    with pytest.raises(CellError, match="expected \\(name, width\\) pairs"):
        state_spec_of(_Declares(spec))


def test_state_of_the_right_shapes_passes():
    check_state([torch.zeros(2, 3), torch.zeros(2, 1)], [[2, 3], [2, 1]])


def test_state_with_a_tensor_too_few_is_refused():
    with pytest.raises(ValueError, match="state has 1 tensors, expected 2"):
        check_state([torch.zeros(2, 3)], [[2, 3], [2, 3]])


def test_state_that_would_be_broadcast_is_refused():
    with pytest.raises(ValueError, match=r"state tensor 0 is \[1, 3\], expected \[2, 3\]"):
        check_state([torch.zeros(1, 3)], [[2, 3]])
