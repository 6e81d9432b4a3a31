"""The loop in what was unrolled: which values every step repeats, and what each step hands to the next.

A value that has seen the steps 0 to k belongs to iteration k of a loop forwards, one that has seen k to T - 1 to a loop
backwards. The values of one iteration in the middle are held against those of the one before: where all agree but for
the step's number, arguments that lie one iteration back are what is carried. From there every other iteration is
foretold (iterations.py); a loop in which any differs is none.

Rules of this file: it finds or finds not, and builds nothing; what it found is proved later, on runs (proof.py).
"""

from itertools import product
from typing import Final

from .direction import Direction
from .first_iteration import Body, Start
from .iterations import all_iterations
from .late_values import is_product, late_places
from .loop import MIDDLE, NONE_FOUND, PASSES_OVER, SCANNED, SHORTENED, UNLIKE, Loop, NoLoopError
from .unrolled import Unrolled
from .value import Ref

_OVER_TIME: Final = ("conv", "max_pool", "avg_pool")
_SCANS: Final = ("logcumsumexp", "cumprod", "cumsum")


def find_loops(unrolled: Unrolled) -> list[Loop]:
    """Return the loops over time, at each stage one or one for each direction.

    Raises:
        NoLoopError: none, or steps that differ.
    """
    stages = range(1 + max(unrolled.values[number].stage for number in unrolled.reachable()))
    directions = (Direction(unrolled, stage, reverse=reverse) for stage, reverse in product(stages, (False, True)))
    loops = [loop for direction in directions if (loop := _find(direction)) is not None]
    if not loops:
        raise NoLoopError(_why_none(unrolled))
    return loops


def _why_none(unrolled: Unrolled) -> str:
    """Say why there is no loop."""
    reachable = unrolled.reachable()
    if any(unrolled.values[number].steps.bit_count() > 1 for number in reachable):
        return PASSES_OVER
    shortens = next((name for number in reachable if (name := _shortens(unrolled, number))), "")
    if shortens:
        return SHORTENED.format(shortens)
    names = [str(unrolled.values[number].target).removeprefix("aten.").split(".")[0] for number in reachable]
    scans = next((name for name in _SCANS if name in names), "")
    return SCANNED.format(scans) if scans else NONE_FOUND


def _shortens(unrolled: Unrolled, number: int) -> str:
    """Return the operator's name if it pools or convolves over time and gives fewer steps; else nothing."""
    value = unrolled.values[number]
    name = str(value.target).removeprefix("aten.").split(".")[0]
    if not name.startswith(_OVER_TIME) or not isinstance(value.args[0], Ref) or value.shape is None:
        return ""
    return name if unrolled.steps in unrolled.shape_of(value.args[0]) and unrolled.steps not in value.shape else ""


def _find(direction: Direction) -> Loop | None:
    now, before = direction.places(MIDDLE), direction.places(MIDDLE - 1)
    if not any(direction.steps[number] == direction.seen(MIDDLE) for number in now):
        return None
    if [direction.target(n) for n in now] != [direction.target(n) for n in before]:
        raise NoLoopError(UNLIKE)
    # What the next iteration had better compute is not always what the first one can: it may begin from another value.
    late = late_places(direction, now)
    products = [j for j in late if is_product(direction.target(now[j]))]
    refusals = []
    # Nothing is moved where a product ends every iteration and is read by the last as well: h = projection(cell(x, h)).
    ways = [(moved, start) for start in (Start.AS_WRITTEN, Start.ZEROS) for moved in (late, products)]
    for moved, start in [*ways, ([], Start.AS_WRITTEN), (late, Start.FIRST_STEP), (products, Start.FIRST_STEP)]:
        try:
            return _loop(direction, _body(now, before, moved), start)
        except NoLoopError as refusal:
            refusals.append(refusal)
    raise refusals[1]


def _loop(direction: Direction, body: Body, start: Start) -> Loop:
    needs, needs_old = [], []
    for number in body.values:
        reads = set(direction.value(number).reads())
        needs.append(frozenset(body.place[n] for n in reads if n in body.place))
        needs_old.append(frozenset(body.old[n] for n in reads if n in body.old and n not in body.place))
        if any(n not in body.place and n not in body.old and direction.steps[n] for n in reads):
            raise NoLoopError("a step of its loop over time looks further back than the step before")
    iterations, initial = all_iterations(direction, body, start)
    return Loop(
        reverse=direction.reverse,
        iterations=tuple(iterations),
        carried=initial,
        needs=tuple(needs),
        needs_old=tuple(needs_old),
    )


def _body(now: list[int], before: list[int], late: list[int]) -> Body:
    """Return the body of the loop; late values of the iteration before come first in it."""
    values = [before[j] for j in late] + [n for j, n in enumerate(now) if j not in late]
    kept = [n for j, n in enumerate(before) if j not in late]
    return Body(
        values=values,
        place={n: j for j, n in enumerate(values)},
        old={n: j + len(late) for j, n in enumerate(kept)},
        late=len(late),
    )
