"""Loops that know the number of their step."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellgate.export.errors import UnsupportedLayerError
from cellgate.export.exportable import prepare

from .looped_modules import H, I, scaled

pytestmark = pytest.mark.long

Step = Callable[["Counted", Tensor, Tensor, int], Tensor]
POSITIONS = 40


class Counted(nn.Module):
    """A cell and tables of positions; ``step`` says what a step does with them: (x, h, t) -> h."""

    def __init__(self, step: Step, *, reverse: bool = False) -> None:
        super().__init__()
        self.cell, self.wide = nn.GRUCell(I, H), nn.GRUCell(I + 1, H)
        self.learned, self.embedded = scaled(POSITIONS, I), nn.Embedding(POSITIONS, I)
        self.register_buffer("told", torch.randn(1, POSITIONS, I))
        self.heads = nn.ModuleList([nn.Linear(H, H) for _ in range(POSITIONS)])
        self.step, self.reverse = step, reverse

    def forward(self, x: Tensor) -> Tensor:
        h, said = x.new_zeros(x.size(0), H), []
        for t in reversed(range(x.size(1))) if self.reverse else range(x.size(1)):
            h = self.step(self, x, h, t)
            said.append(h)
        return torch.stack(said[::-1] if self.reverse else said, 1)


class RunningMean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(I, H)

    def forward(self, x: Tensor) -> Tensor:
        h = c = mean = x.new_zeros(x.size(0), H)
        said = x.new_zeros(x.size(0), x.size(1), H)
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (h, c))
            mean = (mean * t + h) / (t + 1)
            said[:, t] = mean + 0.01 * t
        return said


STEPS: dict[str, Step] = {
    "weighed": lambda m, x, h, t: m.cell(x[:, t], h) * (1 / (t + 1)),
    "fading": lambda m, x, h, t: h + 0.9**t * m.cell(x[:, t], h),
    "of-the-last-state": lambda m, x, h, t: m.cell(x[:, t], 0.5 * h + 0.1 * (t + 1)),
    "learned": lambda m, x, h, t: m.cell(x[:, t] + m.learned[t], h),
    "learned-from-one": lambda m, x, h, t: m.cell(x[:, t] + m.learned[t + 1], h),
    "told": lambda m, x, h, t: m.cell(x[:, t] + torch.tanh(m.told[:, t]), h),  # type: ignore[operator, index] # a buffer
    "embedded": lambda m, x, h, t: m.cell(x[:, t] + m.embedded(torch.tensor(t)), h),
    "embedded-for-each-row": lambda m, x, h, t: m.cell(x[:, t] + m.embedded(torch.full((x.size(0),), t)), h),
    "beside": lambda m, x, h, t: m.wide(torch.cat([x[:, t], x.new_full((x.size(0), 1), 0.1 * t)], 1), h),
    "sine": lambda m, x, h, t: m.cell(x[:, t] + torch.sin(torch.ones(x.size(0), 1) * t), h),
    "made-before": lambda m, x, h, t: m.cell(x[:, t], h) * torch.sin(torch.arange(x.size(1)).float())[t],
    "cut-before": lambda m, x, h, t: m.cell(x[:, t] + m.learned[: x.size(1)][t], h),
}


@pytest.mark.covering("running-mean", "of-the-last-state", "embedded", "cut-before", "sine", "learned-backwards")
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(RunningMean, id="running-mean"),
        pytest.param(lambda: Counted(STEPS["learned"], reverse=True), id="learned-backwards"),
        *(pytest.param(lambda step=step: Counted(step), id=name) for name, step in STEPS.items()),
    ],
)
def test_loop_gives_what_the_module_gives_for_rows_of_any_length(exported: Any, make: Callable[[], nn.Module]) -> None:
    module = make().eval()

    graph = exported(module)

    assert graph.exportable.signature.lengths is not None
    for steps in (1, 2, 3, 33):
        lengths = np.array([steps, max(steps - 1, 1), 1], np.int32)
        x = torch.randn(3, steps, I)
        state = [np.zeros_like(tensor.numpy()) for tensor in graph.exportable.example(3, steps)[2:]]
        y, *_ = graph.run(x.numpy(), lengths, *state)
        for row, count in enumerate(lengths):
            with torch.no_grad():
                expected = module(x[row : row + 1, :count]).numpy()
            scale = max(1.0, float(np.abs(expected).max()))
            assert float(np.abs(expected[0] - y[row, :count]).max()) < 2e-6 * scale


def test_a_table_ends_the_steps(exported: Any) -> None:
    graph = exported(Counted(STEPS["learned-from-one"]).eval())

    assert graph.exportable.signature.most_steps == POSITIONS - 1


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(lambda m, x, h, t: m.cell(x[:, t], h) * math.sin(t), id="sine-of-a-number"),
        pytest.param(lambda m, x, h, t: m.cell(x[:, t], h) / (1 - 0.9 ** (t + 1)), id="bias-correction"),
        pytest.param(lambda m, x, h, t: m.heads[t](m.cell(x[:, t], h)), id="a-head-for-each-step"),
    ],
)
def test_what_follows_no_rule_is_refused_with_a_remedy(step: Step) -> None:
    with pytest.raises(
        UnsupportedLayerError, match=r"with the number of the step, or .* none of a \+ b \* t.* take w\[t\]"
    ):
        prepare(Counted(step))


def test_the_remedy_is_exported(exported: Any) -> None:
    def corrected(m: Counted, x: Tensor, h: Tensor, t: int) -> Tensor:
        w = 1 - 0.9 ** torch.arange(1, x.size(1) + 1)
        return m.cell(x[:, t], h) / w[t]  # type: ignore[no-any-return]

    module = Counted(corrected).eval()
    graph = exported(module)

    x, _, *state = graph.exportable.example(2, 21)
    y, *_ = graph.run(x.numpy(), np.array([21, 21], np.int32), *(np.zeros_like(tensor.numpy()) for tensor in state))
    with torch.no_grad():
        expected = module(x).numpy()
    assert float(np.abs(expected - y).max()) < 2e-6 * max(1.0, float(np.abs(expected).max()))
