"""Loops that know the number of their step: ``(m * t + h) / (t + 1)``, ``h + self.positions[t]``, ``0.9**t * h``.

A capture has the numbers as constants, others at every step, so no two steps look alike. Where they follow a rule, they
are the steps of a sequence of numbers, and rows of a table those of a sequence of rows; written so, every step does the
same.

Rules of this file: a rule is read off the middle of a loop, and believed where each step keeps it; that the whole is
right is proved on runs (proof.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any, Final

import torch

from .direction import Direction
from .first_iteration import orders
from .loop import MIDDLE
from .numbered_values import FORMS_OF_ROWS, MadeAnew, NumberOfStep, Rewriting, RowOfTable
from .step_rules import FEWEST, is_near, rule_of
from .unrolled import Unrolled
from .value import STEP, WEIGHT, Ref, Value

_aten = torch.ops.aten
# With a number in the place of a tensor they compute what they do with a tensor of that number.
_TAKES_NUMBERS: Final = frozenset({_aten.add.Tensor, _aten.sub.Tensor, _aten.mul.Tensor, _aten.div.Tensor})
# What fills a tensor with a number, and which argument the number is.
_FILLS: Final = {_aten.full.default: 1, _aten.new_full.default: 2}


def with_step_numbers(unrolled: Unrolled) -> Unrolled:
    """Return the same values with sequences of numbers and rows in the place of what only the step's number changes."""
    numbered: dict[int, Any] = {}
    unrolled.by_number = False
    stages = range(1 + max(unrolled.values[number].stage for number in unrolled.reachable()))
    for stage, reverse in product(stages, (False, True)):
        _Numbering(Direction(unrolled, stage, reverse=reverse), numbered).find()
    alike = (unrolled.values[number] for number in unrolled.reachable())
    alone = any(value.target == STEP and "B" not in (value.shape or ()) for value in alike)
    made = Rewriting(unrolled).all(numbered) if numbered or alone else unrolled
    made.by_number = unrolled.by_number
    return made


class _Numbering:
    """Finds, in one direction of a loop, the arguments that only the step's number changes.

    Args:
        direction: of the loop.
        numbered: of values by number, the arguments to write; filled.
    """

    def __init__(self, direction: Direction, numbered: dict[int, Any]) -> None:
        self._direction = direction
        self._numbered = numbered

    def find(self) -> None:
        """Fill ``numbered``."""
        direction = self._direction
        places = [direction.places(k) for k in range(direction.T)]
        targets = [[direction.target(n) for n in found] for found in places]
        alike = [k for k in range(1, direction.T - 1) if targets[k] == targets[MIDDLE]]
        if MIDDLE not in alike or len(alike) < FEWEST:
            return
        for j, target in enumerate(targets[MIDDLE]):
            if target != STEP:
                self._number({k: places[k][j] for k in alike}, places)

    def _number(self, known: Mapping[int, int], places: Sequence[Sequence[int]]) -> None:
        """Number the values of one place, known by iteration, and those of the other iterations like them.

        What the last iteration does not compute is the next one's, ``h + positions[t]`` of the last state alone, and
        counts its steps; the first has it of what the loop begins with, which has seen no step.
        """
        direction = self._direction
        others = [k for k in range(direction.T) if k not in known]
        for late in (0, 1):
            made = self._of_arguments(known, late)
            if made is None:
                return
            like = next(iter(known))
            found = {
                k: self._like(places[k], known[like], made[like], k + late) for k in others if k + late < direction.T
            }
            if late or direction.T - 1 in known or found[direction.T - 1]:
                begun = [n for n in direction.alive if not direction.steps[n]]
                first = self._like(begun, known[like], made[like], 0) if late else {}
                for several in ({known[k]: args for k, args in made.items()}, first, *found.values()):
                    self._numbered.update(several)
                return

    def _like(self, numbers: Iterable[int], like: int, made: Any, k: int) -> dict[int, Any]:
        """Return what to write for those of these values that iteration ``k`` would have in the place of ``like``."""
        direction, found = self._direction, {}
        for number in numbers:
            value = direction.value(number)
            if number not in self._numbered and value.target == direction.target(like):
                told = (_foretold(args, made, direction, direction.at(k)) for args in orders(value))
                args = next((args for args in told if args is not None), None)
                if args is not None and args != value.args:
                    found[number] = args
        return found

    def _of_arguments(self, known: Mapping[int, int], late: int) -> dict[int, Any] | None:
        """Return the arguments to write for an operation, by iteration, where they follow a rule; else None."""
        values = [self._direction.value(number) for number in known.values()]
        made = self._varied([value.args for value in values], values[0], [k + late for k in known])
        if made is None or all(one == value.args for one, value in zip(made, values, strict=True)):
            return None
        return dict(zip(known, made, strict=True))

    def _varied(self, parts: Sequence[Any], value: Value, steps: Sequence[int]) -> list[Any] | None:
        """Return what to write for an argument at each iteration; None where it follows no rule."""
        one = parts[0]
        if all(part == one and type(part) is type(one) for part in parts):
            return list(parts)
        if all(isinstance(part, tuple) and len(part) == len(one) for part in parts):
            columns = [self._varied(column, value, steps) for column in zip(*parts, strict=True)]
            found = [column for column in columns if column is not None]
            return [tuple(row) for row in zip(*found, strict=True)] if len(found) == len(columns) else None
        if all(isinstance(part, Ref) for part in parts):
            return self._varied_values([part.number for part in parts], steps, value)
        if value.target in _TAKES_NUMBERS and value.dtype is not None and value.dtype.is_floating_point:
            return self._numbers(parts, steps, _broadcast(value.shape), value.dtype)
        return None

    def _numbers(
        self, parts: Sequence[Any], steps: Sequence[int], shape: tuple[Any, ...] | None, dtype: torch.dtype
    ) -> list[Any] | None:
        at = [self._direction.at(k) for k in steps]
        rule = rule_of(parts, at)
        if rule is None or shape is None:
            self._direction.unrolled.by_number = True
            return None
        return [NumberOfStep(rule, t, shape, dtype) for t in at]

    def _varied_values(self, numbers: Sequence[int], steps: Sequence[int], reader: Value) -> list[Any] | None:
        """Return what to write for values: themselves, where steps went into them, else what follows a rule."""
        direction = self._direction
        if any(direction.steps[number] for number in numbers):
            return [Ref(number) for number in numbers]
        made = self._rows(numbers, steps)
        values = [direction.value(number) for number in numbers]
        if made is None and len({value.target for value in values}) == 1:
            made = self._filled(values, steps, reader) or self._anew(values, steps)
        direction.unrolled.by_number = direction.unrolled.by_number or made is None
        return made

    def _rows(self, numbers: Sequence[int], steps: Sequence[int]) -> list[Any] | None:
        unrolled, at = self._direction.unrolled, [self._direction.at(k) for k in steps]
        rows = [row for row in (_row_of(unrolled, number) for number in numbers) if row is not None]
        tables, first = {row[:2] for row in rows}, {row[2] - t for row, t in zip(rows, at, strict=False)}
        shape = unrolled.values[numbers[0]].shape
        if len(rows) < len(at) or len(tables) > 1 or len(first) > 1 or min(first) < 0 or not shape:
            return None
        table, axis, _ = rows[0]
        return [RowOfTable(table, axis, min(first), t, shape[-1]) for t in at]

    def _filled(self, values: Sequence[Value], steps: Sequence[int], reader: Value) -> list[Any] | None:
        held = [_number_in(self._direction.unrolled, value) for value in values]
        shape, dtype = values[0].shape or (), values[0].dtype
        if dtype is None or None in held:
            return None
        alone = ("B",) if reader.target is _aten.embedding.default else _broadcast(reader.shape)
        return self._numbers(held, steps, shape if "B" in shape else alone, dtype)

    def _anew(self, values: Sequence[Value], steps: Sequence[int]) -> list[Any] | None:
        made = self._varied([value.args for value in values], values[0], steps)
        if made is None or values[0].shape is None:
            return None
        return [MadeAnew(value, args) for value, args in zip(values, made, strict=True)]


