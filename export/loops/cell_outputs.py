"""What the rest of the network reads of each cell.

A cell gives one output at each step. What others read of it at every step is laid side by side there; what they read
after the last step is its final state where it is carried, else the last step of its output.

Rules of this file: it finds who reads what, and writes no instruction.
"""

from collections.abc import Iterator

from .carried_groups import groups_of
from .loop_values import LoopValues


class CellOutputs:
    """The groups of all loops and what is read of them.

    Attributes:
        groups: see Group; their cells have the same numbers, g.
        wanted: for each group what others read of it at every step: ("new", j) for what place j gives there, ("old", j)
            for what it gave the step before.
        finals: for each group the carried places of which others read the final state.
    """

    def __init__(self, values: LoopValues) -> None:
        self._values = values
        self.groups = [group for k in range(len(values.loops)) for group in groups_of(values, k)]
        self.wanted, self.finals = self._find_wanted()

    def _find_wanted(self) -> tuple[list[list[tuple[str, int]]], list[set[int]]]:
        """Return ``wanted`` and ``finals``."""
        wanted: list[dict[tuple[str, int], None]] = [{} for _ in self.groups]
        finals: list[set[int]] = [set() for _ in self.groups]
        for g, one in self._read_in_loops():
            wanted[g][one] = None
        for k, j in self._collected():
            owner = self.home(k, j)
            if owner is not None:
                wanted[owner][("new", j)] = None
        for k, j in self._read_last():
            owner = self.home(k, j)
            if owner is not None and j in self.groups[owner].carried:
                finals[owner].add(j)
            elif owner is not None:
                wanted[owner][("new", j)] = None
        return [list(found) for found in wanted], finals

    def _read_in_loops(self) -> Iterator[tuple[int, tuple[str, int]]]:
        """Yield (group, what is read of it) for what is computed in the loop outside of that group's cell."""
        for k, loop in enumerate(self._values.loops):
            for j in range(len(loop.needs)):
                mine = self.home(k, j) if self.is_inside(k, j) else None
                reads = [("new", q) for q in sorted(loop.needs[j]) if self.is_inside(k, q)]
                for kind, q in [*reads, *(("old", p) for p in sorted(loop.needs_old[j]))]:
                    owner = self.home(k, q)
                    if owner is not None and owner != mine:
                        yield owner, (kind, q)

    def _collected(self) -> list[tuple[int, int]]:
        """Return (loop, place) of what the network reads of all iterations and a cell computes."""
        values = [self._values.unrolled.values[n] for n in sorted(self._values.alive)]
        found = [one for value in values for one in self._values.collected_by(value) or ()]
        return [(k, j) for k, j in found if self.is_inside(k, j)]

    def _read_last(self) -> list[tuple[int, int]]:
        """Return (loop, place) of what the network reads after the last iteration, other loops included."""
        known, values = self._values, self._values.unrolled.values
        own = [{n for iteration in loop.iterations for n in iteration} for loop in known.loops]
        read = {m for n in known.alive for m in values[n].reads() if m in known.last and n not in own[known.last[m][0]]}
        return [known.last[n] for n in sorted(read | {known.unrolled.result}) if n in known.last]

    def home(self, k: int, j: int) -> int | None:
        """Return the group that computes or carries a place."""
        found = (g for g, one in enumerate(self.groups) if one.loop == k and j in one.inside | set(one.carried))
        return next(found, None)

    def is_inside(self, k: int, j: int) -> bool:
        """Whether a place is computed by a cell."""
        return any(group.loop == k and j in group.inside for group in self.groups)

    def order(self, g: int) -> list[int]:
        """Return a group's carried places, first what others read: the hidden state comes before the cell state."""
        read = [j for _, j in self.wanted[g]]
        rank = {j: 0 if j in read else 1 if j in self.finals[g] else 2 for j in self.groups[g].carried}
        return sorted(self.groups[g].carried, key=lambda j: (rank[j], j))
