"""Loops that read the step before beside their own, and such as begin with what the first step gives."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from .looped_modules import H, I

pytestmark = pytest.mark.long


class Looped(nn.Module):
    """A cell over what `read` gives, and a head in the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.mix, self.start = nn.GRUCell(I, H), nn.Linear(2 * I, I), nn.Linear(I, H)

    def begin(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.size(0), H)

    def forward(self, x: Tensor) -> Tensor:
        h, said = self.begin(x), []
        for t in range(x.size(1)):
            h = self.cell(self.read(x, t), h)
            said.append(h)
        return torch.stack(said, 1)

    def read(self, x: Tensor, t: int) -> Tensor:
        return x[:, t]


class BesideTheStepBefore(Looped):
    def read(self, x: Tensor, t: int) -> Tensor:
        before = x[:, t - 1] if t > 0 else torch.zeros_like(x[:, 0])
        return self.mix(torch.cat([x[:, t], before], 1))  # type: ignore[no-any-return]


class Changes(Looped):
    """Of what each step was mapped to."""

    def forward(self, x: Tensor) -> Tensor:
        h, before, said = self.begin(x), torch.zeros(x.size(0), I), []
        for step in torch.tanh(self.mix(torch.cat([x, x], 2))).unbind(1):
            h = self.cell(step - before, h)
            before = step
            said.append(h)
        return torch.stack(said, 1)


class ChangesFromTheFirst(Looped):
    def read(self, x: Tensor, t: int) -> Tensor:
        return x[:, t] - x[:, max(t - 1, 0)]


class BegunByTheFirst(Looped):
    """The first step is read before the loop too, by what else reads every step."""

    def begin(self, x: Tensor) -> Tensor:
        return torch.tanh(self.start(x[:, 0])) + self.cell(x[:, 0])


class SmoothedFromTheFirst(Looped):
    def forward(self, x: Tensor) -> Tensor:
        smooth, h = x[:, 0], self.begin(x)
        for step in x.unbind(1):
            smooth = 0.9 * smooth + 0.1 * step
            h = self.cell(smooth, h)
        return h


class SmoothedBackwards(Looped):
    """From the last step of the batch, which of a shorter row is padding."""

    def forward(self, x: Tensor) -> Tensor:
        smooth, h = x[:, -1], self.begin(x)
        for step in reversed(x.unbind(1)):
            smooth = 0.9 * smooth + 0.1 * step
            h = self.cell(smooth, h)
        return h


@pytest.mark.covering("beside-the-step-before", "begun-by-the-first")
@pytest.mark.parametrize(
    ("make", "streams", "takes_lengths"),
    [
        pytest.param(BesideTheStepBefore, True, True, id="beside-the-step-before"),
        pytest.param(Changes, True, True, id="changes"),
        pytest.param(ChangesFromTheFirst, False, True, id="changes-from-the-first"),
        pytest.param(BegunByTheFirst, False, True, id="begun-by-the-first"),
        pytest.param(SmoothedFromTheFirst, False, True, id="smoothed-from-the-first"),
        pytest.param(SmoothedBackwards, False, False, id="smoothed-backwards"),
    ],
)
def test_loop_gives_what_the_module_gives_for_rows_of_any_length(
    exported: Any, make: Callable[[], nn.Module], streams: bool, takes_lengths: bool
) -> None:
    module = make().eval()

    graph = exported(module)

    assert (bool(graph.exportable.signature.state), "lengths" in graph.inputs) == (streams, takes_lengths)
    for steps in (1, 2, 3, 19):
        lengths = np.array([steps, max(steps - 1, 1), 1] if takes_lengths else [steps] * 3, np.int32)
        x = torch.randn(3, steps, I)
        state = [np.zeros_like(tensor.numpy()) for tensor in graph.exportable.example(3, steps)[1 + takes_lengths :]]
        y, *_ = graph.run(x.numpy(), *([lengths] if takes_lengths else []), *state)
        for row, count in enumerate(lengths):
            with torch.no_grad():
                expected = module(x[row : row + 1, :count]).numpy()
            found = y[row, :count] if y.ndim == 3 else y[row]
            assert float(np.abs(expected[0] - found).max()) < 2e-6


def test_the_step_before_is_a_state_that_goes_on_in_the_next_chunk(exported: Any) -> None:
    graph = exported(BesideTheStepBefore().eval())
    x, _, *state = (tensor.numpy() for tensor in graph.exportable.example(2, 12))
    zeros = [0 * tensor for tensor in state]

    whole, *_ = graph.run(x, np.array([12, 12], np.int32), *zeros)
    first, *carried = graph.run(x[:, :5], np.array([5, 5], np.int32), *zeros)
    second, *_ = graph.run(x[:, 5:], np.array([7, 7], np.int32), *carried)

    assert {I, H} == {tensor.shape[-1] for tensor in state}
    assert float(np.abs(whole - np.concatenate([first, second], 1)).max()) < 1e-6
