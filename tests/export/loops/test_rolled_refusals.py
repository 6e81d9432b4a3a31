"""Loops over time that cannot be rolled up are refused in one sentence, and the remedy in it works."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cellgate.export.errors import SignatureError, UnsupportedLayerError
from cellgate.export.exportable import prepare

from .looped_modules import H, I, O


class Looped(nn.Module):
    """A cell and a loop that tests give."""

    def __init__(self, loop: Callable[..., Any]) -> None:
        super().__init__()
        self.cell = nn.GRUCell(I, H)
        self.head = nn.Linear(H, O)
        self.attention = nn.MultiheadAttention(H, 2, batch_first=True)
        self.loop = loop

    def forward(self, x: Tensor) -> Any:
        return self.loop(self, x)


def from_chance(net: Looped, x: Tensor) -> Tensor:
    h = torch.randn(x.size(0), H)
    for step in x.unbind(1):
        h = net.cell(step, h)
    return h


def drops_for_ever(net: Looped, x: Tensor) -> Tensor:
    h = torch.zeros(x.size(0), H)
    for step in x.unbind(1):
        h = net.cell(step, nn.functional.dropout(h, 0.5))
    return h


def by_number(net: Looped, x: Tensor) -> Tensor:
    h = torch.zeros(x.size(0), H)
    for t, step in enumerate(x.unbind(1)):
        h = net.cell(step * (t + 1) ** 2, h)
    return h


def further_back(net: Looped, x: Tensor) -> Tensor:
    states = [torch.zeros(x.size(0), H), torch.zeros(x.size(0), H)]
    for step in x.unbind(1):
        states.append(net.cell(step, states[-1]) + states[-2])
    return states[-1]


def single_steps(net: Looped, x: Tensor) -> Tensor:
    h, seen = torch.zeros(x.size(0), H), []
    for step in x.unbind(1):
        h = net.cell(step, h)
        seen.append(h)
    return seen[1] + seen[-1]


def from_the_second(net: Looped, x: Tensor) -> Tensor:
    h = torch.zeros(x.size(0), H)
    for t in range(1, x.size(1)):
        h = net.cell(x[:, t], h)
    return h


def every_other(net: Looped, x: Tensor) -> Tensor:
    h = torch.zeros(x.size(0), H)
    for t in range(0, x.size(1), 2):
        h = net.cell(x[:, t], h)
    return h


def with_the_start(net: Looped, x: Tensor) -> Tensor:
    h = x.new_zeros(x.size(0), x.size(1) + 1, H)
    for t in range(x.size(1)):
        h[:, t + 1] = net.cell(x[:, t], h[:, t])
    return h


def list_with_the_start(net: Looped, x: Tensor) -> Tensor:
    seen = [x.new_zeros(x.size(0), H)]
    for step in x.unbind(1):
        seen.append(net.cell(step, seen[-1]))
    return net.head(torch.stack(seen, 1))


def all_but_the_last_slot(net: Looped, x: Tensor) -> Tensor:
    return with_the_start(net, x)[:, :-1]


def outputs_of(net: Looped, x: Tensor) -> Tensor:
    h, seen = torch.zeros(x.size(0), H), []
    for step in x.unbind(1):
        h = net.cell(step, h)
        seen.append(h)
    return torch.stack(seen, 1)


def attends(net: Looped, x: Tensor) -> Tensor:
    y = outputs_of(net, x)
    return outputs_of(net, net.attention(y, y, y)[0][..., :I])


def scaled_by_the_length(net: Looped, x: Tensor) -> Tensor:
    return outputs_of(net, x) * x.size(1) ** 0.5


def spread_of_what_is_written(net: Looped, x: Tensor) -> Tensor:
    y = outputs_of(net, x)
    y[..., 0] = 0.5
    return torch.std_mean(y, 1, unbiased=False)[1]


def from_unwritten(net: Looped, x: Tensor) -> Tensor:
    h = torch.empty(x.size(0), x.size(1) + 1, H)
    for t in range(x.size(1)):
        h[:, t + 1] = net.cell(x[:, t], h[:, t])
    return h[:, 1:]


def behind_a_pool(net: Looped, x: Tensor) -> Tensor:
    return outputs_of(net, nn.functional.max_pool1d(x.transpose(1, 2), 2).transpose(1, 2))


def behind_a_convolution(net: Looped, x: Tensor) -> Tensor:
    kernel = torch.ones(I, I, 3)
    return outputs_of(net, nn.functional.conv1d(x.transpose(1, 2), kernel).transpose(1, 2))


def from_the_second_and_not_written_out(net: Looped, x: Tensor) -> Tensor:
    """PyTorch could not write out its std_mean, and has to for the sake of swapaxes."""
    return torch.std_mean(from_the_second(net, x.swapaxes(1, 2).swapaxes(1, 2)), 1, unbiased=False)[1]


def no_loop(net: Looped, x: Tensor) -> Tensor:
    return net.head(net.cell(x[:, 0]))


def scan_at_once(net: Looped, x: Tensor) -> Tensor:
    return net.head(torch.logcumsumexp(x @ torch.ones(I, H), 1))


def another_device(net: Looped, x: Tensor) -> Tensor:
    raise RuntimeError("no such device")


def complex_state(net: Looped, x: Tensor) -> Tensor:
    h = torch.zeros(x.size(0), H, dtype=torch.complex64)
    for step in x.unbind(1):
        h = torch.polar(torch.ones(H), torch.arange(float(H))) * h + net.cell(step, h.real)
    return h.real


@pytest.mark.covering(
    "two-steps-back", "list", "trimmed", "length", "pool", "not-written-out", "one-step", "does-not-run"
)
@pytest.mark.parametrize(
    ("loop", "complaint"),
    [
        pytest.param(from_chance, r"draws random numbers \(randn\)", id="random-start"),
        pytest.param(drops_for_ever, r"draws random numbers \((native_)?dropout\)", id="dropout-in-evaluation"),
        pytest.param(by_number, r"with the number of the step.* and take w\[t\] in it", id="counts-its-steps"),
        pytest.param(further_back, "looks further back than the step before", id="two-steps-back"),
        pytest.param(single_steps, "reads single steps of it", id="reads-one-step"),
        pytest.param(from_the_second, "does not read every step in turn", id="from-the-second"),
        pytest.param(every_other, "does not read every step in turn", id="every-other"),
        pytest.param(with_the_start, r"one slot more than there are steps.*as h\[:, 1:\] does", id="slots"),
        pytest.param(list_with_the_start, "one slot more than there are steps", id="list"),
        pytest.param(all_but_the_last_slot, "begins with the state before the loop.*leave it out", id="trimmed"),
        pytest.param(scaled_by_the_length, "depends on how many steps there are; let an nn.LSTM", id="length"),
        pytest.param(from_unwritten, "what nothing was written into; begin with torch.zeros", id="unwritten"),
        pytest.param(behind_a_pool, "no loop over every step .* max_pool1d makes the sequence shorter", id="pool"),
        pytest.param(behind_a_convolution, "conv1d makes the sequence shorter; let .* behind it", id="convolution"),
        pytest.param(from_the_second_and_not_written_out, "does not read every step in turn", id="not-written-out"),
        pytest.param(no_loop, "no loop over time was found", id="one-step"),
        pytest.param(scan_at_once, "torch.logcumsumexp, which goes over all steps at once, is none", id="scan-at-once"),
        pytest.param(complex_state, r"computes in complex64, .*hold real and imaginary part as two", id="complex"),
        pytest.param(another_device, "said RuntimeError: no such device", id="does-not-run"),
    ],
)
def test_loop_that_cannot_be_rolled_up_is_refused_in_one_sentence(loop: Callable[..., Any], complaint: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=complaint) as caught:
        prepare(Looped(loop))

    assert "Looped has no recurrent layer" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_memory_that_nothing_was_written_into_is_told_as_that_where_it_holds_nan() -> None:
    torch.use_deterministic_algorithms(True)  # which fills it with NaN
    try:
        with pytest.raises(UnsupportedLayerError, match=r"what nothing was written into; begin with torch.zeros"):
            prepare(Looped(from_unwritten))
    finally:
        torch.use_deterministic_algorithms(False)


def test_loop_before_attention_is_exported_as_a_layer(exported: Any) -> None:
    class Attending(Looped):
        def __init__(self) -> None:
            super().__init__(lambda net, x: net.attention(*3 * [net.rnn(x)[0]])[0])
            self.rnn = nn.GRU(I, H, batch_first=True)

    assert exported(Attending()).largest_difference() < 2e-6


def time_first_rows(net: Looped, x: Tensor) -> Tensor:
    y = outputs_of(net, x).transpose(0, 1)
    return net.head(y.contiguous().view(-1, H)).view(x.size(1), x.size(0), -1).transpose(0, 1)


def attends_last(net: Looped, x: Tensor) -> Tensor:
    y = outputs_of(net, x)
    return y + net.attention(y, y, y)[0]  # type: ignore[no-any-return]


_ATTENDS = pytest.param(
    attends_last,
    id="attention",
    marks=pytest.mark.skipif(torch.__version__ < "2.13", reason="torch 2.10 binds the length in attention"),
)


@pytest.mark.no_cover
@pytest.mark.parametrize("loop", [pytest.param(time_first_rows, id="contiguous"), _ATTENDS])
def test_view_behind_a_loop_needs_no_layout_in_memory(exported: Any, loop: Callable[..., Any]) -> None:
    """Steps in a list lie in memory in another way than what a layer gives."""
    assert exported(Looped(loop)).largest_difference() < 2e-6


@pytest.mark.no_cover
@pytest.mark.skipif(torch.__version__ < "2.13", reason="torch 2.10 binds the length in attention, and is refused")
def test_attention_between_two_loops_is_exported(exported: Any) -> None:
    graph = exported(Looped(attends))

    assert graph.operators["GRU"] == 2
    assert graph.largest_difference() < 2e-6


def spread(net: Looped, x: Tensor, *, unbiased: bool) -> Tensor:
    y = outputs_of(net, x)
    y = y / (y.std(1, keepdim=True, unbiased=unbiased) + 0.1)
    h = torch.zeros(x.size(0), H)
    for t in range(x.size(1)):
        h = net.cell(y[:, t, :I], h)
    return h


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
def test_deviation_over_one_step_is_told_as_that_and_its_remedy_works(exported: Any) -> None:
    with pytest.raises(SignatureError, match=r"Looped.forward gives NaN for 1 step, .*unbiased=False") as caught:
        prepare(Looped(partial(spread, unbiased=True)))

    assert "\n" not in str(caught.value)
    assert exported(Looped(partial(spread, unbiased=False))).largest_difference() < 2e-6


def test_traceback_that_the_capturer_logs_is_kept_away(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UnsupportedLayerError, match="could not be captured as a graph: TypeError: std_mean"):
        prepare(Looped(spread_of_what_is_written))

    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
