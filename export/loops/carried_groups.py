"""What a loop carries, in groups that need each other: each group becomes a cell, and so a recurrent layer.

h and c of an LSTM need each other; the states of two cells in one loop do not, although the second reads the first.

Rules of this file: pure; it decides what belongs to which cell.
"""

from dataclasses import dataclass
from typing import Final

import torch

from .loop_values import LoopValues

_aten = torch.ops.aten

_AFFINE: Final = frozenset(
    {_aten.linear.default, _aten.addmm.default, _aten.mm.default, _aten.matmul.default, _aten.add.Tensor}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Carried places that need each other.

    Attributes:
        loop: k.
        carried: the places.
        inside: the places that only their cell can compute.
    """

    loop: int
    carried: tuple[int, ...]
    inside: frozenset[int]


def groups_of(values: LoopValues, number: int) -> list[Group]:
    """Return the groups of a loop's carried places, each after those that it needs."""
    loop = values.loops[number]
    reached: list[frozenset[int]] = []  # for each place the carried places of the iteration before that it depends on
    ancestors: list[frozenset[int]] = []
    for j, needs in enumerate(loop.needs):
        reached.append(loop.needs_old[j].union(*(reached[q] for q in needs)))
        ancestors.append(frozenset({j}).union(*(ancestors[q] for q in needs)))
    closed = {p: set(reached[p]) for p in loop.carried}
    for _ in loop.carried:
        closed = {p: known.union(*(closed[q] for q in known)) for p, known in closed.items()}
    groups, done = [], set()
    for p in sorted(loop.carried, key=lambda p: (len(closed[p] | {p}), p)):
        if p in done:
            continue
        members = tuple(q for q in sorted(loop.carried) if q == p or (q in closed[p] and p in closed[q]))
        done |= set(members)
        above = frozenset().union(*(ancestors[q] for q in members))
        inside = frozenset(j for j in above if reached[j] & set(members))
        groups.append(Group(loop=number, carried=members, inside=inside | _affine_above(values, number, inside)))
    return groups


def _affine_above(values: LoopValues, number: int, inside: frozenset[int]) -> set[int]:
    """Return the products of a cell's input, which only it reads: with them the cell is what its author wrote."""
    loop = values.loops[number]
    readers: list[set[int]] = [set() for _ in loop.needs]
    for j, needs in enumerate(loop.needs):
        for q in needs:
            readers[q].add(j)
    elsewhere = {
        j for value in (values.unrolled.values[n] for n in values.alive) for _, j in values.collected_by(value) or ()
    }
    pulled: set[int] = set()
    for j in reversed(range(len(loop.needs))):
        value = values.at(number, j)
        its_own = bool(readers[j]) and readers[j] <= inside | pulled and j not in elsewhere and j not in inside
        if its_own and value.target in _AFFINE and not loop.needs_old[j] and j not in loop.carried:
            pulled.add(j)
    return pulled
