"""Every network of this house as a graph: which operators, and right against the float64 reference."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellgate.export.errors import UnsupportedLayerError
from cellgate.export.graph.lowering import lower
from cellgate.model import LSTMCell, LSTMLayer, RecurrentStack, SequenceModel, run_reference

pytestmark = [pytest.mark.long, pytest.mark.plain_exporters]

I, H = 4, 5
SHAPES = ((1, 1), (2, 17), (7, 2), (2, 100))


def distance_to_reference(graph: Any, network: SequenceModel, rows: int, steps: int) -> float:
    """Return the largest |graph - float64 reference| of any output."""
    tensors = [tensor.numpy() for tensor in graph.exportable.example(rows, steps)]
    if network.reads in {"mean", "max"}:
        tensors[-1] = np.abs(np.round(tensors[-1]))  # a count of steps
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    y, state = run_reference(network.describe(), weights, tensors[0], tensors[1], tensors[2:])
    actual = graph.run(*tensors)
    assert [a.shape for a in (y, *state)] == [a.shape for a in actual]
    return max(float(np.abs(a - b).max()) for a, b in zip(actual, (y, *state), strict=True))


@pytest.mark.covering("softsign-relu")
@pytest.mark.parametrize(
    ("options", "operators"),
    [
        pytest.param({}, {"LSTM": 1}, id="LSTM"),
        pytest.param({"cell": "GRUCell", "bidirectional": True, "num_layers": 2}, {"GRU": 2}, id="GRU-bidirectional"),
        pytest.param({"cell": "PeepholeLSTMCell", "bidirectional": True}, {"LSTM": 1}, id="peepholes-bidirectional"),
        pytest.param({"cell": "CoupledLSTMCell", "num_layers": 2, "reads": "last_step"}, {"LSTM": 2}, id="coupled"),
        pytest.param({"cell": "LayerNormLSTMCell", "reads": "last_step"}, {"Scan": 1}, id="normalised"),
        pytest.param(
            {"cell": "ProjectedLSTMCell", "projection_dim": 2, "bidirectional": True}, {"Scan": 2}, id="projected"
        ),
        pytest.param({"gate_activation": "hard_sigmoid", "bidirectional": True}, {"LSTM": 1}, id="hard-sigmoid"),
        pytest.param({"cell_activation": "softsign", "output_activation": "relu"}, {"LSTM": 1}, id="softsign-relu"),
        pytest.param({"hidden_dim": [5, 3], "reads": "mean", "front": "linear"}, {"LSTM": 2}, id="two-stacks-mean"),
        pytest.param({"cell": "GRUCell", "reads": "max", "front": "embedding"}, {"GRU": 1}, id="tokens-max"),
    ],
)
def test_network_of_this_house_is_right_for_batches_other_than_the_example(
    exported: Any, options: dict[str, Any], operators: dict[str, int]
) -> None:
    fixed = {"hidden_dim": H, "front_dim": 3 if "front" in options else None, **options}
    network = SequenceModel(I, output_dim=3, **fixed).eval()

    graph = exported(network)

    recurrent = {name: count for name, count in graph.operators.items() if name in {"LSTM", "GRU", "Scan", "Loop"}}
    assert operators == recurrent
    # Errors of float32 in a hundred steps of five units; a swapped gate is off by 0.1 and more.
    assert max(distance_to_reference(graph, network, rows, steps) for rows, steps in SHAPES) < 2e-5


class ThreeStates(nn.Module):
    """A cell with three states of unequal width, whose output is none of them."""

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.input_dim = input_dim
        self.linear = nn.Linear(input_dim + hidden_dim, hidden_dim)
        self.slow = nn.Linear(hidden_dim, 2)
        self.state_spec = (("h", hidden_dim), ("s", 2), ("n", 1))

    def forward(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        h = torch.tanh(self.linear(torch.cat([x, state[0]], 1)))
        s = 0.9 * state[1] + 0.1 * self.slow(h)
        return h * s[:, :1], [h, s, state[2] + 1.0]


@pytest.mark.no_cover
@pytest.mark.parametrize("reverse", [False, True])
def test_cell_with_three_states_becomes_a_scan_in_both_directions(exported: Any, reverse: bool) -> None:
    graph = exported(LSTMLayer(ThreeStates, I, H, reverse=reverse))

    assert graph.operators["Scan"] == 1
    assert graph.inputs == ["x", "lengths", "h0", "s0", "n0"]
    assert graph.outputs == ["y", "h_n", "s_n", "n_n"]
    assert graph.largest_difference() < 2e-6


@pytest.mark.no_cover
def test_directions_of_unlike_cells_become_a_scan_each(exported: Any) -> None:
    stack = RecurrentStack(LSTMCell, I, H, bidirectional=True)
    stack.layers[1].cell = LSTMCell(I, H, gate_activation="hard_sigmoid")

    graph = exported(stack)

    assert graph.operators["Scan"] == 2
    assert graph.largest_difference() < 2e-6


class Around(nn.Module):
    """A user's module around a stack of this house that stands at two places, called with a state."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = RecurrentStack(LSTMCell, I, I)
        self.same = self.layer

    def forward(self, x: Tensor) -> Tensor:
        y, state = self.layer(x)
        return self.same(y, state)[0]


