"""What a stranger's module returns: its answer in whatever holds it, states that are kept, and the rest by name."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellgate.export.errors import AnswerError, SignatureError, SourceError
from cellgate.export.exportable import prepare
from cellgate.export.foreign.network import ForeignNetwork
from cellgate.model import SequenceModel

I, H = 4, 6


class Pair(NamedTuple):
    logits: Tensor
    state: tuple[Tensor, Tensor]


@dataclass
class Said:
    loss: Tensor | None
    logits: Tensor
    hidden: tuple[Tensor, Tensor] | None = None


class ModelOutput(OrderedDict):
    """As libraries have it: a dict whose entries are attributes too, in the order of its fields, without None."""

    def __init__(self, **given: Any) -> None:
        super().__init__({name: value for name, value in given.items() if value is not None})
        self.__dict__.update(given)


class Net(nn.Module):
    """Returns what a test makes of its layer's output and state."""

    def __init__(self, returns: Callable[..., Any]) -> None:
        super().__init__()
        self.rnn = nn.LSTM(I, H, batch_first=True)
        self.returns = returns

    def forward(self, x: Tensor) -> Any:
        return self.returns(*self.rnn(x))


class Loop(nn.Module):
    """A loop in forward; returns what a test makes of its outputs, list of them and last state."""

    def __init__(self, returns: Callable[..., Any]) -> None:
        super().__init__()
        self.cell = nn.GRUCell(I, H)
        self.returns = returns

    def forward(self, x: Tensor) -> Any:
        h, seen = torch.zeros(x.size(0), H), []
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
            seen.append(h)
        return self.returns(torch.stack(seen, 1), seen, h)


@pytest.mark.covering("loop-dataclass")
@pytest.mark.parametrize(
    ("net", "names"),
    [
        pytest.param(Net(lambda y, _: y), (), id="a-tensor"),
        pytest.param(Net(lambda y, state: (y, state)), (), id="state"),
        pytest.param(Net(Pair), (), id="named-tuple"),
        pytest.param(Net(lambda y, state: (y, state[0].squeeze(0))), (), id="half-a-state"),
        pytest.param(Net(lambda y, state: (y, y.mean(1), state, {"max": y.amax(1)})), ("1", "3.max"), id="two-more"),
        pytest.param(Net(lambda y, _: (y, y.argmax(-1))), ("1",), id="whole-numbers"),
        pytest.param(Loop(lambda y, _, h: (y, h, y.mean(1))), ("2",), id="loop"),
        pytest.param(
            Net(lambda y, state: {"y": y, "mean": y.mean(1), "state": state, "max": y.amax(1)}),
            ("mean", "max"),
            id="dict",
        ),
        pytest.param(Net(lambda y, state: {0: {"y": y, "mean": y.mean(1)}, "h": state[0]}), ("0.mean",), id="nested"),
        pytest.param(Net(lambda y, state: Said(None, y, state)), (), id="dataclass"),
        pytest.param(Net(lambda y, state: Said(y, y.exp())), ("logits",), id="dataclass-of-two"),
        pytest.param(
            Net(lambda y, state: ModelOutput(loss=None, logits=y, hidden=state, mean=y.mean(1))),
            ("mean",),
            id="model-output",
        ),
        pytest.param(Loop(lambda y, _, h: {"y": y, "h": h, "mean": y.mean(1)}), ("mean",), id="loop-dict"),
        pytest.param(Loop(lambda y, _, h: Said(None, y, (h, y.mean(1)))), ("hidden.1",), id="loop-dataclass"),
    ],
)
def test_what_is_left_out_is_named(net: nn.Module, names: tuple[str, ...]) -> None:
    network = prepare(net).network

    assert isinstance(network, ForeignNetwork)
    assert network.left_out == names
    assert network.returned == ()


