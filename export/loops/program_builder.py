"""The program that rolls loops up, written from the output backwards: each value asks for those that it reads.

A value outside the loop stays the operation that it was. A value of the loop that no cell computes, before, between and
after the cells, is not bound to its step, and becomes one operation over the steps of all rows at once (step_rows.py).
What remains is in the cells (cell_maker.py).

Rules of this file: it writes instructions; which cells there are, is decided (cell_outputs.py).
"""

import math
import operator
from collections.abc import Callable
from typing import Any

import torch

from . import step_rows
from .cell_maker import CellMaker
from .cell_outputs import CellOutputs
from .loop import Loop, NoLoopError
from .loop_values import LoopValues
from .program import CELL, Cell, Code, Program
from .unrolled import Unrolled
from .value import BATCH, FILLED, INPUT, STEP, WEIGHT, Reading, Ref, Value, replace_refs

_aten = torch.ops.aten


def program_of(unrolled: Unrolled, loops: list[Loop], batch_axis: int) -> Program:
    """Return the program that rolls ``loops`` up.

    Raises:
        NoLoopError: the loop's values are used in a way that is not known.
    """
    return ProgramBuilder(unrolled, loops, batch_axis).program()


class ProgramBuilder:
    """Writes a program.

    Attributes:
        code: of the program.
        x, B, T, BT: the sequence, the number of rows, of steps, and of both together.
    """

    def __init__(self, unrolled: Unrolled, loops: list[Loop], batch_axis: int) -> None:
        self._values = LoopValues(unrolled, loops)
        self._outputs = CellOutputs(self._values)
        self._memo: dict[Any, Ref] = {}
        self._called: dict[int, Ref] = {}  # group number: its CELL instruction
        self._cells: list[Cell] = []
        self.code = Code()
        self.x = self.code.add(INPUT)
        self.B = self.code.add(_aten.sym_size.int, self.x, batch_axis)
        self.T = self.code.add(_aten.sym_size.int, self.x, 1 - batch_axis)
        self.BT = self.code.add(operator.mul, self.B, self.T)

    def program(self) -> Program:
        """Return the whole program."""
        result = self.outer(self._values.unrolled.result)
        return Program(instructions=self.code.instructions, result=result, cells=self._cells)

    def outer(self, number: int) -> Ref:
        """Return a value that is computed once, not at every step."""
        key = ("outer", number)
        if key not in self._memo:
            self._memo[key] = self._make_outer(number)
        return self._memo[key]

    def _make_outer(self, number: int) -> Ref:
        value = self._values.unrolled.values[number]
        if not value.steps:
            return self.free(number, self.code, self.B, self.outer)
        if number in self._values.last:
            return self._last_of(*self._values.last[number])
        collection = self._values.collection(value)
        if collection is not None:
            k, j, against = collection
            sequence = self.sequence(k, j)
            if against:
                sequence = self.code.add(torch.flip, sequence, (1,))
            batch_axis, rest = self._values.shape(k, j)
            lay = step_rows.stacked if value.target is _aten.stack.default else step_rows.joined
            rank = len(value.shape or ())
            axis = int(value.args[1] if len(value.args) > 1 else 0) % rank
            return self.code.add(lay, sequence, batch_axis, rest, self.B, self.T, axis)
        if value.target == STEP and self._values.unrolled.reading is Reading.ANEW:
            source, axis, index = value.args
            return self.code.add(_aten.select.int, self.outer(source.number), axis, index)
        if number in self._values.in_iterations or value.target in {STEP, FILLED}:
            raise NoLoopError("what follows its loop over time reads single steps of it")
        return self.operation(value, self.code, self.outer)

    def _start(self, number: int) -> Ref:
        """Return what a loop begins with, which may have seen the first step of its sequence."""
        value = self._values.unrolled.values[number]
        if value.steps.bit_count() != 1:
            return self.outer(number)
        if value.target == STEP:
            source, axis, index = value.args
            return self.code.add(_aten.select.int, self.outer(source.number), axis, index)
        return self.operation(value, self.code, self._start)

    def operation(self, value: Value, code: Code, ref: Callable[[int], Ref]) -> Ref:
        """Write the operation of a value into ``code``; ``ref`` gives what it reads there."""
        args, kwargs = replace_refs(value.args, ref), replace_refs(value.kwargs, ref)
        made = code.add(value.target, *args, kwargs=kwargs)
        sizes = all(self._values.unrolled.values[n].shape is None for n in value.reads())
        made_here = sizes and value.target is not operator.getitem  # zeros and the like, from sizes alone
        told = any(name == "dtype" and dtype is torch.float32 for name, dtype in value.kwargs)
        if value.dtype is torch.float32 and (made_here or told) and self._values.floats:
            made = code.add(step_rows.like, made, code.add(WEIGHT, self._values.floats[0]))
        return made

    def free(self, number: int, code: Code, size: Ref, ref: Callable[[int], Ref]) -> Ref:
        """Write a value that no step went into; ``size`` is the number of rows there."""
        value = self._values.unrolled.values[number]
        if value.target == INPUT:
            return self.x
        if value.target == BATCH:
            return size
        if value.target == WEIGHT:
            return code.add(WEIGHT, value.args[0])
        return self.operation(value, code, ref)

    def _last_of(self, k: int, j: int) -> Ref:
        """Return the value of a place after the last iteration."""
        batch_axis, rest = self._values.shape(k, j)
        for g, group in enumerate(self._outputs.groups):
            if group.loop == k and j in group.carried:
                final = self.code.add(operator.getitem, self._call(g), 1)
                order = self._outputs.order(g)
                if len(order) > 1:
                    final = self.code.add(operator.getitem, final, order.index(j))
                return self._as_it_was(self.code.add(step_rows.step_of_state, final, batch_axis, rest), k, j)
        if self._values.loops[k].reverse:
            raise NoLoopError("what follows its loop backwards reads the first step of it")
        return self.code.add(step_rows.last_step, self.sequence(k, j), batch_axis, rest)

    def as_number(self, made: Ref, code: Code) -> Ref:
        """Write integers or truth values as the numbers that a layer carries and gives."""
        if not self._values.floats:
            raise NoLoopError("it has no weights, and its loop over time carries integers or truth values")
        return code.add(step_rows.as_number, made, code.add(WEIGHT, self._values.floats[0]))

    def _as_it_was(self, made: Ref, k: int, j: int) -> Ref:
        dtype = self._values.dtype(k, j)
        return made if dtype is None else self.code.add(step_rows.as_it_was, made, dtype)

    # The values of every step.

    def _rows_of(self, k: int, j: int) -> Ref:
        """Return a place of all iterations as rows."""
        key = ("rows", k, j)
        if key not in self._memo:
            value = self._values.at(k, j)
            if value.target == STEP or self._outputs.is_inside(k, j):
                batch_axis, rest = self._values.shape(k, j)
                sequence = self.sequence(k, j)
                self._memo[key] = self.code.add(step_rows.rows_of_sequence, sequence, batch_axis, rest, self.B, self.T)
            else:
                self._memo[key] = self.operation(value, self.code, lambda n: self.in_rows(k, n))
        return self._memo[key]

    def in_rows(self, k: int, number: int) -> Ref:
        """Return an argument of a step's operation as rows."""
        if number in self._values.place[k]:
            return self._rows_of(k, self._values.place[k][number])
        if number in self._values.old[k]:
            place = self._values.old[k][number]
            batch_axis, rest = self._values.shape(k, place)
            sequence = self.given(k, "old", place)
            return self.code.add(step_rows.rows_of_sequence, sequence, batch_axis, rest, self.B, self.T)
        value = self._values.unrolled.values[number]
        if not self._values.reads_data(number):
            key = ("free", number)
            if key not in self._memo:
                self._memo[key] = self.free(number, self.code, self.BT, lambda n: self.in_rows(k, n))
            return self._memo[key]
        if value.shape is None or "B" not in value.shape:
            return self.outer(number)
        batch_axis, _ = self._values.laid_out(number)
        return self.code.add(step_rows.rows_of_constant, self.outer(number), batch_axis, self.B, self.T)

    def sequence(self, k: int, j: int) -> Ref:
        """Return a place of all iterations as [B, T, W], in the order of the steps."""
        value = self._values.at(k, j)
        batch_axis, _ = self._values.shape(k, j)
        if value.target == STEP:
            source, time_axis, _ = value.args
            batch_axis += batch_axis >= time_axis
            return self.code.add(step_rows.sequence_of_slices, self.outer(source.number), time_axis, batch_axis)
        if self._outputs.is_inside(k, j):
            return self.given(k, "new", j)
        return self.code.add(step_rows.sequence_of_rows, self._rows_of(k, j), batch_axis, self.B, self.T)

    # The cells.

    def given(self, k: int, kind: str, j: int) -> Ref:
        """Return what a cell gives at every step as [B, T, W]."""
        for g, group in enumerate(self._outputs.groups):
            if group.loop == k and (kind, j) in self._outputs.wanted[g]:
                output = self.code.add(operator.getitem, self._call(g), 0)
                start = 0
                for one in self._outputs.wanted[g]:
                    width = math.prod(self._values.shape(k, one[1])[1])
                    if one == (kind, j):
                        break
                    start += width
                if len(self._outputs.wanted[g]) > 1:
                    output = self.code.add(step_rows.part, output, start, width)
                return self._as_it_was(output, k, j)
        raise NoLoopError("its loop over time is wound up in a way that is not known")

    def _call(self, g: int) -> Ref:
        if g not in self._called:
            maker = CellMaker(self, self._values, self._outputs, g)
            cell, inputs = maker.make()
            states = []
            for p in self._outputs.order(g):
                batch_axis, rest = self._values.shape(self._outputs.groups[g].loop, p)
                start = self._start(self._values.loops[self._outputs.groups[g].loop].carried[p])
                if self._values.dtype(self._outputs.groups[g].loop, p) is not None:
                    start = self.as_number(start, self.code)
                states.append(self.code.add(step_rows.state_of, start, batch_axis, rest, self.B))
            sequence = self.code.add(step_rows.side_by_side, tuple(inputs)) if len(inputs) > 1 else inputs[0]
            self._called[g] = self.code.add(CELL, len(self._cells), sequence, tuple(states))
            self._cells.append(cell)
        return self._called[g]
