"""The forward of modules that somebody else wrote: what its arguments and answers are taken for, what is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cellgate.export.errors import ExportError, FrozenAxisError, SignatureError, UnsupportedLayerError
from cellgate.export.exportable import prepare
from cellgate.export.foreign.call_roles import find_roles

from .foreign_modules import H, I, make

pytestmark = pytest.mark.long


def keyword_only(self: Any, *, x: Tensor) -> Tensor:
    return self.rnn(x)[0]


def positional_only(self: Any, x: Tensor, /) -> Tensor:
    return self.rnn(x)[0]


def flag(self: Any, x: Tensor, verbose: bool = False) -> Tensor:
    return self.rnn(x)[0]


@pytest.mark.no_cover
@pytest.mark.parametrize("forward", [keyword_only, positional_only, flag])
def test_arguments_are_passed_as_the_module_takes_them(exported: Any, forward: Callable[..., Any]) -> None:
    assert exported(make(forward)).largest_difference([(2, 3)]) < 2e-6


@pytest.mark.parametrize(
    ("forward", "complaint"),
    [
        pytest.param(lambda self: self.rnn, "has no argument for the sequence", id="no-arguments"),
        pytest.param(lambda self, **given: self.rnn(given["x"]), "has no argument for the sequence", id="kwargs"),
        pytest.param(lambda self, x, scale: self.rnn(x)[0] * scale, "needs 'scale'", id="unknown-argument"),
        pytest.param(lambda self, x: {1, 2}, "returns set, expected a tensor", id="set"),
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


@pytest.mark.parametrize(("told", "complaint"), [({"lengths": "n"}, "no argument 'n'"), ({"weights": "x"}, "no part")])
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


def loop_over_steps(self: Any, x: Tensor) -> Tensor:
    total = 0
    for y in self.rnn(x)[0].unbind(1):
        total = total + torch.tanh(self.score(y))
    return total


def loop_that_counts_its_steps(self: Any, x: Tensor) -> Tensor:
    total = 0
    for t, y in enumerate(self.rnn(x)[0].unbind(1)):
        total = total + t * torch.tanh(self.score(y))
    return total


def loop_that_squares_its_steps(self: Any, x: Tensor) -> Tensor:
    total = 0
    for t, y in enumerate(self.rnn(x)[0].unbind(1)):
        total = total + t * t * torch.tanh(self.score(y))
    return total


def table_of_steps(self: Any, x: Tensor) -> Tensor:
    return self.rnn(x)[0] * torch.ones(x.size(1)).tolist()[0] + torch.zeros(int(x.size(1)), H)


@pytest.mark.no_cover
@pytest.mark.parametrize("forward", [loop_over_steps, loop_that_counts_its_steps])
def test_loop_over_what_a_layer_gave_is_exported(exported: Any, forward: Callable[..., Any]) -> None:
    module = make(forward)

    graph = exported(module)

    x = graph.exportable.example(2, 23)[0]
    with torch.no_grad():
        assert torch.allclose(graph.exportable.network(x)[0], module(x), atol=2e-6)
    assert graph.largest_difference() < 4e-6


@pytest.mark.parametrize("forward", [loop_that_squares_its_steps, table_of_steps])
def test_code_that_freezes_the_length_is_refused_and_named(exported: Any, forward: Callable[..., Any]) -> None:
    with pytest.raises(FrozenAxisError, match=r"freezes the time.*test_foreign_forward\.py:\d+ \(") as caught:
        exported(make(forward))

    assert "\n" not in str(caught.value)


def squeeze_of_a_wide_axis(self: Any, x: Tensor) -> Tensor:
    return self.rnn(x)[0].squeeze(-1)


def squeeze_in_place(self: Any, x: Tensor) -> Tensor:
    return self.rnn(x)[0].squeeze_(-1)


def test_graph_that_the_exporter_makes_wrong_is_refused(exported: Any) -> None:
    with pytest.raises(ExportError, match="a graph that ONNX does not allow") as caught:
        exported(make(squeeze_in_place))

    assert "\n" not in str(caught.value)


def test_squeeze_of_an_axis_that_is_none_of_one_is_left_out(exported: Any) -> None:
    assert exported(make(squeeze_of_a_wide_axis)).largest_difference() < 2e-6


def test_longest_length_is_named_where_it_leaves_few(exported: Any) -> None:
    class Limited(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(I, H, batch_first=True)
            self.place = nn.Parameter(torch.randn(20, I))

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x + self.place[: x.size(1)])[0]

    with pytest.raises(FrozenAxisError, match="allows the time at most 20 at test_foreign_forward"):
        exported(Limited())


def branch_on_data(self: Any, x: Tensor) -> Tensor:
    y = self.rnn(x)[0]
    return y * 2.0 if bool(y.sum() > 0) else y


def test_branch_on_data_is_refused_in_one_sentence(exported: Any) -> None:
    with pytest.raises(ExportError, match="could not be captured") as caught:
        exported(make(branch_on_data))

    assert "\n" not in str(caught.value)
