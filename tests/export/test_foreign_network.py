"""Modules that somebody else wrote: found, exchanged, exported, and right against the module as it came."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cellgate.export.errors import ExportError, FrozenAxisError, SignatureError, UnsupportedLayerError
from cellgate.export.exportable import prepare
from cellgate.export.foreign_network import ForeignNetwork, find_roles

pytestmark = pytest.mark.long

I, H = 4, 6


class Net(nn.Module):
    """nn.LSTM or nn.GRU, and a forward that tests give."""

    def __init__(self, forward: Callable[..., Any], kind: type[nn.RNNBase] = nn.LSTM, **options: Any) -> None:
        super().__init__()
        self.rnn = kind(I, H, **{"batch_first": True, **options})
        width = H * (2 if options.get("bidirectional") else 1)
        self.head = nn.Linear(options.get("proj_size") or width, 3)
        self.call = forward

    def forward(self, x: Tensor) -> Any:
        return self.call(self, x)


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


def assert_equal_to_module_row_by_row(
    module: nn.Module, exported: Any, *, steps: int = 9, time_first: bool = False
) -> None:
    """Each row of a padded batch gives what the module as it came gives for that row alone."""
    tensors = list(exported.exportable.example(3, steps))
    for k, spec in enumerate(exported.exportable.signature.inputs):
        if spec.name[0] in "hc":
            tensors[k] = torch.zeros_like(tensors[k])
    actual = exported.run(*(tensor.numpy() for tensor in tensors))[0]
    lengths = tensors[1].tolist() if exported.exportable.signature.lengths else [steps] * 3
    for row, count in enumerate(lengths):
        x = tensors[0][row : row + 1, :count]
        with torch.no_grad():
            expected = module.eval()(x.transpose(0, 1) if time_first else x)
        expected = expected[0] if isinstance(expected, tuple) else expected
        expected = expected.transpose(0, 1) if time_first and expected.dim() == 3 else expected
        found = actual[row : row + 1, :count] if actual.ndim == 3 else actual[row : row + 1]
        assert float(np.abs(found - expected.reshape(found.shape).numpy()).max()) < 2e-6


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


def state_pair(self: Any, x: Tensor, state: Any = None) -> Any:
    return self.rnn(x, state)


def state_apart(self: Any, x: Tensor, c0: Tensor, h0: Tensor) -> Any:
    y, (h, c) = self.rnn(x, (h0, c0))
    return y, h, c


def state_of_rows(self: Any, x: Tensor, h: Tensor, c: Tensor) -> Any:
    return self.rnn(x, (h.unsqueeze(0), c.unsqueeze(0)))


def state_ignored(self: Any, x: Tensor, hidden: Any = None) -> Any:
    zeros = torch.zeros(1, x.size(0), H)
    return self.rnn(x, (zeros, zeros))


@pytest.mark.parametrize("forward", [state_pair, state_apart, state_of_rows, state_ignored])
def test_state_argument_in_any_form_carries_the_state(exported: Any, forward: Callable[..., Any]) -> None:
    class Stateful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(I, H, batch_first=True)

    Stateful.forward = forward
    module = Stateful()

    graph = exported(module)

    assert graph.inputs == ["x", "lengths", "h0", "c0"]
    tensors = graph.exportable.example(2, 6)
    full = torch.full((2,), 6, dtype=torch.int32)
    with torch.no_grad():
        y, (h, c) = module.rnn(tensors[0], (tensors[2], tensors[3]))
    actual = graph.run(tensors[0].numpy(), full.numpy(), tensors[2].numpy(), tensors[3].numpy())
    for expected, found in zip((y, h, c), actual, strict=True):
        assert float(np.abs(expected.numpy() - found).max()) < 2e-6


def state_scaled(self: Any, x: Tensor, hidden: Tensor | None = None) -> Tensor:
    return self.rnn(x, None if hidden is None else 2.0 * hidden)[0]


def test_state_that_the_module_changes_on_the_way_is_not_carried() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(I, H, batch_first=True)

    Scaled.forward = state_scaled

    assert not ForeignNetwork(Scaled()).carries_state


class Packed(nn.Module):
    def __init__(self, *, enforce_sorted: bool, reads: str) -> None:
        super().__init__()
        self.rnn = nn.LSTM(I, H, batch_first=True, bidirectional=True)
        self.enforce_sorted = enforce_sorted
        self.reads = reads

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=self.enforce_sorted)
        y, (h, _) = self.rnn(packed)
        if self.reads == "state":
            return torch.cat([h[-2], h[-1]], 1)
        y, _ = pad_packed_sequence(y, batch_first=True, total_length=x.size(1))
        return y.sum(1) / lengths.unsqueeze(1) if self.reads == "mean" else y


@pytest.mark.parametrize(("enforce_sorted", "reads"), [(True, "state"), (False, "steps"), (False, "mean")])
def test_packing_module_takes_lengths_and_is_right_for_ragged_rows(
    exported: Any, enforce_sorted: bool, reads: str
) -> None:
    module = Packed(enforce_sorted=enforce_sorted, reads=reads)

    graph = exported(module)

    x, lengths = torch.randn(3, 9, I), torch.tensor([9, 5, 2])
    zeros = np.zeros((2, 3, H), np.float32)
    with torch.no_grad():
        expected = module(x, lengths)
    actual = graph.run(x.numpy(), lengths.to(torch.int32).numpy(), zeros, zeros)[0]
    assert float(np.abs(expected.numpy() - actual).max()) < 2e-6
    assert graph.largest_difference() < 2e-6


def keyword_only(self: Any, *, x: Tensor) -> Tensor:
    return self.rnn(x)[0]


def positional_only(self: Any, x: Tensor, /) -> Tensor:
    return self.rnn(x)[0]


def flag(self: Any, x: Tensor, verbose: bool = False) -> Tensor:
    return self.rnn(x)[0]


def make(forward: Callable[..., Any]) -> nn.Module:
    """Return a module around nn.LSTM with this forward."""

    class Made(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(I, H, batch_first=True)
            self.score = nn.Linear(H, 1)

    Made.forward = forward
    return Made()


@pytest.mark.parametrize("forward", [keyword_only, positional_only, flag])
def test_arguments_are_passed_as_the_module_takes_them(exported: Any, forward: Callable[..., Any]) -> None:
    assert exported(make(forward)).largest_difference([(2, 3)]) < 2e-6


@pytest.mark.parametrize(
    ("forward", "complaint"),
    [
        pytest.param(lambda self: self.rnn, "has no argument for the sequence", id="no-arguments"),
        pytest.param(lambda self, **given: self.rnn(given["x"]), "has no argument for the sequence", id="kwargs"),
        pytest.param(lambda self, x, scale: self.rnn(x)[0] * scale, "needs 'scale'", id="unknown-argument"),
        pytest.param(lambda self, x: {"y": self.rnn(x)[0]}, "returns dict, expected a tensor", id="dict"),
        pytest.param(lambda self, x: None, "returns NoneType, expected a tensor", id="none"),
        pytest.param(lambda self, x: ([], self.rnn(x)), "returns a tuple of list, expected a tensor", id="tuple"),
        pytest.param(lambda self, x: self.rnn(x)[0].sum(), "returns shape", id="scalar"),
        pytest.param(lambda self, x: self.rnn(x)[0].flatten(1), "returns shape", id="time-in-the-width"),
        pytest.param(lambda self, x: self.rnn(x[0, 0])[0], "runs for no input width", id="one-step"),
    ],
)
def test_forward_that_cannot_be_understood_is_refused(forward: Callable[..., Any], complaint: str) -> None:
    with pytest.raises(SignatureError, match=complaint) as caught:
        prepare(make(forward))

    assert "\n" not in str(caught.value)


def test_only_argument_told_as_something_else_is_named() -> None:
    with pytest.raises(SignatureError, match="no argument left beside --argument state=x for the sequence"):
        prepare(make(lambda self, x: self.rnn(x)), told={"state": "x"})


def test_state_needed_by_several_layers_is_refused() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.GRU(I, H, batch_first=True), nn.GRU(H, H, batch_first=True)

        def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
            return self.second(self.first(x, hidden)[0], hidden)[0]

    with pytest.raises(SignatureError, match="needs a state for 2 recurrent layers"):
        prepare(Two())


def test_told_names_take_their_parts() -> None:
    def forward(self: Any, count: Tensor, signal: Tensor) -> Tensor:
        return self.rnn(signal)[0] + 0 * count.reshape(-1, 1, 1)

    network = prepare(make(forward), {"sequence": "signal", "lengths": "count"}).network

    assert network.roles.sequence == "signal"
    assert network.roles.lengths == "count"


@pytest.mark.parametrize(("told", "complaint"), [({"lengths": "n"}, "no argument 'n'"), ({"mask": "x"}, "no part")])
def test_told_name_that_is_no_argument_is_refused(told: dict[str, str], complaint: str) -> None:
    with pytest.raises(SignatureError, match=complaint):
        find_roles(make(flag), told)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_other_dtype_than_float32_is_refused(dtype: str) -> None:
    module = make(flag).to(getattr(torch, dtype))

    with pytest.raises(ExportError, match=f"rnn.weight_ih_l0 is {dtype}, expected float32"):
        prepare(module)


def test_module_without_recurrent_layer_is_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="Sequential has no recurrent layer"):
        prepare(nn.Sequential(nn.Linear(I, H), nn.ReLU()))


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


def loop_over_steps(self: Any, x: Tensor) -> Tensor:
    total = 0
    for y in self.rnn(x)[0].unbind(1):
        total = total + torch.tanh(self.score(y))
    return total


def table_of_steps(self: Any, x: Tensor) -> Tensor:
    return self.rnn(x)[0] * torch.ones(x.size(1)).tolist()[0] + torch.zeros(int(x.size(1)), H)


@pytest.mark.parametrize("forward", [loop_over_steps, table_of_steps])
def test_code_that_freezes_the_length_is_refused_and_named(exported: Any, forward: Callable[..., Any]) -> None:
    with pytest.raises(FrozenAxisError, match=r"freezes the time.*test_foreign_network\.py:\d+ \(") as caught:
        exported(make(forward))

    assert "\n" not in str(caught.value)


def squeeze_of_a_wide_axis(self: Any, x: Tensor) -> Tensor:
    return self.rnn(x)[0].squeeze(-1)


def test_graph_that_the_exporter_makes_wrong_is_refused(exported: Any) -> None:
    with pytest.raises(ExportError, match="a graph that ONNX does not allow") as caught:
        exported(make(squeeze_of_a_wide_axis))

    assert "\n" not in str(caught.value)


def test_longest_length_that_the_code_allows_is_named(exported: Any) -> None:
    class Limited(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(I, H, batch_first=True)
            self.place = nn.Parameter(torch.randn(50, I))

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x + self.place[: x.size(1)])[0]

    with pytest.raises(FrozenAxisError, match="allows the time at most 50 at test_foreign_network"):
        exported(Limited())


def branch_on_data(self: Any, x: Tensor) -> Tensor:
    y = self.rnn(x)[0]
    return y * 2.0 if bool(y.sum() > 0) else y


def test_branch_on_data_is_refused_in_one_sentence(exported: Any) -> None:
    with pytest.raises(ExportError, match="could not be captured") as caught:
        exported(make(branch_on_data))

    assert "\n" not in str(caught.value)


def attention(self: Any, x: Tensor) -> Tensor:
    y = self.rnn(x)[0]
    return (torch.softmax(self.score(y), 1) * y).sum(1)


def test_attention_over_time_is_exported_without_lengths(exported: Any) -> None:
    module = make(attention)

    graph = exported(module)

    assert graph.exportable.signature.lengths is None
    assert_equal_to_module_row_by_row(module, graph)
