"""All iterations of a loop, from what its body looks like in the middle.

The first iteration is matched value by value (first_iteration.py). Each further one is foretold from the one before,
and has to be there.

Rules of this file: an iteration that differs in anything but the number of its step is no iteration.
"""

from typing import Any

from .direction import Direction
from .first_iteration import Body, FirstIteration, Start
from .loop import UNLIKE, NoLoopError
from .value import STEP, Ref, replace_refs


def all_iterations(
    direction: Direction, body: Body, start: Start
) -> tuple[list[tuple[int | None, ...]], dict[int, int]]:
    """Return ``iterations`` and ``carried`` of the Loop with this body; ``start`` is that of FirstIteration."""
    first = FirstIteration(direction, body, start)
    iterations: list[tuple[int | None, ...]] = [first.values()]
    for iteration in range(1, direction.T):
        iterations.append(_foretold(direction, body, iterations[-1], iteration))
    _check_all_covered(direction, iterations)
    return iterations, first.initial


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
