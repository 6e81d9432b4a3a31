"""Values written anew, where arguments are steps of sequences of numbers or of rows in the place of constants.

Rules of this file: it writes what step_numbers.py found, and looks for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

from . import step_rows
from .step_rules import Rule
from .unrolled import Unrolled
from .value import BATCH, STEP, Ref, Value, refs_in, replace_refs

_aten = torch.ops.aten
# What gives a row of a table another form.
FORMS_OF_ROWS: Final = frozenset(
    {_aten.unsqueeze.default, _aten.expand.default, _aten.reshape.default, _aten.squeeze.dim, _aten.repeat.default}
)


@dataclass(frozen=True, slots=True)
class NumberOfStep:
    """In the place of an argument: step ``t`` of a sequence of numbers, each of this shape."""

    rule: Rule
    t: int
    shape: tuple[Any, ...]
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class RowOfTable:
    """In the place of an argument: row ``first + t`` of a table, for each row of the batch."""

    table: int
    axis: int
    first: int
    t: int
    width: int


@dataclass(frozen=True, slots=True)
class MadeAnew:
    """In the place of an argument: a value that read no step, with what it reads replaced."""

    value: Value
    args: Any


class Rewriting:
    """Writes values anew, with what is written for arguments.

    What was the same for all rows, and is now one of a sequence, stands there once for each row.
    """

    def __init__(self, unrolled: Unrolled) -> None:
        self._unrolled = unrolled
        self._made = Unrolled(unrolled.steps, unrolled.reading)
        self._made.weights = unrolled.weights
        self._moved: list[int] = []
        self._spread: set[int] = set()  # what stands there once for each row

    def all(self, numbered: Mapping[int, Any]) -> Unrolled:
        """Return all values; ``numbered`` has the arguments of those, by number, that get others."""
        for number, value in enumerate(self._unrolled.values):
            args = self._write(numbered.get(number, value.args))
            self._moved.append(self._again(value, args))
        self._made.result = self._moved[self._unrolled.result]
        return self._made

    def _again(self, value: Value, args: Any) -> int:
        """Return the number of a value with other arguments."""
        kwargs = replace_refs(value.kwargs, lambda n: Ref(self._moved[n]))
        shape = value.shape
        if value.target == STEP and "B" not in (shape or ()):
            return self._spread_step(value, args)
        if shape is not None and "B" not in shape and self._spread.intersection(refs_in((args, kwargs))):
            if value.target in FORMS_OF_ROWS:
                return int(args[0].number)
            shape = ("B", *(shape[-1:] or (1,)))
            self._spread.add(number := self._made.add(value.target, args, kwargs, shape, value.dtype))
            return number
        return self._made.add(value.target, args, kwargs, shape, value.dtype)

    def _write(self, argument: Any) -> Any:
        if isinstance(argument, Ref):
            return Ref(self._moved[argument.number])
        if isinstance(argument, tuple):
            return tuple(self._write(part) for part in argument)
        if isinstance(argument, NumberOfStep):
            return Ref(self._numbers_step(argument))
        if isinstance(argument, RowOfTable):
            return Ref(self._row_step(argument))
        if isinstance(argument, MadeAnew):
            return Ref(self._again(argument.value, self._write(argument.args)))
        return argument

    def _numbers_step(self, one: NumberOfStep) -> int:
        batch_axis, T = one.shape.index("B"), self._made.steps
        rule = (one.rule.form, one.rule.first, one.rule.by)
        shape = (one.shape[:batch_axis], one.shape[batch_axis + 1 :])
        args = (Ref(self._made.add(BATCH, ())), T, *rule, *shape, one.dtype)
        source = self._made.add(step_rows.numbers_of_steps, args, (), (T, *one.shape), one.dtype)
        number = self._made.add(STEP, (Ref(source), 0, one.t), (), one.shape, one.dtype)
        if len(one.shape) == 1:
            self._spread.add(number)
        return number

    def _row_step(self, one: RowOfTable) -> int:
        T = self._made.steps
        table = Ref(self._moved[one.table])
        args = (table, one.axis, one.first, Ref(self._made.add(BATCH, ())), T)
        return self._step_of_rows(args, one.t, one.width, self._made.values[table.number].dtype)

    def _spread_step(self, value: Value, args: Any) -> int:
        """Return a step of a sequence that is the same for all rows."""
        source, axis, t = args
        width = math.prod(size if isinstance(size, int) else 1 for size in value.shape or ())
        args = (source, axis, 0, Ref(self._made.add(BATCH, ())), self._made.steps)
        return self._step_of_rows(args, t, width, value.dtype)

    def _step_of_rows(self, args: Any, t: int, width: int, dtype: torch.dtype | None) -> int:
        shape = (self._made.steps, "B", width)
        source = self._made.add(step_rows.rows_of_table, args, (), shape, dtype)
        self._spread.add(number := self._made.add(STEP, (Ref(source), 0, t), (), ("B", width), dtype))
        return number
