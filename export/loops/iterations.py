"""All iterations of a loop, from what its body looks like in the middle.

The first iteration is matched value by value, which also tells what it reads in the place of carried values: the
initial state. Each further one is foretold from the one before, and has to be there.

Rules of this file: an iteration that differs in anything but the number of its step is no iteration.
"""

from dataclasses import dataclass
from typing import Any

from .direction import Direction
from .loop import UNLIKE, NoLoopError
from .value import STEP, Ref, replace_refs


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


def all_iterations(direction: Direction, body: Body) -> tuple[list[tuple[int | None, ...]], dict[int, int]]:
    """Return ``iterations`` and ``carried`` of the Loop with this body."""
    first, initial = _first_iteration(direction, body)
    iterations = [first]
    for iteration in range(1, direction.T):
        iterations.append(_foretold(direction, body, iterations[-1], iteration))
    _check_all_covered(direction, iterations)
    return iterations, initial


def _first_iteration(direction: Direction, body: Body) -> tuple[tuple[int | None, ...], dict[int, int]]:
    """Match the first iteration, whose old values came from before the loop; returns it and what they were."""
    candidates = [number for number in direction.alive if direction.steps[number] == 1 << direction.at(0)]
    free = [number for number in direction.alive if not direction.steps[number]]
    initial: dict[int, int] = {}
    iteration: list[int | None] = []
    for j, number in enumerate(body.values):
        for candidate in free if j < body.late else candidates:
            assigned = _initial_of(direction, number, candidate, body, iteration, initial)
            if assigned is not None:
                initial |= assigned
                iteration.append(candidate)
                break
        else:
            raise NoLoopError(UNLIKE)
    return tuple(iteration), initial


def _initial_of(
    direction: Direction,
    number: int,
    candidate: int,
    body: Body,
    iteration: list[int | None],
    initial: dict[int, int],
) -> dict[int, int] | None:
    """Return which initial values make a value of the first iteration what a later one is, or None where none do."""
    later, first = direction.value(number), direction.value(candidate)
    if later.target != first.target:
        return None
    if later.target == STEP:
        return {} if (later.args[0], later.args[1]) == (first.args[0], first.args[1]) else None
    assigned: dict[int, int] = {}

    def agree(a: Any, b: Any) -> bool:
        if isinstance(a, tuple) and isinstance(b, tuple):
            return len(a) == len(b) and all(agree(p, q) for p, q in zip(a, b, strict=True))
        if not isinstance(a, Ref) or not isinstance(b, Ref):
            return type(a) is type(b) and bool(a == b)
        if a.number in body.place:
            return iteration[body.place[a.number]] == b.number
        if a.number in body.old:
            known = initial.get(body.old[a.number], assigned.get(body.old[a.number], b.number))
            assigned[body.old[a.number]] = b.number
            return known == b.number and not direction.steps[b.number]
        return a.number == b.number

    return assigned if agree((later.args, later.kwargs), (first.args, first.kwargs)) else None


def _foretold(
    direction: Direction, body: Body, before: tuple[int | None, ...], iteration: int
) -> tuple[int | None, ...]:
    """Find each value of an iteration from those of the iteration before."""
    found: list[int | None] = []

    def moved(number: int) -> Any:
        if number in body.place:
            return _known(found[body.place[number]])
        if number in body.old:
            return _known(before[body.old[number]])
        return Ref(number)

    for number in body.values:
        value = direction.value(number)
        if value.target == STEP:
            args: Any = (value.args[0], value.args[1], direction.at(iteration))
            found.append(direction.unrolled.find(STEP, args, value.kwargs))
            continue
        try:
            args, kwargs = replace_refs(value.args, moved), replace_refs(value.kwargs, moved)
        except _DeadError:
            found.append(None)
            continue
        found.append(direction.unrolled.find(value.target, args, kwargs))
    # Of the last two, what only a later iteration would read is not computed: n of h = f(h, 2 * n), n = g(n, h).
    if iteration < direction.T - 2 and None in found:
        raise NoLoopError(UNLIKE)
    alive = set(direction.alive)
    return tuple(n if n in alive else None for n in found) if iteration == direction.T - 1 else tuple(found)


def _check_all_covered(direction: Direction, iterations: list[tuple[int | None, ...]]) -> None:
    """Raise where some iteration computes more than the body does."""
    for iteration in range(1, direction.T - 2):
        known = set(iterations[iteration]) | set(iterations[iteration + 1])
        if any(direction.steps[n] == direction.seen(iteration) and n not in known for n in direction.alive):
            raise NoLoopError(UNLIKE)


class _DeadError(Exception):
    """A value of the last iteration reads one that nobody needed."""


def _known(number: int | None) -> Ref:
    if number is None:
        raise _DeadError
    return Ref(number)
