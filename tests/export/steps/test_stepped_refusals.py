"""Modules that take one step a call and cannot be exported are refused with what helps.

What only looks alike, a module that takes a whole sequence or whose second argument is no state, keeps the refusal
that it had.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cellgate.export.errors import AnswerError, ExportError, SignatureError
from cellgate.export.exportable import prepare
from cellgate.export.steps.stepped import stepped

from .stepped_modules import FourStates, H, I, O, PairInHead

Forward = Callable[..., Any]


class Given(nn.Module):
    """A cell, and a forward that tests give."""

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.from_x, self.from_h, self.head = nn.Linear(I, H), nn.Linear(H, H), nn.Linear(H, O)
        self.call = forward

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.from_x(x) + self.from_h(h))

    def forward(self, x: Tensor, hidden: Tensor) -> Any:
        return self.call(self, x, hidden)


class GivenWords(Given):
    """A table and a layer, and a forward that tests give."""

    def __init__(self, forward: Forward) -> None:
        super().__init__(forward)
        self.words, self.gru = nn.Embedding(9, I), nn.GRU(I, H)


def mixes_rows(net: Given, x: Tensor, hidden: Tensor) -> Any:
    hidden = net.step(x, hidden)
    return net.head(hidden - hidden.mean(0)), hidden


def keeps_rows_apart(net: Given, x: Tensor, hidden: Tensor) -> Any:
    hidden = net.step(x, hidden)
    return net.head(hidden - hidden.mean(1, keepdim=True)), hidden


def draws(net: Given, x: Tensor, hidden: Tensor) -> Any:
    hidden = net.step(x, hidden) + torch.randn(H)
    return net.head(hidden), hidden


def draws_nothing(net: Given, x: Tensor, hidden: Tensor) -> Any:
    hidden = net.step(x, hidden)
    return net.head(hidden), hidden


def one_row(net: GivenWords, token: Tensor, hidden: Tensor) -> Any:
    said, hidden = net.gru(net.words(token).expand(1, 1, I), hidden)
    return net.head(said[0]), hidden


def any_rows(net: GivenWords, token: Tensor, hidden: Tensor) -> Any:
    said, hidden = net.gru(net.words(token).view(1, token.size(0), -1), hidden)
    return net.head(said[0]), hidden


@pytest.mark.covering("rows-mixed", "chance")
@pytest.mark.parametrize(
    ("kind", "forward", "complaint", "mended"),
    [
        pytest.param(Given, mixes_rows, "lets a row change the output of another", keeps_rows_apart, id="rows-mixed"),
        pytest.param(Given, draws, "gives another output each time", draws_nothing, id="chance"),
        pytest.param(
            GivenWords, one_row, r"one step of one row alone, .* x\.size\(0\) where it says 1", any_rows, id="one-row"
        ),
    ],
)
def test_module_of_one_step_is_refused_and_the_remedy_works(
    kind: type[Given], forward: Forward, complaint: str, mended: Forward
) -> None:
    with pytest.raises(SignatureError, match=complaint) as caught:
        prepare(kind(forward))

    assert "\n" not in str(caught.value)
    assert prepare(kind(mended)).exchanges[0].was == "forward takes one step"


@pytest.mark.no_cover
def test_states_that_come_back_in_another_order_are_refused_and_the_remedy_works() -> None:
    class Crossed(FourStates):
        def __init__(self) -> None:
            super().__init__()
            self.high, self.head = nn.LSTMCell(H, H), nn.Linear(H, O)

        def forward(self, x: Tensor, h1: Tensor, c1: Tensor, h2: Tensor, c2: Tensor) -> Any:
            a, b = self.low(x, (h1, c1))
            c, d = self.high(a, (h2, c2))
            return self.head(c), a, c, b, d

    with pytest.raises(SignatureError, match="the states h1, c1, h2, c2 and gives them back in another order"):
        prepare(Crossed())

    class Named(Crossed):
        def forward(self, x: Tensor, h1: Tensor, c1: Tensor, h2: Tensor, c2: Tensor) -> Any:
            h1, c1 = self.low(x, (h1, c1))
            h2, c2 = self.high(h1, (h2, c2))
            return self.head(h2), h1, c1, h2, c2

    assert len(prepare(Named()).signature.state) == 4


def test_answer_that_may_as_well_be_the_state_is_refused_and_the_remedy_works() -> None:
    class Either(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = nn.GRUCell(I, H), nn.Linear(H, H)

        def forward(self, x: Tensor, h: Tensor) -> Any:
            carry = self.cell(x, h)
            return carry, self.head(carry)

    with pytest.raises(SignatureError, match=r"several tensors that have the shape of h, .*: return answer, h$"):
        prepare(Either())

    class Named(Either):
        def forward(self, x: Tensor, h: Tensor) -> Any:
            h = self.cell(x, h)
            return self.head(h), h

    named, x = Named(), torch.randn(1, 1, I)
    torch.testing.assert_close(prepare(named).network(x)[1][0][0], named.cell(x[:, 0]))


def whole_layer(net: GivenWords, x: Tensor, hidden: Tensor) -> Any:
    said, hidden = net.gru(x, hidden)
    return said + torch.randn(1), hidden


def whole_loop(net: Given, x: Tensor, hidden: Tensor) -> Any:
    for t in range(x.size(1)):
        hidden = net.step(x[:, t], hidden)
    return hidden, hidden


def whole_loop_of_one_row(net: Given, x: Tensor, hidden: Tensor) -> Any:
    for step in x:
        hidden = net.step(step, hidden)
    return net.head(hidden), hidden


@pytest.mark.parametrize(
    "forward", [whole_layer, whole_loop, whole_loop_of_one_row], ids=lambda forward: forward.__name__
)
def test_module_of_a_whole_sequence_is_none_of_one_step(forward: Forward) -> None:
    module = GivenWords(forward).eval()

    assert stepped(module, {}, None) is None
    with pytest.raises(ExportError):
        prepare(module)


@pytest.mark.parametrize("argument", ["context", "c", "memory", "y"])
def test_an_argument_that_may_be_no_state_is_not_taken_for_one(argument: str) -> None:
    space: dict[str, Any] = {}
    exec(f"def forward(self, x, {argument}):\n    return self.gate(x) * {argument}\n", space)

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Linear(I, H)

        forward = space["forward"]

    with pytest.raises(ExportError, match=argument):
        prepare(Gated())


def test_answer_that_a_step_does_not_return_is_refused_with_those_that_it_does() -> None:
    with pytest.raises(AnswerError, match=r"no numbers \[B, O\] called 'logits' .*expected one of 0, 1.0, 1.1"):
        prepare(PairInHead(), answer="logits")
    with pytest.raises(AnswerError, match=r"expected one of 0, 1.0, 1.1, and one alone; to have several, give back"):
        prepare(PairInHead(), answer="0,1.0")


def test_states_are_not_guessed_without_end() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(20 + 7 * k, 30 + 11 * k) for k in range(12)])

        def forward(self, x: Tensor, state: Tensor) -> Tensor:
            calls.append(1)
            raise ValueError

    calls: list[int] = []

    assert stepped(Wide(), {}, None) is None
    assert 100 < len(calls) < 3000


def test_what_is_told_and_does_not_exist_is_refused() -> None:
    with pytest.raises(SignatureError, match="has no argument 'hx' for the state"):
        prepare(PairInHead(), told={"state": "hx"})
    with pytest.raises(SignatureError, match="'steps' is no part that an argument can play"):
        prepare(PairInHead(), told={"steps": "x"})


def test_one_step_has_no_lengths() -> None:
    with pytest.raises(ExportError):
        prepare(Given(draws_nothing), told={"sequence": "x", "lengths": "hidden"})
