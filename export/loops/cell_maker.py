"""One group of carried places as a cell, and the sequences that the cell reads.

A cell takes one tensor x [B, I] and its states [B, W], so all that it reads from outside is laid side by side in x: a
step of the sequence, what was computed of it before, outputs of other cells, values that are the same at every step.

Rules of this file: it writes the instructions of the cell; those of what it reads it asks of the builder.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from . import step_rows
from .loop import MIDDLE
from .program import Cell, Code
from .value import INPUT, Ref

if TYPE_CHECKING:
    from .cell_outputs import CellOutputs
    from .loop_values import LoopValues
    from .program_builder import ProgramBuilder

_aten = torch.ops.aten


class CellMaker:
    """Makes one group's cell, and the sequences that it reads."""

    def __init__(self, builder: ProgramBuilder, values: LoopValues, outputs: CellOutputs, g: int) -> None:
        self._builder = builder
        self._values = values
        self._group = outputs.groups[g]
        self._loop = values.loops[self._group.loop]
        self._order = outputs.order(g)
        self._wanted = outputs.wanted[g]
        self._code = Code()
        self._inputs: dict[tuple[str, int], tuple[int, int]] = {}  # what: (where it starts, its width)
        self._sequences: list[Ref] = []
        self._width = 0
        self._memo: dict[Any, Ref] = {}

    def make(self) -> tuple[Cell, list[Ref]]:
        """Return the cell, and the sequences [B, T, W] that make up its x."""
        self._x = self._code.add(INPUT)
        self._states = {p: self._code.add(INPUT) for p in self._order}
        self._size = self._code.add(_aten.sym_size.int, self._x, 0)
        outputs = [self._flat(self._old(j) if kind == "old" else self._new(j), j) for kind, j in self._wanted]
        new = [self._flat(self._new(p), p) for p in self._order]
        output = self._code.add(step_rows.side_by_side, tuple(outputs)) if len(outputs) > 1 else (outputs or new)[0]
        widths = tuple(math.prod(self._shape(p)[1]) for p in self._order)
        output_dim = sum(math.prod(self._shape(j)[1]) for _, j in self._wanted) or widths[0]
        if not self._inputs:  # it is fed by itself alone; a layer takes a sequence nevertheless
            builder = self._builder
            self._sequences, self._width = [builder.code.add(step_rows.blank, builder.x, builder.B, builder.T)], 1
        cell = Cell(
            reverse=self._loop.reverse,
            input_dim=self._width,
            widths=widths,
            output_dim=output_dim,
            instructions=self._code.instructions,
            results=(output, *new),
        )
        return cell, self._sequences

    def _shape(self, j: int) -> tuple[int, tuple[int, ...]]:
        return self._values.shape(self._group.loop, j)

    def _flat(self, made: Ref, j: int) -> Ref:
        batch_axis, rest = self._shape(j)
        if self._values.dtype(self._group.loop, j) is not None:
            made = self._builder.as_number(made, self._code)
        return made if batch_axis == 0 and len(rest) == 1 else self._code.add(step_rows.state_of_step, made, batch_axis)

    def _unflat(self, made: Ref, batch_axis: int, rest: tuple[int, ...]) -> Ref:
        if batch_axis == 0 and len(rest) == 1:
            return made
        return self._code.add(step_rows.step_of_state, made, batch_axis, rest)

    def _old(self, p: int) -> Ref:
        return self._as_it_was(self._unflat(self._states[p], *self._shape(p)), p)

    def _as_it_was(self, made: Ref, j: int) -> Ref:
        dtype = self._values.dtype(self._group.loop, j)
        return made if dtype is None else self._code.add(step_rows.as_it_was, made, dtype)

    def _new(self, j: int) -> Ref:
        if j not in self._group.inside:
            return self._read("new", j, self._shape(j))
        if j not in self._memo:
            value = self._values.at(self._group.loop, j)
            self._memo[j] = self._builder.operation(value, self._code, self._argument)
        return self._memo[j]

    def _argument(self, number: int) -> Ref:
        k, builder = self._group.loop, self._builder
        if number in self._values.place[k]:
            return self._new(self._values.place[k][number])
        if number in self._values.old[k]:
            place = self._values.old[k][number]
            return self._old(place) if place in self._states else self._read("old", place, self._shape(place))
        if self._values.reads_data(number):
            return self._read("constant", number, self._values.laid_out(number))
        key = ("free", number)
        if key not in self._memo:
            self._memo[key] = builder.free(number, self._code, self._size, self._argument)
        return self._memo[key]

    def _read(self, kind: str, which: int, shape: tuple[int, tuple[int, ...]]) -> Ref:
        """Return a part of x that holds what is computed outside."""
        k, builder = self._group.loop, self._builder
        batch_axis, rest = shape
        # A layer's sequence is of numbers, whatever its parts were; the cell makes of them again what they were.
        dtype = self._values.whole_dtype(which if kind == "constant" else self._loop.iterations[MIDDLE][which])
        if (kind, which) not in self._inputs:
            if kind == "constant":
                rows = builder.in_rows(k, which)
                made = builder.code.add(step_rows.sequence_of_rows, rows, batch_axis, builder.B, builder.T)
            else:
                made = builder.sequence(k, which) if kind == "new" else builder.given(k, "old", which)
            self._inputs[(kind, which)] = (self._width, math.prod(rest))
            self._sequences.append(made if dtype is None else builder.as_number(made, builder.code))
            self._width += math.prod(rest)
        start, width = self._inputs[(kind, which)]
        # Whether it is all of x is known when all is read; a part that is all of it does no harm.
        part = self._unflat(self._code.add(step_rows.part, self._x, start, width), batch_axis, rest)
        return part if dtype is None else self._code.add(step_rows.as_it_was, part, dtype)
