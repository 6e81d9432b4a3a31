"""The first iteration of a loop, which reads something else in the place of what is carried: the initial state.

It is matched value by value with a later one. People begin with the number 0 too, ``h = 0.``, which stands for a tensor
of zeros; and they leave out of the first step what would be zero, ``h = z if h is None else z + h @ U``. Then values
that nobody computed are made of zeros, and a sum with a product of zeros is its other part. Or they begin with what the
first step gives, ``previous = x[:, 0]`` or ``h = init(x[:, 0])``.

Rules of this file: what is made here is believed only where every later iteration follows from it, and is proved on
runs (proof.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import torch

from .direction import Direction
from .equal_values import made_alike
from .loop import UNLIKE, NoLoopError
from .value import STEP, Ref, Value, replace_refs

_aten = torch.ops.aten
_SWAPPED: Final = frozenset({_aten.add.Tensor, _aten.mul.Tensor})  # one and other may change their places
_PRODUCTS: Final = frozenset({_aten.mul.Tensor, _aten.mm.default, _aten.matmul.default, _aten.linear.default})


class Start(Enum):
    """What a loop may begin with that is not there as such.

    AS_WRITTEN: nothing; its initial values have seen no step.
    ZEROS: values that nobody computed, made of zeros.
    FIRST_STEP: values that have seen the first step.
    """

    AS_WRITTEN = 0
    ZEROS = 1
    FIRST_STEP = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """What one iteration in the middle does.

    Attributes:
        values: numbers of its values, in order; the index in this list is called the place of a value.
        place: the place of each of them, by number.
        old: for values of the iteration before, by number, the place of the same value there.
        late: how many places, the first ones, are late values (late_values.py).
    """

    values: list[int]
    place: dict[int, int]
    old: dict[int, int]
    late: int


class FirstIteration:
    """Matches the first iteration.

    Args:
        direction: of the loop.
        body: of the loop.
        start: what it may begin with.

    Attributes:
        initial: for places that are carried the number of what the first iteration reads instead.
    """

    def __init__(self, direction: Direction, body: Body, start: Start) -> None:
        self._direction = direction
        self._body = body
        self._start = start
        self._found: list[int] = []
        self.initial: dict[int, int] = {}

    def values(self) -> tuple[int | None, ...]:
        """Return the numbers of its values by place, and fill ``initial``.

        Raises:
            NoLoopError: it does not do what the others do.
        """
        direction, body = self._direction, self._body
        candidates = [number for number in direction.alive if direction.steps[number] == 1 << direction.at(0)]
        free = [number for number in direction.alive if not direction.steps[number]]
        if self._start is Start.FIRST_STEP:
            candidates.reverse()  # what the loop begins with, which may be made alike, comes before it
        for j, number in enumerate(body.values):
            self._found.append(self._match(number, free if j < body.late else candidates))
        return tuple(self._found)

    def _match(self, number: int, candidates: list[int]) -> int:
        for candidate in candidates:
            assigned = self._initial_of(number, candidate)
            if assigned is not None:
                self.initial |= assigned
                return candidate
        made = self._made_of_zeros(self._direction.value(number)) if self._start is Start.ZEROS else None
        if made is None:
            raise NoLoopError(UNLIKE)
        return made

    def _initial_of(self, number: int, candidate: int) -> dict[int, int] | None:
        """Return which initial values make one of the first iteration what a later one is; None where none do."""
        later, first = self._direction.value(number), self._direction.value(candidate)
        if later.target != first.target:
            return None
        if later.target == STEP:
            return {} if (later.args[0], later.args[1]) == (first.args[0], first.args[1]) else None
        for args in orders(first):
            assigned: dict[int, int] = {}
            if self._agree((later.args, later.kwargs), (args, first.kwargs), assigned):
                return assigned
        return None

    def _agree(self, a: Any, b: Any, assigned: dict[int, int]) -> bool:
        """Whether an argument of a later iteration is that of the first; fills in what is carried there."""
        body, direction = self._body, self._direction
        if isinstance(a, tuple) and isinstance(b, tuple):
            return len(a) == len(b) and all(self._agree(p, q, assigned) for p, q in zip(a, b, strict=True))
        if isinstance(a, Ref) and a.number in body.old and type(b) in {int, float}:
            b = self._filled(a.number, b)
        if not isinstance(a, Ref) or not isinstance(b, Ref):
            return type(a) is type(b) and bool(a == b)
        if a.number in body.place:
            return self._found[body.place[a.number]] == b.number
        if a.number in body.old:
            known = self.initial.get(body.old[a.number], assigned.get(body.old[a.number], b.number))
            assigned[body.old[a.number]] = b.number
            return known == b.number and self._may_begin(direction.steps.get(b.number, 0))
        return a.number == b.number

    def _may_begin(self, steps: int) -> bool:
        """Whether a loop may begin with what has seen these steps."""
        return not steps or (self._start is Start.FIRST_STEP and steps == 1 << self._direction.at(0))

    def _filled(self, number: int, fill: float) -> Ref | None:
        """Return a tensor of one number, as wide as a value is."""
        value = self._direction.value(number)
        if value.shape is None or "?" in value.shape:
            return None
        make, rest = (_aten.full.default, (fill,)) if fill else (_aten.zeros.default, ())
        return Ref(made_alike(self._direction.unrolled, make, rest, value.shape, value.dtype))

    def _made_of_zeros(self, later: Value) -> int | None:
        """Return what a value is in the first iteration, from zeros where nothing else is known, or None."""
        body, unrolled = self._body, self._direction.unrolled

        def first(number: int) -> Any:
            if number in body.place:
                return Ref(self._found[body.place[number]])
            if number not in body.old:
                return Ref(number)
            zeros = self._filled(number, 0.0)
            known = self.initial.get(body.old[number], zeros.number if zeros else None)
            if known is None:
                raise NoLoopError(UNLIKE)
            self.initial[body.old[number]] = known
            return Ref(known)

        if later.target == STEP:
            return None
        args, kwargs = replace_refs(later.args, first), replace_refs(later.kwargs, first)
        if later.target is _aten.add.Tensor and len(args) == 2 and not kwargs:  # noqa: PLR2004 - one and other
            for kept, gone in (args, args[::-1]):
                if isinstance(gone, Ref) and isinstance(kept, Ref) and self._is_zero(gone.number):
                    return kept.number
        return unrolled.add(later.target, args, kwargs, later.shape, later.dtype)

    def _is_zero(self, number: int) -> bool:
        value = self._direction.value(number)
        if value.target is _aten.zeros.default:
            return True
        product = value.target in _PRODUCTS and len(value.args) == 2  # noqa: PLR2004 - a bias would be the third
        return product and any(isinstance(one, Ref) and self._is_zero(one.number) for one in value.args)


def orders(value: Value) -> Iterator[tuple[Any, ...]]:
    """Yield the orders of its arguments in which an operation gives the same."""
    yield value.args
    if value.target in _SWAPPED and len(value.args) == 2 and not value.kwargs:  # noqa: PLR2004 - one and other
        yield value.args[::-1]