def _number_in(unrolled: Unrolled, value: Value) -> float | None:
    """Return the number that a tensor made of a single one holds, or None for other values."""
    if value.target in _FILLS:
        held = value.args[_FILLS[value.target]]
        return held if type(held) in {int, float} else None
    if value.target in {_aten.zeros.default, _aten.new_zeros.default}:
        return 0.0
    constant = unrolled.weights.get(value.args[0]) if value.target == WEIGHT else None
    if constant is None or constant.numel() != 1 or isinstance(constant, torch.nn.Parameter):
        return None
    return constant.item()


def _broadcast(shape: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    """Return the shape of one number for each row of the batch beside a value of this shape."""
    if shape is None or shape.count("B") != 1 or "?" in shape:
        return None
    return tuple("B" if size == "B" else 1 for size in shape)


def _row_of(unrolled: Unrolled, number: int) -> tuple[int, int, int] | None:
    """Return (table, axis, which) of a value that holds one row of a table, once or for each row of the batch."""
    value = unrolled.values[number]
    width = value.shape[-1] if value.shape else None
    if not isinstance(width, int) or any(size not in {1, "B"} for size in (value.shape or ())[:-1]):
        return None
    while value.target in FORMS_OF_ROWS:
        value = unrolled.values[value.args[0].number]
    if value.target is not _aten.select.int or value.shape is None or math.prod(value.shape) != width:
        return None
    table, axis, which = value.args
    return (table.number, axis % (len(value.shape) + 1), which) if isinstance(which, int) and which >= 0 else None


def _foretold(args: Any, made: Any, direction: Direction, t: int) -> Any:
    """Return what to write for an argument at step ``t`` by what is written at another; None where it is another."""
    unrolled = direction.unrolled
    value = unrolled.values[args.number] if isinstance(args, Ref) else None
    if isinstance(made, NumberOfStep):
        if value is not None:
            args = _number_in(unrolled, value)
        told = type(args) in {int, float} and is_near(made.rule.at(t), args)
        return NumberOfStep(made.rule, t, made.shape, made.dtype) if told else None
    if isinstance(made, RowOfTable):
        told = value is not None and _row_of(unrolled, args.number) == (made.table, made.axis, made.first + t)
        return RowOfTable(made.table, made.axis, made.first, t, made.width) if told else None
    if isinstance(made, MadeAnew):
        inner = None
        if value is not None and value.target == made.value.target:
            inner = _foretold(value.args, made.args, direction, t)
        return None if inner is None or value is None else MadeAnew(value, inner)
    if isinstance(made, tuple):
        if not isinstance(args, tuple) or len(args) != len(made):
            return None
        parts = [_foretold(*pair, direction, t) for pair in zip(args, made, strict=True)]
        refused = any(part is None and arg is not None for part, arg in zip(parts, args, strict=True))
        return None if refused else tuple(parts)
    return args
