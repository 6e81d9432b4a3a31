"""The axes of a tensor: fixed sizes, B rows, T steps, or the fewer steps for which some networks answer.

A front that strides, pools or convolves without padding leaves fewer steps than came in. However many such layers
stand one behind the other, what is left of T steps is floor((T + add) / divide) with two whole numbers, for a floor of
a floor is one floor. Such an axis is written as that: "(T-4)//2", "T//2" or "T-4".

Rules of this file: pure; an axis is a size or a text, and what a text means is read here and nowhere else.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

Axis = int | str  # a fixed size, or "B", "T" or fewer steps

AXIS_PATTERN: Final = r"[BT]|T-{0}|(T|\(T[+-]{0}\))//{0}".replace("{0}", "[1-9][0-9]{0,5}")
_FEWER: Final = re.compile(r"\(?T(?P<add>[+-]\d+)?\)?(//(?P<divide>\d+))?")


@dataclass(frozen=True, slots=True)
class StepAxis:
    """An axis over time: floor((T + add) / divide) steps where T are given; T itself by default."""

    add: int = 0
    divide: int = 1

    def size(self, steps: int) -> int:
        """Return how many steps there are of T; 0 where T are too few to leave one."""
        return max((steps + self.add) // self.divide, 0)

    @property
    def is_every_step(self) -> bool:
        """Whether it is T itself."""
        return self == StepAxis()

    def __str__(self) -> str:
        if self.divide == 1:
            return f"T{self.add:+d}" if self.add else "T"
        return f"(T{self.add:+d})//{self.divide}" if self.add else f"T//{self.divide}"


@lru_cache(maxsize=1024)
def step_axis(axis: Axis) -> StepAxis | None:
    """Return what an axis says about steps, or None: it is B, or a size."""
    match = None if isinstance(axis, int) or axis == "B" else _FEWER.fullmatch(axis)
    return None if match is None else StepAxis(int(match["add"] or 0), int(match["divide"] or 1))


def over_time(shape: Sequence[Axis]) -> StepAxis | None:
    """Return the axis over time of a shape, or None; it is the second one where there is one."""
    return step_axis(shape[1]) if len(shape) > 1 else None


def fewer_steps(shape: Sequence[Axis]) -> StepAxis | None:
    """Return the axis over time of a shape where it is another than T, or None."""
    axis = over_time(shape)
    return None if axis is None or axis.is_every_step else axis


def answer_sizes(shape: Sequence[Axis]) -> tuple[int, ...]:
    """Return the fixed sizes of an answer, O last; several where one answer is a table, such as [K, O]."""
    return tuple(axis for axis in shape if isinstance(axis, int))


def sizes_of(shape: Sequence[Axis], rows: int, steps: int) -> tuple[int, ...]:
    """Return the shape for so many rows and so many steps of the sequence."""
    return tuple(axis if isinstance(axis, int) else _size(axis, rows, steps) for axis in shape)


def _size(axis: str, rows: int, steps: int) -> int:
    if axis == "B":
        return rows
    if axis == "T":  # hot path
        return steps
    found = step_axis(axis)
    assert found is not None
    return found.size(steps)
