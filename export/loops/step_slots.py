"""Slots along time: a tensor or list of T + 1 of them, the first for the state before the loop, ``h[:, t + 1] = …``.

What the network reads of them after the loop, ``h[:, 1:]``, is T slots, and so the stack of all steps. One slot that
nothing was written into yet is one of the tensor that the loop began with, mostly of zeros.

Rules of this file: as in equal_values.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

from .value import BATCH, FILLED, Ref

if TYPE_CHECKING:
    from .unrolled import Unrolled
    from .value import Value

_aten = torch.ops.aten
_MADE: Final = frozenset(
    {
        _aten.full.default,
        _aten.ones.default,
        _aten.zeros.default,
    }
)
_MADE_BY_ANOTHER: Final = {
    _aten.new_full.default: _aten.full.default,
    _aten.new_ones.default: _aten.ones.default,
    _aten.new_zeros.default: _aten.zeros.default,
}


def is_slots(unrolled: Unrolled, size: Any) -> bool:
    """Whether an axis of this size may hold a slot for each step, and one more."""
    return size in {unrolled.steps, unrolled.steps + 1}


def written(unrolled: Unrolled, value: Value, axis: int) -> dict[int, Ref]:
    """Return what was written last into each slot of a tensor that is being filled along ``axis``."""
    filled: dict[int, Ref] = {}
    while value.target == FILLED and value.args[2] == axis:
        filled.setdefault(value.args[3], value.args[1])
        value = unrolled.values[value.args[0].number]
    return filled


def keeps_the_start(unrolled: Unrolled) -> bool:
    """Whether the output needs all T + 1 slots, or T of them that are not one for each step."""
    for value in (unrolled.values[number] for number in unrolled.reachable()):
        if value.target == FILLED and (value.shape or ())[value.args[2]] == unrolled.steps + 1:
            return True
        if value.target is _aten.stack.default and len(value.args[0]) == unrolled.steps + 1:
            seen = [unrolled.values[part.number].steps for part in value.args[0]]
            if seen.count(0) == 1:
                return True
    return False


def slots_read(unrolled: Unrolled, value: Value, axis: int, first: int, end: int) -> int | None:
    """Return the stack of the slots ``first`` to ``end - 1`` where there is one for each step; all must be written."""
    shape = value.shape or ()
    if end - first != unrolled.steps:
        return None
    shape = (*shape[:axis], unrolled.steps, *shape[axis + 1 :])
    if value.target in {_aten.stack.default, _aten.cat.default}:
        of_value = (value.args[1] if len(value.args) > 1 else 0) % len(shape)
        if of_value != axis or len(value.args[0]) != unrolled.steps + 1:
            return None
        return unrolled.add(value.target, (value.args[0][first:end], axis), (), shape, value.dtype)
    filled = written(unrolled, value, axis)
    if not filled.keys() >= set(range(first, end)):
        return None
    return unrolled.add(
        _aten.stack.default, (tuple(filled[t] for t in range(first, end)), axis), (), shape, value.dtype
    )


def made_smaller(unrolled: Unrolled, value: Value, axis: int) -> int | None:
    """Return one slot of zeros and the like, which are the same in each, as smaller ones."""
    shape = value.shape or ("?",)
    if value.target in _MADE_BY_ANOTHER:
        target, fill = _MADE_BY_ANOTHER[value.target], value.args[2:]
    elif value.target in _MADE:
        target, fill = value.target, value.args[1:]
    else:
        return None
    if "?" in shape:
        return None
    rest = shape[:axis] + shape[axis + 1 :]
    sizes = tuple(Ref(unrolled.add(BATCH, ())) if size == "B" else size for size in rest)
    return unrolled.add(target, (sizes, *fill), (("dtype", value.dtype),), rest, value.dtype)
