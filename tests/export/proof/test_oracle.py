"""The oracle: exact, independent where it can be, and its tolerances follow from dtype, width and sensitivity."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellgate.export.exportable import prepare
from cellgate.export.proof.cases import Case, make_inputs
from cellgate.export.proof.oracle import (
    ACTIVATION_ULPS,
    SAFETY,
    Oracle,
    run_row_alone,
    run_without_padding,
    sum_length,
    tolerate,
)
from cellgate.export.proof.reference_view import reference_view
from cellgate.model import LSTMCell, LSTMLayer, SequenceModel
from cellgate.model.stack import RecurrentStack
from cellgate.model.torch_weights import stack_from_torch

_RAGGED = Case(id="oracle", rows=5, steps=6, ragged=True, state="random")


class _Foreign(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0])


class _OwnCell(nn.Module):
    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(input_dim + hidden_dim, hidden_dim)
        self.state_spec = (("h", hidden_dim),)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.linear(torch.cat([x, state], 1)))
        return h, h


class _Scaled(nn.Module):
    """With a parameter that is a single number."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.scale = nn.GRU(3, 5, batch_first=True), nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.gru(x)[0]


class _Squashed(SequenceModel):
    def forward(self, x, lengths=None, state=None):
        y, final = super().forward(x, lengths, state)
        return torch.tanh(y), final


def _with_another(part, made):
    network = SequenceModel(3, 4, 2, front="linear", front_dim=5)
    setattr(network, part, made)
    return network


def _normed():
    network = SequenceModel(3, 4, 2)
    nn.utils.parametrizations.weight_norm(network.stacks[0].layers[0].cell.hidden_layer)
    return network


def _hooked():
    network = SequenceModel(3, 4, 2)
    network.register_forward_hook(lambda _module, _given, found: (2.0 * found[0], found[1]))
    return network


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(7)


def test_both_oracles_agree_on_a_network_that_both_know():
    foreign = prepare(_Foreign())
    house = SequenceModel(3, 5, 2)
    house.stacks[0] = stack_from_torch(foreign.scriptable.lstm)
    house.head = foreign.scriptable.head
    known = prepare(house)
    inputs = make_inputs(_RAGGED, known.signature)

    by_torch, by_numpy = Oracle(foreign).outputs(inputs), Oracle(known).outputs(inputs)

    assert Oracle(known).name == "NumPy float64, from the equations"
    assert Oracle(foreign).name == "the module in float64, each row unpadded"
    assert list(by_torch) == list(by_numpy) == ["y", "h_n", "c_n"]
    for name, array in by_numpy.items():
        assert np.abs(by_torch[name] - array).max() < 1e-14


def test_rows_of_equal_length_together_are_the_rows_alone():
    exportable = prepare(SequenceModel(3, 5, 2))
    network = copy.deepcopy(exportable.network).double()
    inputs = {
        name: array.astype(np.float64) if array.dtype == np.float32 else array
        for name, array in make_inputs(_RAGGED, exportable.signature).items()
    }

    together = run_without_padding(network, exportable.signature, inputs)

    for row in range(_RAGGED.rows):
        n = int(inputs["lengths"][row])
        y, h, c = run_row_alone(network, exportable.signature, inputs, row)
        assert np.abs(together[0][row, :n] - y[0]).max() < 1e-14
        assert not together[0][row, n:].any()
        assert np.abs(together[1][:, [row]] - h).max() < 1e-14
        assert np.abs(together[2][:, [row]] - c).max() < 1e-14


