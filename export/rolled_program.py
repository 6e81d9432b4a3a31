"""A network with its loop rolled up again: what stands before the loop, recurrent layers, and what stands after it.

What is carried falls into groups that need each other; each group is a recurrent layer over a cell of its own, so two
cells in one loop become two layers. What a step computes apart from that, before, between and after its cells, is not
bound to its step: it becomes one operation over the rows of all steps.

Rules of this file: a program is plain data, so that the programs of two lengths can be held against each other; numbers
that differ between them are numbers of steps, and become that.
"""

import operator
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import torch

from . import step_rows
from .rolled_loop import Loop, NoLoopError
from .unrolled import INPUT, ROWS, STEP, WEIGHT, Ref, Unrolled, Value, refs_in, replace_refs

_aten = torch.ops.aten
CELL: Final = "cell"
STEPS_ROW: Final = 2
"""The row of a program that holds T: the sequence is row 0, B row 1."""
_MIDDLE: Final = 2  # the turn of which the places are read


@dataclass(frozen=True, slots=True)
class Steps:
    """A number that depends on how many steps there are: a * T + b."""

    a: int
    b: int


@dataclass(frozen=True, slots=True)
class Row:
    """One operation of a program; Refs in it are to rows before it."""

    target: Any
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()


@dataclass(kw_only=True, slots=True)
class Cell:
    """One group of carried values as a cell: rows from (x [B, I], states [B, W]) to (output [B, O], new states).

    Attributes:
        rows: the first are INPUT, for x and each state.
        results: output and new states.
    """

    reverse: bool
    input_dim: int
    widths: tuple[int, ...]
    output_dim: int
    rows: list[Row] = field(default_factory=list)
    results: tuple[Ref, ...] = ()


@dataclass(kw_only=True, slots=True)
class Program:
    """Rows from the sequence to the output; a CELL row calls a layer with (sequence [B, T, I], initial states)."""

    rows: list[Row]
    result: Ref
    cells: list[Cell]


def program_of(unrolled: Unrolled, loops: list[Loop], batch_axis: int) -> Program:
    """Return the program that rolls ``loops`` up.

    Raises:
        NoLoopError: the loop's values are used in a way that is not known.
    """
    return _Builder(unrolled, loops, batch_axis).program()


def merge(first: Program, second: Program, steps: tuple[int, int]) -> Program:
    """Return the program for any number of steps of those for two.

    Raises:
        NoLoopError: they differ in more than numbers of steps.
    """
    if len(first.cells) != len(second.cells) or first.result != second.result:
        raise NoLoopError(_LENGTHS_DIFFER)
    for a, b in zip(first.cells, second.cells, strict=True):
        if a != b:
            raise NoLoopError("a step of its loop over time depends on how many steps there are")
    if len(first.rows) != len(second.rows):
        raise NoLoopError(_LENGTHS_DIFFER)
    rows = [
        Row(a.target, _merged(a.args, b.args, steps), _merged(a.kwargs, b.kwargs, steps))
        for a, b in zip(first.rows, second.rows, strict=True)
        if _same_target(a, b)
    ]
    return Program(rows=rows, result=first.result, cells=first.cells)


_AFFINE: Final = frozenset(
    {_aten.linear.default, _aten.addmm.default, _aten.mm.default, _aten.matmul.default, _aten.add.Tensor}
)
_LENGTHS_DIFFER: Final = "what it does beside its loop over time depends on how many steps there are"


def _same_target(a: Row, b: Row) -> bool:
    if a.target != b.target:
        raise NoLoopError(_LENGTHS_DIFFER)
    return True


def _merged(a: Any, b: Any, steps: tuple[int, int]) -> Any:
    if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        return tuple(_merged(p, q, steps) for p, q in zip(a, b, strict=True))
    if type(a) is type(b) and a == b:
        return a
    if type(a) is int and type(b) is int:
        factor, rest = divmod(b - a, steps[1] - steps[0])
        if rest == 0:
            return Steps(factor, a - factor * steps[0])
    raise NoLoopError(_LENGTHS_DIFFER)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Group:
    """Carried places that need each other, and the places that only their cell can compute."""

    loop: int
    carried: tuple[int, ...]
    region: frozenset[int]


