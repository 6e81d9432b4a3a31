"""The loop in what was unrolled: which values every step repeats, and what each step hands to the next.

A value that has seen the steps 0 to k belongs to step k of a loop forwards, one that has seen k to T - 1 to a loop
backwards. The values of one step in the middle are held against those of the step before: where all agree but for the
step's number, arguments that lie one step back are what is carried. From there every other step is foretold, from the
first to the last; a loop in which any step differs is none.

Rules of this file: it finds or finds not, and builds nothing; what it found is proved later, on runs (rolled.py).
"""

from dataclasses import dataclass
from typing import Any, Final

from .unrolled import STEP, Ref, Unrolled, refs_in, replace_refs

NONE_FOUND: Final = "no loop over time was found in it"
_UNLIKE: Final = (
    "its loop over time does not do the same in every step; let each step do what the others do, the first from zeros"
)
# Computed by the next turn even where as much has to be carried for it: products, so that states are carried and not
# products with them, and what only lays a tensor out.
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
_MIDDLE: Final = 2  # a step that has two before it and two behind it, for any T of 5 or more


class NoLoopError(Exception):
    """There is no loop, or its steps are not alike; the text says which."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loop:
    """One direction of a loop.

    Attributes:
        reverse: whether it runs from the last step to the first.
        turns: for each turn of the loop, in its own order, value numbers by place: ``turns[k][j]`` does in turn k what
            ``turns[0][j]`` does in the first. In the last turn None stands where nobody needed the value.
        carried: places whose value the next turn reads, each with the value that the first turn reads instead.
        needs: for each place the places of the same turn that it reads.
        needs_old: for each place the carried places of the turn before that it reads.
    """

    reverse: bool
    turns: tuple[tuple[int | None, ...], ...]
    carried: dict[int, int]
    needs: tuple[frozenset[int], ...]
    needs_old: tuple[frozenset[int], ...]

    def step_of(self, turn: int) -> int:
        """Return which step of the sequence a turn reads."""
        return len(self.turns) - 1 - turn if self.reverse else turn


def find_loops(unrolled: Unrolled) -> list[Loop]:
    """Return the loops over time, one or one for each direction.

    Raises:
        NoLoopError: none, or steps that differ.
    """
    loops = [loop for reverse in (False, True) if (loop := _Finder(unrolled, reverse=reverse).find()) is not None]
    if not loops:
        raise NoLoopError(NONE_FOUND)
    return loops


class _Finder:
    def __init__(self, unrolled: Unrolled, *, reverse: bool) -> None:
        self._unrolled = unrolled
        self._reverse = reverse
        self._T = unrolled.steps
        self._alive = unrolled.reachable()
        self._steps = {number: unrolled.values[number].steps for number in self._alive}

    def find(self) -> Loop | None:
        now, before = self._places(_MIDDLE), self._places(_MIDDLE - 1)
        if not any(self._steps[number] == self._seen(_MIDDLE) for number in now):
            return None
        if [self._target(n) for n in now] != [self._target(n) for n in before]:
            raise NoLoopError(_UNLIKE)
        late = self._late(now)
        # What only the next turn reads may be computed there; such values of the turn before come first in a turn.
        middle = [before[j] for j in late] + [n for j, n in enumerate(now) if j not in late]
        kept = [n for j, n in enumerate(before) if j not in late]
        place, old = {n: j for j, n in enumerate(middle)}, {n: j + len(late) for j, n in enumerate(kept)}
        needs, needs_old = [], []
        for number in middle:
            reads = set(refs_in((self._value(number).args, self._value(number).kwargs)))
            needs.append(frozenset(place[n] for n in reads if n in place))
            needs_old.append(frozenset(old[n] for n in reads if n in old and n not in place))
            stray = [n for n in reads if n not in place and n not in old and self._steps[n]]
            if stray:
                raise NoLoopError("a step of its loop over time looks further back than the step before")
        turns, initial = self._all_turns(middle, place, old, len(late))
        return Loop(
            reverse=self._reverse,
            turns=tuple(turns),
            carried=initial,
            needs=tuple(needs),
            needs_old=tuple(needs_old),
        )

    def _late(self, now: list[int]) -> list[int]:
        """Return which of a turn's values had better be computed by the next one.

        A product with what is carried has seen no new step, so it looks as if it belonged to the turn before. It goes
        to the next where nothing else reads it and less has to be carried for it.
        """
        users: dict[int, set[int]] = {n: set() for n in now}
        for number in self._alive:
            for n in refs_in((self._value(number).args, self._value(number).kwargs)):
                if n in users:
                    users[n].add(number)
        users.get(self._unrolled.result, set()).add(-1)
        late: set[int] = set()
        while True:
            found = next(
                (group for group in self._groups_carried(users, late) if self._gains(group, users, late)), None
            )
            if found is None:
                return [j for j, number in enumerate(now) if number in late]
            late |= found

    def _is_later(self, number: int, late: set[int]) -> bool:
        return number in late or (number >= 0 and self._steps[number] == self._seen(_MIDDLE + 1))

    def _groups_carried(self, users: dict[int, set[int]], late: set[int]) -> list[set[int]]:
        """Return what the next turn reads, each value with the elements of the list that it comes from."""
        carried = [n for n in users if n not in late and any(self._is_later(u, late) for u in users[n])]
        groups = [self._with_siblings(number, users) for number in reversed(carried)]
        return [one for one in groups if all(n in carried or self._value(n).shape is None for n in one)]

    def _gains(self, group: set[int], users: dict[int, set[int]], late: set[int]) -> bool:
        """Whether less has to be carried, or as much but not products, where the next turn computes a group."""
        if not all(self._is_later(u, late) or u in group for n in group for u in users[n]):
            return False
        reads = {r for n in group for r in refs_in((self._value(n).args, self._value(n).kwargs)) if r in users}
        if any(self._steps[n] != self._seen(_MIDDLE) for n in group | reads):
            return False
        read_anyway = {n for n in reads if any(self._is_later(u, late) for u in users[n])}
        added = sum(self._width(n) for n in reads - group - read_anyway)
        spared = sum(self._width(n) for n in group)
        eager = len(group) > 1 or any(str(self._target(n)).startswith(_MOVED_ANYHOW) for n in group)
        return added < spared or (added == spared and eager)

    def _with_siblings(self, number: int, users: dict[int, set[int]]) -> set[int]:
        """Return a value with the list that it is an element of, and that list's other elements."""
        group = {number}
        for source in refs_in(self._value(number).args):
            if self._value(source).shape is None and source in users:
                group |= {source, *users[source]}
        return group

    def _width(self, number: int) -> int:
        width = 1
        for size in self._value(number).shape or ():
            width *= size if isinstance(size, int) else 1
        return 0 if self._value(number).shape is None else width

    def _all_turns(
        self, middle: list[int], place: dict[int, int], old: dict[int, int], late: int
    ) -> tuple[list[tuple[int | None, ...]], dict[int, int]]:
        first, initial = self._first_turn(middle, place, old, late)
        turns = [first]
        for turn in range(1, self._T):
            turns.append(self._foretold(middle, place, old, turns[-1], turn))
        self._check_all_covered(turns)
        return turns, initial

    def _value(self, number: int) -> Any:
        return self._unrolled.values[number]

    def _target(self, number: int) -> Any:
        return self._value(number).target

    def _at(self, turn: int) -> int:
        return self._T - 1 - turn if self._reverse else turn

    def _seen(self, turn: int) -> int:
        """Return the steps that turn ``turn`` of the loop has seen, as Value.steps."""
        return sum(1 << self._at(k) for k in range(turn + 1))

    def _places(self, turn: int) -> list[int]:
        """Return the values of a turn: those that have seen just its steps, and what they need of its step alone."""
        found = {number for number in self._alive if self._steps[number] == self._seen(turn)}
        open_ = list(found)
        while open_:
            value = self._value(open_.pop())
            for number in refs_in((value.args, value.kwargs)):
                if self._steps[number] == 1 << self._at(turn) and number not in found:
                    found.add(number)
                    open_.append(number)
        return sorted(found)

    def _first_turn(
        self, middle: list[int], place: dict[int, int], old: dict[int, int], late: int
    ) -> tuple[tuple[int | None, ...], dict[int, int]]:
        """Match the first turn, whose old values came from before the loop; returns it and what they were."""
        candidates = [number for number in self._alive if self._steps[number] == 1 << self._at(0)]
        free = [number for number in self._alive if not self._steps[number]]
        initial: dict[int, int] = {}
        turn: list[int | None] = []
        for j, number in enumerate(middle):
            for candidate in free if j < late else candidates:
                assigned = self._agree(number, candidate, place, old, turn, initial)
                if assigned is not None:
                    initial |= assigned
                    turn.append(candidate)
                    break
            else:
                raise NoLoopError(_UNLIKE)
        return tuple(turn), initial

    def _agree(
        self,
        number: int,
        candidate: int,
        place: dict[int, int],
        old: dict[int, int],
        turn: list[int | None],
        initial: dict[int, int],
    ) -> dict[int, int] | None:
        """Return which initial values make a value of the first turn what a later one is, or None where none do."""
        later, first = self._value(number), self._value(candidate)
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
            if a.number in place:
                return turn[place[a.number]] == b.number
            if a.number in old:
                known = initial.get(old[a.number], assigned.get(old[a.number], b.number))
                assigned[old[a.number]] = b.number
                return known == b.number and not self._steps[b.number]
            return a.number == b.number

        return assigned if agree((later.args, later.kwargs), (first.args, first.kwargs)) else None

    def _foretold(
        self, middle: list[int], place: dict[int, int], old: dict[int, int], before: tuple[int | None, ...], turn: int
    ) -> tuple[int | None, ...]:
        """Find each value of a turn from those of the turn before."""
        found: list[int | None] = []

        def moved(number: int) -> Any:
            if number in place:
                return _known(found[place[number]])
            if number in old:
                return _known(before[old[number]])
            return Ref(number)

        for number in middle:
            value = self._value(number)
            if value.target == STEP:
                args: Any = (value.args[0], value.args[1], self._at(turn))
                found.append(self._unrolled.find(STEP, args, value.kwargs))
                continue
            try:
                args, kwargs = replace_refs(value.args, moved), replace_refs(value.kwargs, moved)
            except _DeadError:
                found.append(None)
                continue
            found.append(self._unrolled.find(value.target, args, kwargs))
        if turn < self._T - 1 and None in found:
            raise NoLoopError(_UNLIKE)
        alive = set(self._alive)
        return tuple(n if n in alive else None for n in found) if turn == self._T - 1 else tuple(found)

    def _check_all_covered(self, turns: list[tuple[int | None, ...]]) -> None:
        for turn in range(1, self._T - 2):
            known = set(turns[turn]) | set(turns[turn + 1])
            if any(self._steps[n] == self._seen(turn) and n not in known for n in self._alive):
                raise NoLoopError(_UNLIKE)


class _DeadError(Exception):
    """A value of the last turn reads one that nobody needed."""


def _known(number: int | None) -> Ref:
    if number is None:
        raise _DeadError
    return Ref(number)
