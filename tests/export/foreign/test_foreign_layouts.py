"""How people hand sequences to their modules and get answers back: found, exported, and right against the module."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cellgate.export.exportable import prepare
from cellgate.export.foreign.call_layout import InputLayout, OutputLayout
from cellgate.export.foreign.network import ForeignNetwork

from .ragged_rows import H, I, assert_right_for_ragged_rows, module_with

pytestmark = [pytest.mark.plain_exporters, pytest.mark.no_cover]


def flat(self: Any, x: Tensor) -> Tensor:
    return self.score(self.rnn(x)[0].reshape(-1, H))


def flat_scores(self: Any, x: Tensor) -> Tensor:
    return self.score(self.rnn(x)[0]).view(-1)


def squeezed_steps(self: Any, x: Tensor) -> Tensor:
    return self.score(self.rnn(x)[0]).squeeze()


def squeezed_last(self: Any, x: Tensor) -> Tensor:
    return self.score(self.rnn(x)[0][:, -1]).squeeze()


def nothing_to_squeeze(self: Any, x: Tensor) -> Tensor:
    return self.rnn(x)[1][0][-1].squeeze()


def squeezed_row(self: Any, x: Tensor) -> Tensor:
    return self.score(self.rnn(x)[0][:, -1]).squeeze(0).squeeze(dim=-1)


def classes_before_steps(self: Any, x: Tensor) -> Tensor:
    return self.rnn(x)[0].permute(0, 2, 1)


def steps_before_rows(self: Any, x: Tensor) -> Tensor:
    return self.rnn(x)[0].permute(1, 0, 2)


def state_as_it_is(self: Any, x: Tensor) -> Tensor:
    return self.rnn(x)[1][0]


def last_with_its_axis(self: Any, x: Tensor) -> Tensor:
    return self.rnn(x)[0][:, -1:]


@pytest.mark.parametrize(
    ("forward", "shape"),
    [
        pytest.param(flat, ("B", "T", 1), id="rows-and-steps-flat"),
        pytest.param(flat_scores, ("B", "T", 1), id="all-flat"),
        pytest.param(squeezed_steps, ("B", "T", 1), id="squeezed-steps"),
        pytest.param(squeezed_last, ("B", 1), id="squeezed-last"),
        pytest.param(nothing_to_squeeze, ("B", H), id="nothing-to-squeeze"),
        pytest.param(squeezed_row, ("B", 1), id="squeezed-row"),
        pytest.param(classes_before_steps, ("B", "T", H), id="classes-before-steps"),
        pytest.param(steps_before_rows, ("B", "T", H), id="steps-before-rows"),
        pytest.param(state_as_it_is, ("B", H), id="state-as-it-is"),
        pytest.param(last_with_its_axis, ("B", H), id="last-with-its-axis"),
    ],
)
def test_answer_in_any_layout_comes_out_batch_first(
    exported: Any, forward: Callable[..., Any], shape: tuple[Any, ...]
) -> None:
    module = module_with(forward, batch_first=True)

    def alone(x: Tensor) -> Tensor:
        y = module(x.unsqueeze(0))
        return y.transpose(1, 2) if forward is classes_before_steps else y

    graph = exported(module)

    assert graph.exportable.signature.outputs[0].shape == shape
    assert_right_for_ragged_rows(graph, alone)
    assert graph.largest_difference([(1, 1), (1, 4), (4, 1), (3, 8)]) < 2e-6


class LanguageModel(nn.Module):
    """Time first, a state that must be given, and an answer with rows and steps on one axis."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Embedding(13, I)
        self.rnn = nn.LSTM(I, H, 2)
        self.head = nn.Linear(H, 13)

    def forward(self, words: Tensor, hidden: tuple[Tensor, Tensor]) -> tuple[Tensor, Any]:
        y, hidden = self.rnn(self.front(words), hidden)
        return functional.log_softmax(self.head(y).view(-1, 13), dim=1), hidden


def test_time_first_module_that_needs_its_state_is_exported(exported: Any) -> None:
    module = LanguageModel().eval()
    zeros = torch.zeros(2, 1, H)

    graph = exported(module)

    assert graph.inputs == ["tokens", "lengths", "h0", "c0"]
    assert_right_for_ragged_rows(graph, lambda x: module(x.unsqueeze(1), (zeros, zeros))[0])
    assert graph.largest_difference() < 2e-6


def test_output_of_a_time_first_layer_can_be_viewed(exported: Any) -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        y = self.rnn(x)[0]
        return self.score(y.view(y.size(0) * y.size(1), H)).view(y.size(0), y.size(1), 1)

    module = module_with(forward)

    graph = exported(module)

    assert graph.exportable.network.input_layout == InputLayout("TBI")
    assert_right_for_ragged_rows(graph, lambda x: module(x.unsqueeze(1)))


class ChannelsFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Conv1d(5, I, 3, padding=1)  # as wide as the shorter probe is long, which must not deceive
        self.rnn = nn.GRU(I, H, batch_first=True)

    def forward(self, signal: Tensor) -> Tensor:
        return self.rnn(self.front(signal).transpose(1, 2))[0][:, -1]


def test_channels_before_time_are_exported_batch_first(exported: Any) -> None:
    module = ChannelsFirst().eval()

    graph = exported(module)

    assert graph.exportable.signature.inputs[0].shape == ("B", "T", 5)
    assert_right_for_ragged_rows(graph, lambda x: module(x.t().unsqueeze(0)))


def test_numbers_without_an_axis_for_features_have_one_feature(exported: Any) -> None:
    module = module_with(lambda self, x: self.rnn(x.t().unsqueeze(-1))[0][-1], input_size=1)

    graph = exported(module)

    assert graph.exportable.signature.inputs[0].shape == ("B", "T", 1)
    assert graph.exportable.network.input_layout == InputLayout("BT")
    assert_right_for_ragged_rows(graph, lambda x: module(x.t()))


def test_network_that_takes_nothing_but_its_sequence_is_exported(exported: Any) -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        y, state = self.rnn(x)
        return self.rnn(x[:, -1:], state)[0][:, 0] + y.mean(1)

    module = module_with(forward, batch_first=True)

    graph = exported(module)

    assert graph.inputs == ["x"]
    assert_right_for_ragged_rows(graph, lambda x: module(x.unsqueeze(0)))


def test_length_taken_with_len_stays_free(exported: Any) -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        zeros = torch.zeros(1, len(x), H)
        return self.rnn(x, (zeros, zeros))[0]

    module = module_with(forward, batch_first=True)

    assert exported(module).largest_difference() < 2e-6
    assert "len" not in globals()


class EachChannel(nn.Module):
    """Runs one layer on each channel by itself, as forecasts of many series do: its rows are B * I."""

    def __init__(self, axes: str) -> None:
        super().__init__()
        self.rnn, self.head, self.axes = nn.GRU(1, H, batch_first=True), nn.Linear(H, 2), axes

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2) if self.axes == "BTI" else x
        rows, channels, steps = x.shape
        _, h = self.rnn(x.reshape(rows * channels, steps, 1))
        return self.head(h[-1]).view(rows, channels, 2)


@pytest.mark.parametrize("axes", ["BTI", "BIT"])
def test_channels_may_be_rows_of_the_layer(exported: Any, axes: str) -> None:
    module = EachChannel(axes).eval()

    graph = exported(module, input_dim=5)

    assert graph.exportable.network.input_layout == InputLayout(axes)
    assert graph.inputs == ["x"]
    assert_right_for_ragged_rows(graph, lambda x: module((x if axes == "BTI" else x.t()).unsqueeze(0)))


@pytest.mark.parametrize(
    ("axes", "shape"), [("BTI", (2, 3, 1)), ("TBI", (3, 2, 1)), ("BIT", (2, 1, 3)), ("BT", (2, 3)), ("TB", (3, 2))]
)
def test_sequence_is_handed_over_in_the_axes_of_the_layout(axes: str, shape: tuple[int, ...]) -> None:
    x = torch.arange(6.0).view(2, 3, 1)

    handed = InputLayout(axes).hand_over(x)

    assert handed.shape == shape
    assert torch.equal(handed.movedim(axes.index("B"), 0).flatten(), x.flatten())


@pytest.mark.parametrize("axes", ["BTO", "TBO", "BOT", "BO", "1BO", "B1O"])
def test_answer_is_laid_out_as_the_house_does(axes: str) -> None:
    sizes = {"B": 2, "T": 3, "O": 4, "1": 1}
    wanted = "BTO" if "T" in axes else "BO"
    house = torch.arange(24.0)[: 2 * 4 * (3 if "T" in axes else 1)].view([sizes[axis] for axis in wanted])
    theirs = house.permute([wanted.index(axis) for axis in axes if axis != "1"]).reshape([sizes[axis] for axis in axes])

    assert torch.equal(OutputLayout(axes, (4,)).to_house(theirs, 2, 3), house)


def test_layouts_that_fit_before_are_not_given_up_for_new_ones() -> None:
    network = ForeignNetwork(module_with(lambda self, x: self.rnn(x)[0], batch_first=True))

    assert network.input_layout == InputLayout("BTI")
    assert network.output_layout == OutputLayout("BTO", (H,))


@pytest.mark.parametrize("names", ["h_state, c_state", "hx, cx", "h_t, c_t", "hidden, cell"])
def test_state_goes_by_many_names(names: str) -> None:
    first, second = names.split(", ")
    scope: dict[str, Any] = {}
    exec(f"def forward(self, x, {first}, {second}): return self.rnn(x, ({first}, {second}))", scope)

    assert prepare(module_with(scope["forward"], batch_first=True)).signature.state[1].input == "c0"