class _Rows:
    """Rows under construction, equal ones once."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._known: dict[Row, Ref] = {}

    def add(self, target: Any, *args: Any, kwargs: tuple[tuple[str, Any], ...] = ()) -> Ref:
        row = Row(target, args, kwargs)
        if row not in self._known or target == INPUT:
            self._known[row] = Ref(len(self.rows))
            self.rows.append(row)
        return self._known[row]


class _Builder:
    def __init__(self, unrolled: Unrolled, loops: list[Loop], batch_axis: int) -> None:
        self._unrolled = unrolled
        self._loops = loops
        self._rows = _Rows()
        self._batch_axis = batch_axis
        self._memo: dict[Any, Ref] = {}
        self._alive = set(unrolled.reachable())
        self._last = {n: (k, j) for k, loop in enumerate(loops) for j, n in enumerate(loop.turns[-1]) if n is not None}
        self._in_turns = {n for loop in loops for turn in loop.turns for n in turn}
        self._place = [{n: j for j, n in enumerate(loop.turns[_MIDDLE])} for loop in loops]
        self._old = [{n: j for j, n in enumerate(loop.turns[_MIDDLE - 1])} for loop in loops]
        self._floats = [name for name, tensor in unrolled.weights.items() if tensor.is_floating_point()]
        self._data: dict[int, bool] = {}
        self._called: dict[int, Ref] = {}  # group number: its CELL row
        self._cells: list[Cell] = []

    def program(self) -> Program:
        self._x = self._rows.add(INPUT)
        self._B = self._rows.add(_aten.sym_size.int, self._x, self._batch_axis)
        self._T = self._rows.add(_aten.sym_size.int, self._x, 1 - self._batch_axis)
        self._BT = self._rows.add(operator.mul, self._B, self._T)
        self._groups = [group for k in range(len(self._loops)) for group in self._grouped(k)]
        self._wanted = self._find_wanted()
        result = self._outer(self._unrolled.result)
        return Program(rows=self._rows.rows, result=result, cells=self._cells)

    # What belongs together.

    def _grouped(self, number: int) -> list[_Group]:
        """Return the groups of a loop's carried places, each after those that it needs."""
        loop = self._loops[number]
        reached: list[frozenset[int]] = []  # for each place the carried places of the turn before that it depends on
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
            region = frozenset(j for j in above if reached[j] & set(members))
            groups.append(_Group(loop=number, carried=members, region=region | self._affine_above(number, region)))
        return groups

    def _affine_above(self, number: int, region: frozenset[int]) -> set[int]:
        """Return the products of a cell's input, which only it reads: with them the cell is what its author wrote."""
        loop = self._loops[number]
        readers: list[set[int]] = [set() for _ in loop.needs]
        for j, needs in enumerate(loop.needs):
            for q in needs:
                readers[q].add(j)
        elsewhere = {
            j for value in (self._unrolled.values[n] for n in self._alive) for _, j in self._collected_by(value) or ()
        }
        pulled: set[int] = set()
        for j in reversed(range(len(loop.needs))):
            value = self._unrolled.values[loop.turns[_MIDDLE][j]]  # type: ignore[index] # the middle has every place
            inside = bool(readers[j]) and readers[j] <= region | pulled and j not in elsewhere and j not in region
            if inside and value.target in _AFFINE and not loop.needs_old[j] and j not in loop.carried:
                pulled.add(j)
        return pulled

    def _find_wanted(self) -> list[list[tuple[str, int]]]:
        """Return for each group what others read of it at every step: places, and carried values of the step before."""
        wanted: list[dict[tuple[str, int], None]] = [{} for _ in self._groups]
        self._finals: list[set[int]] = [set() for _ in self._groups]
        for k, loop in enumerate(self._loops):
            for j in range(len(loop.needs)):
                mine = self._home(k, j) if self._is_inside(k, j) else None
                reads = [("new", q) for q in sorted(loop.needs[j]) if self._is_inside(k, q)]
                for kind, q in [*reads, *(("old", p) for p in sorted(loop.needs_old[j]))]:
                    owner = self._home(k, q)
                    if owner is not None and owner != mine:
                        wanted[owner][(kind, q)] = None
        for k, j in self._collected():
            owner = self._home(k, j)
            if owner is not None:
                wanted[owner][("new", j)] = None
        for k, j in self._read_last():
            owner = self._home(k, j)
            if owner is not None and j in self._groups[owner].carried:
                self._finals[owner].add(j)
            elif owner is not None:
                wanted[owner][("new", j)] = None
        return [list(found) for found in wanted]

    def _collected(self) -> list[tuple[int, int]]:
        """Return (loop, place) of what the network reads of all turns and a cell computes."""
        values = [self._unrolled.values[n] for n in sorted(self._alive)]
        found = [one for value in values for one in self._collected_by(value) or ()]
        return [(k, j) for k, j in found if self._is_inside(k, j)]

    def _read_last(self) -> list[tuple[int, int]]:
        """Return (loop, place) of what the network reads after the last turn."""
        outside = [n for n in self._alive if n not in self._in_turns and self._unrolled.values[n].steps]
        read = {m for n in outside for m in refs_in((self._unrolled.values[n].args, self._unrolled.values[n].kwargs))}
        return [self._last[n] for n in sorted(read | {self._unrolled.result}) if n in self._last]

    def _home(self, k: int, j: int) -> int | None:
        """Return the group that computes or carries a place."""
        found = (g for g, one in enumerate(self._groups) if one.loop == k and j in one.region | set(one.carried))
        return next(found, None)

    def _is_inside(self, k: int, j: int) -> bool:
        """Whether a place is computed by a cell."""
        return any(group.loop == k and j in group.region for group in self._groups)

    def _collected_by(self, value: Value) -> list[tuple[int, int]] | None:
        """Return (loop, place) if a value joins one place of all turns, in the order of the steps or against it."""
        found = self._collection(value)
        return None if found is None else [found[:2]]

    def _collection(self, value: Value) -> tuple[int, int, bool] | None:
        if value.target not in {_aten.stack.default, _aten.cat.default} or len(value.args[0]) != self._unrolled.steps:
            return None
        numbers = [part.number for part in value.args[0] if isinstance(part, Ref)]
        for k, loop in enumerate(self._loops):
            for j in range(len(loop.needs)):
                turns = [turn[j] for turn in loop.turns]
                if numbers in (turns, turns[::-1]):
                    return k, j, (numbers == turns) == loop.reverse
        return None

    # Rows of the network around its cells.

    def _outer(self, number: int) -> Ref:
        key = ("outer", number)
        if key not in self._memo:
            self._memo[key] = self._make_outer(number)
        return self._memo[key]

    def _make_outer(self, number: int) -> Ref:
        value = self._unrolled.values[number]
        if not value.steps:
            return self._free(number, self._rows, self._B, self._outer)
        if number in self._last:
            return self._last_of(*self._last[number])
        collection = self._collection(value)
        if collection is not None:
            k, j, against = collection
            sequence = self._sequence(k, j)
            if against:
                sequence = self._rows.add(torch.flip, sequence, (1,))
            batch_axis, rest = self._shape(k, j)
            lay = step_rows.stacked if value.target is _aten.stack.default else step_rows.joined
            rank = len(value.shape or ())
            axis = int(value.args[1] if len(value.args) > 1 else 0) % rank
            return self._rows.add(lay, sequence, batch_axis, rest, self._B, self._T, axis)
        if number in self._in_turns or value.target in {STEP, "filled"}:
            raise NoLoopError("what follows its loop over time reads single steps of it")
        return self._operation(value, self._rows, self._outer)

    def _operation(self, value: Value, rows: _Rows, ref: Any) -> Ref:
        args, kwargs = replace_refs(value.args, ref), replace_refs(value.kwargs, ref)
        row = rows.add(value.target, *args, kwargs=kwargs)
        sizes = all(self._unrolled.values[n].shape is None for n in refs_in((value.args, value.kwargs)))
        made_here = sizes and value.target is not operator.getitem  # zeros and the like, from sizes alone
        told = any(name == "dtype" and dtype is torch.float32 for name, dtype in value.kwargs)
        if value.dtype is torch.float32 and (made_here or told) and self._floats:
            row = rows.add(step_rows.like, row, rows.add(WEIGHT, self._floats[0]))
        return row

    def _free(self, number: int, rows: _Rows, size: Ref, ref: Any) -> Ref:
        """Add a value that no step went into."""
        value = self._unrolled.values[number]
        if value.target == INPUT:
            return self._x
        if value.target == ROWS:
            return size
        if value.target == WEIGHT:
            return rows.add(WEIGHT, value.args[0])
        return self._operation(value, rows, ref)

    def _reads_data(self, number: int) -> bool:
        """Whether the sequence's values, not only its size, went into a value."""
        if number not in self._data:
            value = self._unrolled.values[number]
            inner = any(self._reads_data(n) for n in refs_in((value.args, value.kwargs)))
            self._data[number] = value.target == INPUT or inner
        return self._data[number]

    def _shape(self, k: int, j: int) -> tuple[int, tuple[int, ...]]:
        return self._laid_out(self._loops[k].turns[_MIDDLE][j])

    def _laid_out(self, number: int | None) -> tuple[int, tuple[int, ...]]:
        """Return (axis of the batch, the other sizes) of a step's value."""
        assert number is not None
        shape = self._unrolled.values[number].shape
        if shape is None or shape.count("B") != 1 or "?" in shape:
            raise NoLoopError("a step of its loop over time mixes the batch with something else")
        axis = shape.index("B")
        return axis, shape[:axis] + shape[axis + 1 :]

    def _last_of(self, k: int, j: int) -> Ref:
        """Return the value of a place after the last turn."""
        batch_axis, rest = self._shape(k, j)
        for g, group in enumerate(self._groups):
            if group.loop == k and j in group.carried:
                final = self._rows.add(operator.getitem, self._call(g), 1)
                order = self._order(g)
                if len(order) > 1:
                    final = self._rows.add(operator.getitem, final, order.index(j))
                return self._rows.add(step_rows.step_of_state, final, batch_axis, rest)
        if self._loops[k].reverse:
            raise NoLoopError("what follows its loop backwards reads the first step of it")
        return self._rows.add(step_rows.last_step, self._sequence(k, j), batch_axis, rest)

    # A step's values for all steps.

    def _rows_of(self, k: int, j: int) -> Ref:
        """Return a place of all turns as rows."""
        key = ("rows", k, j)
        if key not in self._memo:
            number = self._loops[k].turns[_MIDDLE][j]
            assert number is not None
            value = self._unrolled.values[number]
            if value.target == STEP or self._is_inside(k, j):
                batch_axis, rest = self._shape(k, j)
                sequence = self._sequence(k, j)
                self._memo[key] = self._rows.add(
                    step_rows.rows_of_sequence, sequence, batch_axis, rest, self._B, self._T
                )
            else:
                self._memo[key] = self._operation(value, self._rows, lambda n: self._in_rows(k, n))
        return self._memo[key]

    def _in_rows(self, k: int, number: int) -> Ref:
        """Return an argument of a step's operation as rows."""
        if number in self._place[k]:
            return self._rows_of(k, self._place[k][number])
        if number in self._old[k]:
            place = self._old[k][number]
            batch_axis, rest = self._shape(k, place)
            sequence = self._given(k, "old", place)
            return self._rows.add(step_rows.rows_of_sequence, sequence, batch_axis, rest, self._B, self._T)
        value = self._unrolled.values[number]
        if not self._reads_data(number):
            key = ("free", number)
            if key not in self._memo:
                self._memo[key] = self._free(number, self._rows, self._BT, lambda n: self._in_rows(k, n))
            return self._memo[key]
        if value.shape is None or "B" not in value.shape:
            return self._outer(number)
        batch_axis, _ = self._laid_out(number)
        return self._rows.add(step_rows.rows_of_constant, self._outer(number), batch_axis, self._B, self._T)

    def _sequence(self, k: int, j: int) -> Ref:
        """Return a place of all turns as [B, T, W], in the order of the steps."""
        number = self._loops[k].turns[_MIDDLE][j]
        assert number is not None
        value = self._unrolled.values[number]
        batch_axis, _ = self._shape(k, j)
        if value.target == STEP:
            source, time_axis, _ = value.args
            batch_axis += batch_axis >= time_axis
            return self._rows.add(step_rows.sequence_of_slices, self._outer(source.number), time_axis, batch_axis)
        if self._is_inside(k, j):
            return self._given(k, "new", j)
        return self._rows.add(step_rows.sequence_of_rows, self._rows_of(k, j), batch_axis, self._B, self._T)

    # The cells.

    def _order(self, g: int) -> list[int]:
        """Return a group's carried places, first what others read: the hidden state comes before the cell state."""
        read = [j for _, j in self._wanted[g]]
        rank = {j: 0 if j in read else 1 if j in self._finals[g] else 2 for j in self._groups[g].carried}
        return sorted(self._groups[g].carried, key=lambda j: (rank[j], j))

    def _given(self, k: int, kind: str, j: int) -> Ref:
        """Return what a cell gives at every step as [B, T, W]."""
        for g, group in enumerate(self._groups):
            if group.loop == k and (kind, j) in self._wanted[g]:
                output = self._rows.add(operator.getitem, self._call(g), 0)
                start = 0
                for one in self._wanted[g]:
                    width = _width(self._shape(k, one[1])[1])
                    if one == (kind, j):
                        break
                    start += width
                if len(self._wanted[g]) == 1:
                    return output
                return self._rows.add(step_rows.part, output, start, width)
        raise NoLoopError("its loop over time is wound up in a way that is not known")

    def _call(self, g: int) -> Ref:
        if g not in self._called:
            maker = _CellMaker(self, g)
            cell, inputs = maker.make()
            states = []
            for p in self._order(g):
                batch_axis, rest = self._shape(self._groups[g].loop, p)
                start = self._outer(self._loops[self._groups[g].loop].carried[p])
                states.append(self._rows.add(step_rows.state_of, start, batch_axis, rest, self._B))
            sequence = self._rows.add(step_rows.side_by_side, tuple(inputs)) if len(inputs) > 1 else inputs[0]
            self._called[g] = self._rows.add(CELL, len(self._cells), sequence, tuple(states))
            self._cells.append(cell)
        return self._called[g]


