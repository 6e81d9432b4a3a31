"""The drift of a state: its size, signs that stay, alike in NumPy and torch; long memory passes, its defects do not."""

import copy
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellgate.export.exportable import Exportable, prepare
from cellgate.export.proof.cases import Case, make_inputs
from cellgate.export.proof.compare import measure
from cellgate.export.proof.oracle import Oracle, Truth
from cellgate.export.proof.rounding import Drift, DriftingCell
from cellgate.export.proof.torch_legs import EagerLeg
from cellgate.model import LSTMCell, SequenceModel, run_reference

_SIZE = 2.0**-10  # large enough to see, a power of two so that sums with it are exact


def _drift(seed: int = 0, size: float = _SIZE) -> Drift:
    return Drift(np.random.default_rng(seed), size)


class _ThreeTensors(nn.Module):
    """A cell whose state is three tensors of different widths and whose output is none of them."""

    state_spec = (("a", 2), ("b", 3), ("c", 1))

    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        a, b, c = state
        return x + 1.0, (a + x[:, :2], b * 0.5, c)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(13)


def test_a_nudge_is_a_share_of_the_state_and_a_share_of_one():
    factor, summand = _drift().nudge(0, 64)

    assert set(factor) == {1 - _SIZE, 1 + _SIZE}
    assert set(summand) == {-_SIZE, _SIZE}
    (nudged,) = _drift()((np.full((3, 64), 4.0),))
    assert np.array_equal(nudged, np.tile(4.0 * factor + summand, (3, 1)))


def test_signs_of_a_unit_stay_for_all_steps_and_rows_and_differ_between_tensors():
    drift = _drift()
    first = drift((np.zeros((2, 40)), np.zeros((2, 40))))

    again = drift((np.zeros((5, 40)), np.zeros((5, 40))))

    for before, after in zip(first, again, strict=True):
        assert np.array_equal(after, np.tile(before[0], (5, 1)))
    assert not np.array_equal(first[0], first[1])


def test_signs_follow_from_the_generator():
    state = (np.zeros((1, 40)),)

    assert np.array_equal(_drift(1)(state)[0], _drift(1)(state)[0])
    assert not np.array_equal(_drift(1)(state)[0], _drift(2)(state)[0])


@pytest.mark.parametrize("widths", [(4,), (4, 4), (2, 3, 1)])
def test_each_tensor_of_a_state_is_nudged_by_its_place_and_width(widths):
    state = tuple(np.random.default_rng(k).normal(size=(3, width)) for k, width in enumerate(widths))
    drift = _drift()

    nudged = drift(state)

    assert [tensor.shape for tensor in nudged] == [(3, width) for width in widths]
    for place, (before, after) in enumerate(zip(state, nudged, strict=True)):
        factor, summand = drift.nudge(place, before.shape[1])
        assert np.array_equal(after, before * factor + summand)


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        pytest.param("GRUCell", {}, id="one-tensor"),
        pytest.param("LSTMCell", {}, id="two-tensors"),
        pytest.param("ProjectedLSTMCell", {"projection_dim": 2}, id="two-widths"),
    ],
)
def test_numpy_and_torch_drift_alike(cell, options):
    network = SequenceModel(3, 5, cell=cell, **options).double()
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    x = np.random.default_rng(3).normal(size=(2, 20, 3))
    expected, expected_state = run_reference(network.describe(), weights, x, after_step=_drift())

    drifting = copy.deepcopy(network)
    layer = drifting.stacks[0].layers[0]
    layer.cell = DriftingCell(layer.cell, _drift())
    with torch.no_grad():
        y, state = drifting(torch.from_numpy(x))
        still, _ = network(torch.from_numpy(x))

    np.testing.assert_allclose(y.numpy(), expected, rtol=0, atol=1e-14)
    for found, due in zip(state, expected_state, strict=True):
        np.testing.assert_allclose(found.numpy(), due, rtol=0, atol=1e-14)
    assert (y - still).abs().max() > _SIZE / 4


