"""Modules that somebody else wrote: found, exchanged, exported, and right against the module as it came."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellgate.export.errors import UnsupportedLayerError
from cellgate.export.exportable import prepare

from .foreign_modules import H, I, Net, assert_equal_to_module_row_by_row, make

pytestmark = pytest.mark.long


def last_step(net: Net, x: Tensor) -> Tensor:
    return net.head(net.rnn(x)[0][:, -1])


def last_state(net: Net, x: Tensor) -> Tensor:
    state = net.rnn(x)[1]
    return net.head((state if isinstance(state, Tensor) else state[0])[-1])


def every_step(net: Net, x: Tensor) -> Tensor:
    return net.head(net.rnn(x)[0])


def mean(net: Net, x: Tensor) -> Tensor:
    return net.head(net.rnn(x)[0].mean(1))


def highest(net: Net, x: Tensor) -> Tensor:
    return net.head(net.rnn(x)[0].amax(1))


def from_zeros(net: Net, x: Tensor) -> Tensor:
    net.rnn.flatten_parameters()
    zeros = torch.zeros(net.rnn.num_layers, x.size(0), net.rnn.hidden_size)
    return net.head(net.rnn(x, (zeros, zeros))[0][:, -1])


def from_zeros_beside_a_weight(net: Net, x: Tensor) -> Tensor:
    zeros = net.rnn.weight_hh_l0.new_zeros(1, x.size(0), H)
    return net.head(net.rnn(x, (zeros, zeros))[0])


def with_a_weight_of_its_layer(net: Net, x: Tensor) -> Tensor:
    return net.rnn(x)[0] + x @ net.rnn.weight_ih_l0[:H].T


@pytest.mark.covering("mean-over-time")
@pytest.mark.parametrize(
    ("forward", "options", "operators", "takes_lengths"),
    [
        pytest.param(last_step, {}, {"LSTM": 1}, True, id="last-step"),
        pytest.param(last_state, {"num_layers": 2, "dropout": 0.5}, {"LSTM": 2}, True, id="h_n-of-two-layers"),
        pytest.param(last_state, {"kind": nn.GRU, "bias": False}, {"GRU": 1}, True, id="gru-h_n-without-bias"),
        pytest.param(every_step, {"bidirectional": True}, {"LSTM": 1}, True, id="every-step-bidirectional"),
        pytest.param(last_step, {"bidirectional": True, "kind": nn.GRU}, {"GRU": 1}, True, id="last-bidirectional-gru"),
        pytest.param(every_step, {"proj_size": 2}, {"Scan": 1}, True, id="projection"),
        pytest.param(mean, {}, {"LSTM": 1}, False, id="mean-over-time"),
        pytest.param(highest, {}, {"LSTM": 1}, True, id="maximum-over-time"),
        pytest.param(from_zeros, {}, {"LSTM": 1}, True, id="zeros-made-inside"),
        pytest.param(from_zeros_beside_a_weight, {}, {"LSTM": 1}, True, id="zeros-beside-a-weight"),
        pytest.param(with_a_weight_of_its_layer, {}, {"LSTM": 1}, True, id="a-weight-read"),
    ],
)
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported:UserWarning")  # torch's own word
def test_module_around_a_torch_layer_exports_with_time_free(
    exported: Any, forward: Callable[..., Any], options: dict[str, Any], operators: dict[str, int], takes_lengths: bool
) -> None:
    module = Net(forward, **options)

    graph = exported(module)

    assert operators.items() <= graph.operators.items()
    assert takes_lengths == (graph.exportable.signature.lengths is not None)
    assert len(graph.exportable.signature.state) == (1 if options.get("kind") is nn.GRU else 2)
    assert_equal_to_module_row_by_row(module, graph)
    assert graph.largest_difference() < 2e-6


def test_original_is_neither_changed_nor_taken_out_of_training() -> None:
    module = Net(last_step, num_layers=2, dropout=0.5).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    prepare(module)

    assert module.training
    assert module.rnn.training
    assert isinstance(module.rnn, nn.LSTM)
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


class TimeFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(I, H)
        self.head = nn.Linear(H, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.rnn(x)
        return self.head(y), h


def test_time_first_module_is_exported_batch_first(exported: Any) -> None:
    module = TimeFirst()

    graph = exported(module)

    assert graph.exportable.signature.outputs[0].shape == ("B", "T", 3)
    assert_equal_to_module_row_by_row(module, graph, time_first=True)


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, I)
        self.rnn = nn.LSTM(I, H, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.rnn(self.embedding(tokens))[0]


def test_embedding_front_makes_the_sequence_tokens(exported: Any) -> None:
    module = Tokens()

    graph = exported(module)

    assert graph.inputs == ["tokens", "lengths", "h0", "c0"]
    assert graph.exportable.signature.vocabulary_size == 11
    assert_equal_to_module_row_by_row(module, graph)


class TwoTables(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.large, self.small = nn.Embedding(5000, I), nn.Embedding(4999, I)
        self.rnn = nn.LSTM(I, H, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.rnn(self.large(tokens) + self.small(tokens))[0]


def test_tokens_are_as_many_as_the_smallest_table_has() -> None:
    assert prepare(TwoTables()).signature.vocabulary_size == 4999


class Convolved(nn.Module):
    """A front that looks to both sides, so that padding reaches into the real steps."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Conv1d(I, 5, 3, padding=1)
        self.norm = nn.BatchNorm1d(5)
        self.rnn = nn.LSTM(5, H, batch_first=True)
        self.head = nn.Linear(H, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.front(x.transpose(1, 2)))).transpose(1, 2)
        return self.head(self.rnn(x)[0])[..., 0]