class _CellMaker:
    """Makes one group's cell, and the sequences that it reads."""

    def __init__(self, builder: _Builder, g: int) -> None:
        self._builder = builder
        self._group = builder._groups[g]  # noqa: SLF001 - one builder in two classes
        self._loop = builder._loops[self._group.loop]  # noqa: SLF001
        self._order = builder._order(g)  # noqa: SLF001
        self._wanted = builder._wanted[g]  # noqa: SLF001
        self._rows = _Rows()
        self._inputs: dict[tuple[str, int], tuple[int, int]] = {}  # what: (where it starts, its width)
        self._input_rows: list[Ref] = []
        self._width = 0
        self._memo: dict[Any, Ref] = {}

    def make(self) -> tuple[Cell, list[Ref]]:
        self._x = self._rows.add(INPUT)
        self._states = {p: self._rows.add(INPUT) for p in self._order}
        self._size = self._rows.add(_aten.sym_size.int, self._x, 0)
        outputs = [self._flat(self._old(j) if kind == "old" else self._new(j), j) for kind, j in self._wanted]
        new = [self._flat(self._new(p), p) for p in self._order]
        output = self._rows.add(step_rows.side_by_side, tuple(outputs)) if len(outputs) > 1 else (outputs or new)[0]
        widths = tuple(_width(self._shape(p)[1]) for p in self._order)
        output_dim = sum(_width(self._shape(j)[1]) for _, j in self._wanted) or widths[0]
        if not self._inputs:
            raise NoLoopError("its loop over time reads no step of the sequence")
        cell = Cell(
            reverse=self._loop.reverse,
            input_dim=self._width,
            widths=widths,
            output_dim=output_dim,
            rows=self._rows.rows,
            results=(output, *new),
        )
        return cell, self._input_rows

    def _shape(self, j: int) -> tuple[int, tuple[int, ...]]:
        return self._builder._shape(self._group.loop, j)  # noqa: SLF001

    def _flat(self, row: Ref, j: int) -> Ref:
        batch_axis, rest = self._shape(j)
        return row if batch_axis == 0 and len(rest) == 1 else self._rows.add(step_rows.state_of_step, row, batch_axis)

    def _unflat(self, row: Ref, batch_axis: int, rest: tuple[int, ...]) -> Ref:
        if batch_axis == 0 and len(rest) == 1:
            return row
        return self._rows.add(step_rows.step_of_state, row, batch_axis, rest)

    def _old(self, p: int) -> Ref:
        return self._unflat(self._states[p], *self._shape(p))

    def _new(self, j: int) -> Ref:
        if j not in self._group.region:
            return self._read("new", j, self._shape(j))
        if j not in self._memo:
            value = self._builder._unrolled.values[self._loop.turns[_MIDDLE][j]]  # type: ignore[index] # noqa: SLF001
            self._memo[j] = self._builder._operation(value, self._rows, self._argument)  # noqa: SLF001
        return self._memo[j]

    def _argument(self, number: int) -> Ref:
        k, builder = self._group.loop, self._builder
        if number in builder._place[k]:  # noqa: SLF001
            return self._new(builder._place[k][number])  # noqa: SLF001
        if number in builder._old[k]:  # noqa: SLF001
            place = builder._old[k][number]  # noqa: SLF001
            return self._old(place) if place in self._states else self._read("old", place, self._shape(place))
        if builder._reads_data(number):  # noqa: SLF001
            return self._read("constant", number, builder._laid_out(number))  # noqa: SLF001
        key = ("free", number)
        if key not in self._memo:
            self._memo[key] = builder._free(number, self._rows, self._size, self._argument)  # noqa: SLF001
        return self._memo[key]

    def _read(self, kind: str, which: int, shape: tuple[int, tuple[int, ...]]) -> Ref:
        """Return a part of x that holds what is computed outside."""
        k, builder = self._group.loop, self._builder
        batch_axis, rest = shape
        if (kind, which) not in self._inputs:
            if kind == "constant":
                rows = builder._in_rows(k, which)  # noqa: SLF001
                row = builder._rows.add(step_rows.sequence_of_rows, rows, batch_axis, builder._B, builder._T)  # noqa: SLF001
            else:
                row = builder._sequence(k, which) if kind == "new" else builder._given(k, "old", which)  # noqa: SLF001
            self._inputs[(kind, which)] = (self._width, _width(rest))
            self._input_rows.append(row)
            self._width += _width(rest)
        start, width = self._inputs[(kind, which)]
        # Whether it is all of x is known when all is read; a part that is all of it does no harm.
        row = self._unflat(self._rows.add(step_rows.part, self._x, start, width), batch_axis, rest)
        source = which if kind == "constant" else self._loop.turns[_MIDDLE][which]
        # Side by side with numbers, truth values became numbers.
        truth = builder._unrolled.values[source].dtype == torch.bool  # type: ignore[index] # noqa: SLF001
        return self._rows.add(_aten.ne.Scalar, row, 0) if truth else row


def _width(rest: Iterable[int]) -> int:
    width = 1
    for size in rest:
        width *= size
    return width