def test_an_output_that_is_a_state_is_nudged_with_it():
    cell = LSTMCell(3, 5).double()
    x, state = torch.randn(2, 3).double(), (torch.randn(2, 5).double(), torch.randn(2, 5).double())
    drift = _drift()

    output, (h, c) = DriftingCell(cell, drift)(x, state)

    assert output is h
    _, still = cell(x, state)
    for place, (before, after) in enumerate(zip(still, (h, c), strict=True)):
        factor, summand = drift.nudge(place, 5)
        assert torch.equal(after, before * torch.from_numpy(factor) + torch.from_numpy(summand))


def test_an_output_that_is_no_state_stays_and_the_state_keeps_its_kind():
    state = (torch.ones(2, 2).double(), torch.ones(2, 3).double(), torch.ones(2, 1).double())
    x = torch.zeros(2, 3).double()

    output, new = DriftingCell(_ThreeTensors(), _drift())(x, state)

    assert torch.equal(output, x + 1.0)
    assert isinstance(new, tuple)
    assert [tensor.shape[1] for tensor in new] == [2, 3, 1]
    assert all((after - before).abs().max() > 0 for before, after in zip(state, new, strict=True))


def test_a_pair_that_has_names_is_taken_as_a_pair_and_a_list_stays_a_list():
    class Named(NamedTuple):
        h: Tensor
        c: Tensor

    class Wrapped(nn.Module):
        def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
            return x, type(state)(*state) if isinstance(state, tuple) else state

    h, c = torch.zeros(2, 5).double(), torch.zeros(2, 5).double()
    cell = DriftingCell(Wrapped(), _drift())

    _, pair = cell(h, Named(h, c))
    _, several = cell(h, [h, c, h])

    assert type(pair) is tuple
    assert len(pair) == 2
    assert isinstance(several, list)
    assert len(several) == 3


def test_a_state_of_one_tensor_stays_one_tensor():
    cell = nn.GRUCell(3, 5).double()

    class Single(nn.Module):
        def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            h = cell(x, state)
            return h, h

    output, new = DriftingCell(Single(), _drift())(torch.zeros(2, 3).double(), torch.zeros(2, 5).double())

    assert isinstance(new, Tensor)
    assert output is new


def _long_memory(forget: float, cell: str = "LSTMCell") -> SequenceModel:
    network = SequenceModel(4, 8, 3, cell=cell)
    with torch.no_grad():
        network.get_parameter("stacks.0.layers.0.cell.input_layer.bias")[8:16] += forget
    return network


def _shares(
    network: nn.Module, exportable: Exportable, inputs: dict[str, np.ndarray], truth: Truth
) -> dict[str, float]:
    found = EagerLeg(prepare(network)).run(inputs)
    assert list(found) == [spec.name for spec in exportable.signature.outputs]
    return {
        name: measure(found[name], expected, truth.tolerances[name]).max_abs / truth.tolerances[name]
        for name, expected in truth.outputs.items()
    }


@pytest.mark.no_cover
@pytest.mark.slow
@pytest.mark.parametrize("forget", [12.0, 17.0])
def test_ten_thousand_steps_of_long_memory_are_bounded_and_right(forget):
    network = _long_memory(forget)
    exportable = prepare(network)
    inputs = make_inputs(Case(id="long", rows=1, steps=10_000), exportable.signature)

    truth = Oracle(exportable).truth(inputs)

    assert truth.sensitive == set()
    assert max(_shares(network, exportable, inputs, truth).values()) < 0.5


@pytest.mark.no_cover
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "row", "error"),
    [
        pytest.param("hidden_layer.weight", 24, 1e-3, id="recurrent-weight-of-what-is-let-in"),
        pytest.param("input_layer.bias", 8, -1.0, id="forget-bias"),
    ],
)
def test_one_weight_wrong_in_long_memory_is_found(name, row, error):
    network = _long_memory(12.0)
    exportable = prepare(network)
    inputs = make_inputs(Case(id="long", rows=1, steps=10_000), exportable.signature)
    wrong = copy.deepcopy(network)
    with torch.no_grad():
        wrong.get_parameter(f"stacks.0.layers.0.cell.{name}")[row] += error

    shares = _shares(wrong, exportable, inputs, Oracle(exportable).truth(inputs))

    assert max(shares.values()) > 1.0
