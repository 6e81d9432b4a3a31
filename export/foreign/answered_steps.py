"""For how many steps a foreign module answers, of those that it is given: for each, or for what a front leaves of them.

Layers that stride, pool or convolve without padding leave floor((T + add) / divide) of T steps, however many there are
(bundle/axes.py). The two numbers are found where the count grows; that they hold for other counts is proved later, on
all the steps for which the module is held against its export (original_proof.py).

Rules of this file: counts are read off runs, never off the code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

from ...bundle.axes import StepAxis
from ..errors import SignatureError
from .input_trial import example

if TYPE_CHECKING:
    from torch import Tensor

    from .network import ForeignNetwork

_WIDEST: Final = 2**13  # steps that a front may make one of


@torch.no_grad()
def find_answered_steps(network: ForeignNetwork, shapes: list[list[int]]) -> StepAxis:
    """Return the axis of steps of the module's answer; T where it answers for each, for none, or in no such way.

    Args:
        network: that runs.
        shapes: of its answer for each of ``probe_steps``.
    """
    place = _growing(shapes)
    if place is None:
        return StepAxis()
    counted = _Counted(network, place, len(shapes[0]))
    first, last = map(counted.of, network.probe_steps)
    if not first < last < network.probe_steps[1]:
        return StepAxis()
    one_more = counted.first_with(first + 1, network.probe_steps[0])
    two_more = None if one_more is None else counted.first_with(first + 2, one_more)
    if one_more is None or two_more is None:
        return StepAxis()
    divide = two_more - one_more
    found = StepAxis(add=(first + 1) * divide - one_more, divide=divide)
    return found if [found.size(steps) for steps in network.probe_steps] == [first, last] else StepAxis()


def check_answered(name: str, y: Tensor, axis: StepAxis, steps: int) -> None:
    """Hold the number of steps of an answer against the axis.

    Args:
        name: of the module.
        y: [B, T', O].
        axis: of T'.
        steps: T.

    Raises:
        SignatureError: they are not those.
    """
    if y.size(1) != axis.size(steps):
        raise SignatureError(
            f"{name}.forward answers for {y.size(1)} of {steps} steps, expected {axis.size(steps)}, which is {axis} as "
            "for other numbers of steps; look for a condition on the number of steps, and for a size that is typed in"
        )


def per_step_of_fewer(shapes: list[list[int]], given: tuple[int, int]) -> int | None:
    """Return for how many of given[1] steps a module answers, where it answers for some of them and not for each."""
    place = _growing(shapes)
    if place is None or not shapes[0][place] < shapes[1][place] < given[1]:
        return None
    return shapes[1][place]


def steps_left(axis: StepAxis, steps: Any) -> Any:
    """Return ``axis.size`` of a number of steps, or of int [B], in a graph too; of no fewer than leave one."""
    if axis.is_every_step:
        return steps
    more = steps + axis.add  # never negative, so that both ways to round are one
    if isinstance(more, torch.Tensor):
        return torch.div(more, axis.divide, rounding_mode="trunc")
    return more // axis.divide


def _growing(shapes: list[list[int]]) -> int | None:
    """Return the only axis that is longer for more steps."""
    if len({len(shape) for shape in shapes}) != 1:
        return None
    places = [place for place, sizes in enumerate(zip(*shapes, strict=True)) if len(set(sizes)) > 1]
    return places[0] if len(places) == 1 else None


class _Counted:
    """For how many steps the module answers, by the axis at ``place`` of an answer with ``axes`` axes."""

    def __init__(self, network: ForeignNetwork, place: int, axes: int) -> None:
        self.network, self.place = network, place
        one = network.call(example(network, network.probe_steps[0], 1))
        # Of one row, rows and steps on one axis are the steps; but squeeze() may take its axis away.
        self.rows = 1 if one.dim() == axes else None

    def of(self, steps: int) -> int:
        """Return it of so many steps."""
        return int(self.network.call(example(self.network, steps, self.rows)).shape[self.place])

    def first_with(self, count: int, fails: int) -> int | None:
        """Return the fewest steps above ``fails`` of which ``count`` are left; None where that is far away."""
        width = 1
        while self.of(fails + width) < count:
            width *= 2
            if width > _WIDEST:
                return None
        low, high = fails + width // 2 if width > 1 else fails, fails + width
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.of(middle) >= count else (middle, high)
        return high
