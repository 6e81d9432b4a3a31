"""States and lengths of modules that somebody else wrote: carried where the module takes them, and only there."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cellgate.export.errors import SignatureError
from cellgate.export.exportable import prepare
from cellgate.export.foreign.network import ForeignNetwork

from .foreign_modules import H, I

pytestmark = pytest.mark.long


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


@pytest.mark.covering("state_of_rows")
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


@pytest.mark.no_cover
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


class KeepsAndSteps(nn.Module):
    """Takes one step a call and keeps its state in itself, as policies of robots do."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(I, H), nn.Linear(H, 2)
        self.hidden: Any = None

    def forward(self, x: Tensor) -> Tensor:  # [B, I]
        y, self.hidden = self.rnn(x.unsqueeze(0), self.hidden)
        return self.head(y.squeeze(0))  # type: ignore[no-any-return]


class OverSteps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = KeepsAndSteps()

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.net(step) for step in x.unbind(1)], 1)


@pytest.mark.no_cover
def test_single_steps_with_a_kept_state_are_refused_and_the_loop_around_them_works(exported: Any) -> None:
    said = r"takes a single step.* is torch\.stack\(\[self\.net\(step\) for step in x\.unbind\(1\)\], 1\)"
    with pytest.raises(SignatureError, match=said):
        prepare(KeepsAndSteps())

    module = OverSteps().eval()
    graph = exported(module)

    assert graph.operators["LSTM"] == 1
    assert graph.inputs == ["x", "lengths", "h0", "c0"]
    for rows, steps in ((1, 1), (3, 9)):
        x, zeros = torch.randn(rows, steps, I), np.zeros((1, rows, H), np.float32)
        module.net.hidden = None
        with torch.no_grad():
            expected = torch.stack([module.net(step) for step in x.unbind(1)], 1)
        found = graph.run(x.numpy(), np.full(rows, steps, np.int32), zeros, zeros)[0]
        assert float(np.abs(expected.numpy() - found).max()) < 2e-6
