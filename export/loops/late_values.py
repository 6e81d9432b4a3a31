"""Values at the border of two iterations that had better be computed by the later one.

A product with the carried state, ``U @ h``, has seen no step beyond those of ``h``, so it seems to end the iteration
that made ``h``. Left there, the loop would carry the product, four times as wide, in the place of ``h``.

Rules of this file: it decides where values go; the loop computes the same wherever they are.
"""

from typing import Final

from .direction import Direction
from .loop import MIDDLE
from .value import refs_in

# Computed by the next iteration even where as much has to be carried for it: products, so that states are carried and
# not products with them, and what only lays a tensor out.
_MOVED_ANYHOW: Final = tuple(
    f"aten.{name}."
    for name in (
        "linear",
        "mm",
        "matmul",
        "addmm",
        "bmm",
        "view",
        "reshape",
        "squeeze",
        "unsqueeze",
        "permute",
        "transpose",
        "t",
    )
)


def late_places(direction: Direction, now: list[int]) -> list[int]:
    """Return which of an iteration's values had better be computed by the next one.

    A product with what is carried has seen no new step, so it looks as if it belonged to the iteration before. It goes
    to the next where nothing else reads it and less has to be carried for it.
    """
    users: dict[int, set[int]] = {n: set() for n in now}
    for number in direction.alive:
        for n in direction.value(number).reads():
            if n in users:
                users[n].add(number)
    users.get(direction.unrolled.result, set()).add(-1)
    late: set[int] = set()
    while True:
        found = next(
            (group for group in _groups_carried(direction, users, late) if _gains(direction, group, users, late)), None
        )
        if found is None:
            return [j for j, number in enumerate(now) if number in late]
        late |= found


def is_product(target: object) -> bool:
    """Whether an operator is a product, or only lays a tensor out."""
    return str(target).startswith(_MOVED_ANYHOW)


def _is_later(direction: Direction, number: int, late: set[int]) -> bool:
    return number in late or (number >= 0 and direction.steps[number] == direction.seen(MIDDLE + 1))


def _groups_carried(direction: Direction, users: dict[int, set[int]], late: set[int]) -> list[set[int]]:
    """Return what the next iteration reads, each value with the elements of the list that it comes from.

    Then the same with what is read for it alone: of ``norm(U @ h)``, the norm, and the norm with the product. Last all
    of them at once, for what is read by several: of two sums over ``f(h)``, both sums with ``f(h)``.
    """
    carried = [n for n in users if n not in late and any(_is_later(direction, u, late) for u in users[n])]
    groups = [_with_siblings(direction, number, users) for number in reversed(carried)]
    groups = [one for one in groups if all(n in carried or direction.value(n).shape is None for n in one)]
    unread = [one for one in groups if all(_is_later(direction, u, late) or u in one for n in one for u in users[n])]
    together = [set[int]().union(*unread)] if len(unread) > 1 else []
    return groups + [longer for one in (*groups, *together) for longer in _with_sources(direction, one, users)]


def _gains(direction: Direction, group: set[int], users: dict[int, set[int]], late: set[int]) -> bool:
    """Whether less has to be carried, or as much but not products, where the next iteration computes a group."""
    if not all(_is_later(direction, u, late) or u in group for n in group for u in users[n]):
        return False
    reads = {r for n in group for r in direction.value(n).reads() if r in users}
    if any(direction.steps[n] != direction.seen(MIDDLE) for n in group | reads):
        return False
    if any(r not in users and direction.steps[r] for n in group for r in direction.value(n).reads()):
        return False  # it reads the iteration before, which would be two back for the next one
    read_anyway = {n for n in reads if any(_is_later(direction, u, late) for u in users[n])}
    added = sum(_width(direction, n) for n in reads - group - read_anyway)
    spared = sum(_width(direction, n) for n in group if any(_is_later(direction, u, late) for u in users[n]))
    eager = len(group) > 1 or any(is_product(direction.target(n)) for n in group)
    return added < spared or (added == spared and eager)


def _with_siblings(direction: Direction, number: int, users: dict[int, set[int]]) -> set[int]:
    """Return a value with the list that it is an element of, and that list's other elements."""
    group = {number}
    for source in refs_in(direction.value(number).args):
        if direction.value(source).shape is None and source in users:
            group |= {source, *users[source]}
    return group


def _with_sources(direction: Direction, group: set[int], users: dict[int, set[int]]) -> list[set[int]]:
    """Return a group with more and more of the values that nothing else reads; lists go with their elements."""
    longer: list[set[int]] = []
    while True:
        reads = {r for n in group for r in direction.value(n).reads() if r in users} - group
        own = {r for r in reads if users[r] <= group}
        if not own:
            return longer
        group = group | own
        if all(direction.value(r).shape is not None for r in reads - own):
            longer.append(group)


def _width(direction: Direction, number: int) -> int:
    width = 1
    for size in direction.value(number).shape or ():
        width *= size if isinstance(size, int) else 1
    return 0 if direction.value(number).shape is None else width