@pytest.mark.covering("bare-layer")
@pytest.mark.parametrize(
    ("net", "name", "chosen"),
    [
        pytest.param(Net(lambda y, _: {"a": y, "b": y.exp()}), "b", lambda given: given["b"], id="key"),
        pytest.param(Net(lambda y, _: {"a": y, 7: y.exp()}), "7", lambda given: given[7], id="key-that-is-a-number"),
        pytest.param(Net(lambda y, _: {"a": y, "b": y.exp()}), "1", lambda given: given["b"], id="place-in-a-dict"),
        pytest.param(Net(lambda y, _: (y, y.exp())), "1", lambda given: given[1], id="place"),
        pytest.param(Net(lambda y, state: (y, [state, y.exp()])), "1.1", lambda given: given[1][1], id="deep"),
        pytest.param(Net(lambda y, _: Said(y[:, -1], y.exp())), "logits", lambda given: given.logits, id="field"),
        pytest.param(Net(Pair), "state.0", lambda given: given.state[0][0], id="state"),
        pytest.param(Loop(lambda y, _, h: Pair(y, (h, y.exp()))), "state.1", lambda given: given.state[1], id="loop"),
        pytest.param(Loop(lambda y, _, h: (y, h)), "1", lambda given: given[1], id="loop-that-is-a-layer"),
        pytest.param(nn.LSTM(I, H, batch_first=True), "1.0", lambda given: given[1][0][0], id="bare-layer"),
    ],
)
def test_another_answer_is_taken_by_its_name(
    exported: Any, net: nn.Module, name: str, chosen: Callable[[Any], Tensor]
) -> None:
    graph = exported(net, answer=name)

    x = torch.randn(3, 6, I)
    with torch.no_grad():
        expected = chosen(net(x)).numpy()
    lengths = [np.full(3, 6, np.int32)] if graph.exportable.signature.lengths else []
    states = [np.zeros((1, 3, H), np.float32) for _ in graph.exportable.signature.state]
    np.testing.assert_allclose(graph.run(x.numpy(), *lengths, *states)[0], expected, atol=2e-6)


@pytest.mark.covering("number-beside-a-vector")
@pytest.mark.parametrize(
    ("net", "names", "chosen", "columns"),
    [
        pytest.param(
            Net(lambda y, state: {"y": y, "state": state, "value": y.mean(-1)}),
            "value,y",
            lambda given: torch.cat([given["value"][..., None], given["y"]], -1),
            {"value": 1, "y": H},
            id="number-beside-a-vector",
        ),
        pytest.param(
            Net(lambda y, state: (y[:, -1], (y.mean(1), state))),
            "0,1.0",
            lambda given: torch.cat([given[0], given[1][0]], -1),
            {"0": H, "1.0": H},
            id="for-a-sequence",
        ),
        pytest.param(
            Loop(lambda y, _, h: (y, y.exp(), h)),
            "1,0",
            lambda given: torch.cat([given[1], given[0]], -1),
            {"1": H, "0": H},
            id="loop",
        ),
        pytest.param(
            Net(lambda y, _: {"a,b": y, "a": y.exp()}), "a,b", lambda given: given["a,b"], {}, id="key-with-a-comma"
        ),
    ],
)
def test_several_heads_stand_side_by_side(
    exported: Any, net: nn.Module, names: str, chosen: Callable[[Any], Tensor], columns: dict[str, int]
) -> None:
    graph = exported(net, answer=names)
    network, signature = graph.exportable.network, graph.exportable.signature

    x, rest = torch.randn(3, 6, I), [np.zeros((1, 3, H), np.float32) for _ in signature.state]
    with torch.no_grad():
        expected = chosen(net(x)).numpy()
    lengths = [np.full(3, 6, np.int32)] * (signature.lengths is not None)
    np.testing.assert_allclose(graph.run(x.numpy(), *lengths, *rest)[0], expected, atol=2e-6)
    assert network.answer_columns == columns
    assert not set(columns) & set(network.left_out)
    words = ", ".join(f"{name} ({count})" for name, count in columns.items())
    assert graph.exportable.description.get("answer", "") == words