def test_front_that_looks_ahead_gets_no_lengths(exported: Any) -> None:
    module = Convolved()
    module(torch.randn(8, 5, I))  # so that the normalisation has statistics, in training mode

    graph = exported(module)

    assert graph.exportable.signature.lengths is None
    assert graph.exportable.signature.outputs[0].shape == ("B", "T", 1)
    assert_equal_to_module_row_by_row(module, graph)
    assert graph.largest_difference() < 2e-6


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LSTM(I, H, batch_first=True, bidirectional=True)
        self.between = nn.Sequential(nn.LayerNorm(2 * H), nn.Dropout(0.5))
        self.inner = nn.ModuleDict({"second": nn.GRU(2 * H, 3, batch_first=True)})
        self.unused = nn.LSTM(I, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner["second"](self.between(self.first(x)[0]))[0]


def test_layers_one_after_the_other_have_a_state_each(exported: Any) -> None:
    module = TwoLayers()

    graph = exported(module)

    assert graph.inputs == ["x", "lengths", "h0", "c0", "h0_1"]
    assert graph.outputs == ["y", "h_n", "c_n", "h_n_1"]
    assert_equal_to_module_row_by_row(module, graph)
    assert graph.largest_difference() < 2e-6


class LearnedStart(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(I, H, batch_first=True)
        self.start = nn.Parameter(torch.randn(1, 1, H))

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x, self.start.expand(1, x.size(0), H).contiguous())[0]


def test_module_with_a_learned_start_carries_no_state(exported: Any) -> None:
    module = LearnedStart()

    graph = exported(module)

    assert graph.inputs == ["x", "lengths"]
    assert_equal_to_module_row_by_row(module, graph)


class CalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(H, H, batch_first=True)
        self.same = self.rnn

    def forward(self, x: Tensor) -> Tensor:
        return self.same(self.rnn(x)[0])[0]


def test_layer_that_runs_twice_carries_no_state(exported: Any) -> None:
    module = CalledTwice()

    graph = exported(module, input_dim=H)

    assert graph.inputs == ["x", "lengths"]
    assert graph.operators["GRU"] == 2
    assert_equal_to_module_row_by_row(module, graph)


@pytest.mark.covering("two-both-ways")
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="one"),
        pytest.param(
            {"num_layers": 2, "bidirectional": True, "nonlinearity": "relu", "bias": False}, id="two-both-ways"
        ),
    ],
)
def test_plain_recurrent_layer_of_torch_is_exported_as_a_scan(exported: Any, options: dict[str, Any]) -> None:
    module = Net(every_step, nn.RNN, **options)

    graph = exported(module)

    assert graph.operators["Scan"] == options.get("num_layers", 1) * (2 if options else 1)
    assert_equal_to_module_row_by_row(module, graph)
    assert graph.largest_difference() < 2e-6


class Dropped(nn.Module):
    """Drops weights as AWD-LSTM does: a weight of the layer is made anew at each call."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.LSTM(I, H, batch_first=True)
        self.raw = self.inner.weight_hh_l0
        del self.inner._parameters["weight_hh_l0"]

    def forward(self, x: Tensor) -> Tensor:
        self.inner.weight_hh_l0 = nn.functional.dropout(self.raw, 0.5, self.training)
        return self.inner(x)[0]


def test_layer_without_its_weight_is_refused_and_the_remedy_works(exported: Any) -> None:
    module = Dropped().eval()
    x = torch.randn(2, 5, I)
    expected = module(x)

    with pytest.raises(UnsupportedLayerError, match="inner is a LSTM whose weight_hh_l0 is no parameter of it"):
        prepare(Dropped())

    layer = nn.LSTM(I, H, batch_first=True)
    layer.load_state_dict({**module.inner.state_dict(), "weight_hh_l0": module.raw})
    full, zeros = np.array([5, 5], np.int32), np.zeros((1, 2, H), np.float32)
    actual = exported(layer).run(x.numpy(), full, zeros, zeros)[0]
    assert float(np.abs(expected.detach().numpy() - actual).max()) < 2e-6


def attention(self: Any, x: Tensor) -> Tensor:
    y = self.rnn(x)[0]
    return (torch.softmax(self.score(y), 1) * y).sum(1)


def test_attention_over_time_is_exported_without_lengths(exported: Any) -> None:
    module = make(attention)

    graph = exported(module)

    assert graph.exportable.signature.lengths is None
    assert_equal_to_module_row_by_row(module, graph)