@pytest.mark.parametrize(
    ("network", "known"),
    [
        pytest.param(lambda: SequenceModel(3, 4, 2, cell="GRUCell"), True, id="house"),
        pytest.param(lambda: SequenceModel(3, 4, 2, cell=_OwnCell), False, id="own-cell"),
        pytest.param(lambda: RecurrentStack(LSTMCell, 3, 4, num_layers=2, bidirectional=True), True, id="stack"),
        pytest.param(lambda: RecurrentStack(_OwnCell, 3, 4), False, id="stack-of-own-cells"),
        pytest.param(lambda: LSTMLayer(LSTMCell, 3, 4), True, id="layer"),
        pytest.param(lambda: LSTMLayer(LSTMCell, 3, 4, reverse=True), False, id="reversed-layer"),
        pytest.param(_Foreign, False, id="foreign"),
        pytest.param(_Scaled, False, id="a-number-for-a-weight"),
        pytest.param(lambda: _Squashed(3, 4, 2), False, id="another-forward"),
        pytest.param(
            lambda: _with_another("head", nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))),
            False,
            id="another-head",
        ),
        pytest.param(
            lambda: _with_another("front", nn.Sequential(nn.Linear(3, 5), nn.Tanh())), False, id="another-front"
        ),
        pytest.param(_normed, True, id="weight-norm"),
        pytest.param(_hooked, False, id="hook"),
    ],
)
def test_numpy_judges_what_it_knows_and_torch_in_double_the_rest(network, known):
    exportable = prepare(network())

    assert (reference_view(exportable.network) is not None) is known
    assert Oracle(exportable).name.startswith("NumPy") is known
    inputs = make_inputs(_RAGGED, exportable.signature)
    with torch.no_grad():
        state = [torch.from_numpy(inputs[pair.input]) for pair in exportable.signature.state]
        y, _ = exportable.network(torch.from_numpy(inputs["x"]), torch.from_numpy(inputs["lengths"]), state)
    truth = Oracle(exportable).truth(inputs)
    assert np.abs(truth.outputs["y"] - y.numpy()).max() <= truth.tolerances["y"]
    assert not truth.sensitive


def test_truth_is_the_same_each_time():
    exportable = prepare(SequenceModel(3, 4, 2))
    inputs = make_inputs(_RAGGED, exportable.signature)

    assert Oracle(exportable).truth(inputs).tolerances == Oracle(exportable).truth(inputs).tolerances


def test_tolerance_is_a_multiple_of_the_movement_and_a_few_roundings_near_one():
    truth = tolerate({"y": np.array([0.25, -3.0]), "h_n": np.array([0.1])}, {"y": 1e-6, "h_n": 0.0})

    assert truth.tolerances["y"] == SAFETY * 1e-6 + ACTIVATION_ULPS * 2.0**-22
    assert truth.tolerances["h_n"] == ACTIVATION_ULPS * 2.0**-24
    assert not truth.sensitive


def test_a_movement_above_a_hundredth_of_the_output_is_sensitive():
    assert tolerate({"y": np.array([1.0])}, {"y": 0.0101 / SAFETY}).sensitive == {"y"}
    assert tolerate({"y": np.array([1.0])}, {"y": 0.009 / SAFETY}).sensitive == set()


def test_sums_are_as_long_as_the_widest_weight_and_its_state():
    assert sum_length(SequenceModel(3, 40, 2)) == 80
    assert sum_length(SequenceModel(100, 4, 2)) == 200
    assert sum_length(nn.Identity()) == 2


def test_wider_networks_are_allowed_more():
    def tolerance(width: int) -> float:
        exportable = prepare(SequenceModel(width, width, 2))
        return Oracle(exportable).truth(make_inputs(_RAGGED, exportable.signature)).tolerances["c_n"]

    assert tolerance(2) < tolerance(200)


def test_chaos_is_sensitive_and_a_usual_network_after_as_many_steps_is_not():
    case = Case(id="chaos", rows=1, steps=100)

    def sensitive(factor: float) -> frozenset[str]:
        network = SequenceModel(12, 48)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(factor)
        exportable = prepare(network)
        return Oracle(exportable).truth(make_inputs(case, exportable.signature)).sensitive

    assert sensitive(1.0) == set()
    assert "y" in sensitive(16.0)