@pytest.mark.parametrize(
    ("net", "complaint"),
    [
        pytest.param(
            Net(lambda y, _: (y, y[:, -1])), r"0 float32 \[3, 5, 6\], 1 float32 \[3, 6\], expected", id="unlike"
        ),
        pytest.param(Net(lambda y, _: (y, y.argmax(-1))), r"1 int64 \[3, 5\], expected floating", id="whole-numbers"),
        pytest.param(
            Net(lambda y, _: (y[..., 0], y[..., 1])),
            r"0 and 1 \(--answer\) with more .* take .squeeze\(-1\)",
            id="flat",
        ),
        pytest.param(
            Net(lambda y, _: (y[:, -1], y[:, ::4, 0])), r"returns 1 \(--answer\) with more numbers", id="weights-of-few"
        ),
    ],
)
def test_heads_that_do_not_stand_side_by_side_are_refused(net: nn.Module, complaint: str) -> None:
    with pytest.raises(AnswerError, match=complaint):
        prepare(net, answer="0,1")


@pytest.mark.parametrize(
    ("net", "name", "complaint"),
    [
        pytest.param(
            Net(lambda y, state: {"y": y, "state": state}),
            "state",
            r"nothing called 'state' \(--answer\), expected one of y, state.0, state.1",
            id="not-one-tensor",
        ),
        pytest.param(Net(lambda y, _: y), "0", "expected no --answer, for it returns one tensor", id="one-tensor"),
        pytest.param(Net(lambda y, _: None), "y", "expected tensors in a tuple, .* not NoneType", id="none"),
        pytest.param(Loop(lambda y, _, h: (y, h, {"e": y.exp()})), "e", "one of 0, 1, 2.e", id="loop"),
    ],
)
def test_answer_that_is_not_there_is_refused_with_those_that_are(net: nn.Module, name: str, complaint: str) -> None:
    with pytest.raises(AnswerError, match=complaint) as caught:
        prepare(net, answer=name)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "net",
    [
        pytest.param(Net(lambda y, _: (y[:, -1, 0], y[:, -1, 1])), id="for-the-sequence"),
        pytest.param(Loop(lambda y, _, h: (y[..., 0], h[..., 0])), id="of-a-loop"),
    ],
)
def test_heads_of_one_number_without_its_axis_are_told_to_keep_it(net: nn.Module) -> None:
    with pytest.raises(SignatureError, match=r"where a head gives one number, take its .squeeze\(-1\) out"):
        prepare(net, answer="0,1")


def test_network_of_this_house_has_one_answer() -> None:
    with pytest.raises(SourceError, match="SequenceModel has one answer, expected no --answer, found 'y'"):
        prepare(SequenceModel(I, H), answer="y")


@pytest.mark.parametrize(
    "net",
    [
        pytest.param(Net(lambda y, _: list(y.unbind(1))), id="layer"),
        pytest.param(Loop(lambda _, seen, h: seen), id="loop"),
        pytest.param(Net(lambda y, state: (list(y.unbind(1)), state)), id="layer-and-its-state"),
        pytest.param(Loop(lambda _, seen, h: (seen, h)), id="loop-and-its-state"),
    ],
)
def test_list_with_a_tensor_for_each_step_is_refused(net: nn.Module) -> None:
    with pytest.raises(AnswerError, match=r"a list with a tensor for each step.*torch.stack\(outputs, 1\)"):
        prepare(net)


def test_answer_of_a_wrong_shape_names_the_others(exported: Any) -> None:
    net = Net(lambda y, _: {"loss": y.sum(), "logits": y})

    with pytest.raises(SignatureError, match="; or take another of its tensors with --answer logits"):
        prepare(net)

    assert exported(net, answer="logits").largest_difference() < 2e-6


@pytest.mark.no_cover
@pytest.mark.parametrize("net", [Net(lambda y, _: (y.argmax(-1), y)), Loop(lambda y, *_: (y.argmax(-1), y))])
def test_whole_numbers_are_no_answer_and_the_others_are_named(exported: Any, net: nn.Module) -> None:
    with pytest.raises(
        SignatureError, match="return scores, not argmax; or take another of its tensors with --answer 1"
    ):
        prepare(net)

    assert exported(net, answer="1").largest_difference() < 2e-6