@pytest.mark.no_cover
def test_stack_that_stands_at_two_places_is_lowered_once(exported: Any) -> None:
    module = Around()
    lowered, report = lower(module)

    assert lowered.layer is lowered.same
    assert [(entry.path, entry.operator) for entry in report] == [("layer.0", "LSTM")]
    assert Counter(type(child).__name__ for child in lowered.modules())["LSTMLayer"] == 0
    assert exported(module).largest_difference() < 2e-6


def test_layer_of_torch_that_was_not_exchanged_is_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="0 is a LSTM, expected"):
        lower(nn.Sequential(nn.LSTM(I, H)))


def test_all_lengths_t_and_no_padding_give_the_same_bits(exported: Any) -> None:
    graph = exported(SequenceModel(I, H, 3, reads="last_step").eval())
    x, _, h0, c0 = (tensor.numpy() for tensor in graph.exportable.example(3, 6))
    padded = np.concatenate([x, np.full_like(x, 9.0)], axis=1)
    full = np.full(3, 6, np.int32)

    for expected, actual in zip(graph.run(x, full, h0, c0), graph.run(padded, full, h0, c0), strict=True):
        assert expected.tobytes() == actual.tobytes()


@pytest.mark.covering("options2")
@pytest.mark.parametrize("options", [{}, {"cell": "LayerNormLSTMCell"}, {"cell": "GRUCell", "num_layers": 2}])
def test_chunks_with_carried_state_give_the_bits_of_one_pass(exported: Any, options: dict[str, Any]) -> None:
    graph = exported(SequenceModel(I, H, 3, **options).eval())
    x, _, *state = (tensor.numpy() for tensor in graph.exportable.example(2, 8))
    whole = graph.run(x, np.full(2, 8, np.int32), *state)

    parts = []
    for first, last in ((0, 1), (1, 6), (6, 8)):
        y, *state = graph.run(np.ascontiguousarray(x[:, first:last]), np.full(2, last - first, np.int32), *state)
        parts.append(y)

    assert whole[0].tobytes() == np.concatenate(parts, axis=1).tobytes()
    assert [tensor.tobytes() for tensor in whole[1:]] == [tensor.tobytes() for tensor in state]


@pytest.mark.no_cover
def test_row_gives_the_same_bits_alone_and_in_a_batch_through_a_scan(exported: Any) -> None:
    graph = exported(SequenceModel(I, H, 3, cell="ProjectedLSTMCell", projection_dim=2).eval())
    x, _, h0, c0 = (tensor.numpy() for tensor in graph.exportable.example(5, 9))
    lengths = np.array([9, 1, 4, 9, 6], np.int32)
    batch = graph.run(x, lengths, h0, c0)

    for row, count in enumerate(lengths):
        one = slice(row, row + 1)
        rows = [np.ascontiguousarray(a) for a in (x[one, :count], lengths[one], h0[:, one], c0[:, one])]
        y, h, c = graph.run(*rows)
        assert batch[0][one, :count].tobytes() == y.tobytes()
        assert batch[1][:, one].tobytes() == h.tobytes()
        assert batch[2][:, one].tobytes() == c.tobytes()
