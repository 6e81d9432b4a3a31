"""One operation of a module that was written out, and how operations name each other.

Rules of this file: plain data and what walks through it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import torch

INPUT: Final = "input"
WEIGHT: Final = "weight"
BATCH: Final = "batch"  # the number of rows, B
STEP: Final = "step"  # (sequence, axis of time, number of the step): the sequence without its time axis
FILLED: Final = "filled"  # (base, step, axis, number of the step): base with one step written into it


class Reading(Enum):
    """What reading one step of a value that a loop went into is, where that value is no list of the loop's own values.

    AS_IT_STANDS: an operation like others.
    THROUGH: the operation applied to the step alone (step_results.py).
    ANEW: the step of another sequence, that of loops that begin when those before have ended.
    """

    AS_IT_STANDS = 0
    THROUGH = 1
    ANEW = 2


@dataclass(frozen=True, slots=True)
class Ref:
    """A value of an Unrolled as an argument of another, by its number."""

    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """One operation.

    Attributes:
        target: the operator, or one of INPUT, WEIGHT, ROWS, STEP.
        args: of the operator, values among them as Refs; for a WEIGHT its name, for a STEP see there.
        kwargs: likewise, (name, argument).
        shape: of a tensor, "B" for the batch and "?" for what is computed from it; None for what is no tensor.
        dtype: of a tensor.
        steps: bit t is set where step t of some sequence of its stage went into it.
        stage: how many loops one after the other its sequence comes after; see Reading.ANEW.
    """

    target: Any
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    shape: tuple[Any, ...] | None
    dtype: torch.dtype | None
    steps: int
    stage: int = 0

    def reads(self) -> Iterator[int]:
        """Yield the numbers of the values that it reads."""
        yield from refs_in((self.args, self.kwargs))


def refs_in(argument: Any) -> Iterator[int]:
    """Yield the numbers of the values in an argument, however deep."""
    if isinstance(argument, Ref):
        yield argument.number
    elif isinstance(argument, tuple):
        for part in argument:
            yield from refs_in(part)


def replace_refs(argument: Any, replace: Callable[[int], Any]) -> Any:
    """Return an argument with each value in it replaced."""
    if isinstance(argument, Ref):
        return replace(argument.number)
    if isinstance(argument, tuple):
        return tuple(replace_refs(part, replace) for part in argument)
    return argument
