"""Reading one step of a sequence, however it is written: ``x[:, t]``, ``unbind``, ``split``, a slice of one step.

All of them are one value, STEP. A step of what was made step by step (stacked, joined, filled in place) is the very
value that was put there.

Rules of this file: as in equal_values.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

from .step_results import step_of_result
from .step_slots import is_slots, made_smaller, slots_read
from .value import FILLED, STEP, Reading, Ref, Value

if TYPE_CHECKING:
    from .unrolled import Unrolled

_aten = torch.ops.aten
_ENDLESS: Final = 2**31 - 1  # ends of slices from here on mean: to the end


def select(unrolled: Unrolled, source: Ref, axis: int, index: Any) -> int | None:
    """Return one step, ``source.select(axis, index)``."""
    value, shape = unrolled.values[source.number], unrolled.shape_of(source)
    axis %= len(shape)
    if not isinstance(index, int):
        return None
    if value.target is _aten.stack.default and axis_of(value, len(shape)) == axis:
        return value.args[0][index].number  # type: ignore[no-any-return]
    if not is_slots(unrolled, shape[axis]):
        return _put_there(unrolled, value, axis, index)
    index %= shape[axis]
    inner = _select_inside(unrolled, value, len(shape), axis, index)
    is_own = value.steps and unrolled.reading is not Reading.ANEW
    if inner is not None or is_own or shape[axis] != unrolled.steps:
        return inner
    return unrolled.add(STEP, (source, axis, index), (), shape[:axis] + shape[axis + 1 :], value.dtype)


def _put_there(unrolled: Unrolled, value: Value, axis: int, index: int) -> int | None:
    """Return what was put where an axis that is not time is read: ``h[layer]`` after ``h[layer] = …``."""
    shape = value.shape or ()
    if value.target is _aten.unsqueeze.default and value.args[1] % len(shape) == axis:
        return value.args[0].number  # type: ignore[no-any-return]
    if value.target is _aten.select_scatter.default and value.args[2] % len(shape) == axis:
        same = value.args[3] % shape[axis] == index % shape[axis]
        return value.args[1].number if same else _selected(unrolled, value.args[0], axis, index)
    return None


def _select_inside(unrolled: Unrolled, value: Value, rank: int, axis: int, index: int) -> int | None:
    """Return the step of a sequence that was joined, filled in place, or transposed."""
    if value.target is _aten.cat.default and axis_of(value, rank) == axis and is_slots(unrolled, len(value.args[0])):
        return squeeze(unrolled, value.args[0][index], axis)
    if value.target == FILLED and value.args[2] == axis:
        filled = value.args[3] == index
        return value.args[1].number if filled else _selected(unrolled, value.args[0], axis, index)
    smaller = made_smaller(unrolled, value, axis)
    if smaller is not None:
        return smaller
    order = _order_of(value, rank)
    if order is None:
        return step_of_result(unrolled, value, rank, axis, index, _selected)
    inner = _selected(unrolled, value.args[0], order[axis], index)
    kept = [k - (k > order[axis]) for k in order if k != order[axis]]
    if kept == sorted(kept):
        return inner
    shape = unrolled.values[inner].shape or ()
    return unrolled.add(
        _aten.permute.default, (Ref(inner), tuple(kept)), (), tuple(shape[k] for k in kept), value.dtype
    )


def _selected(unrolled: Unrolled, source: Ref, axis: int, index: int) -> int:
    found = select(unrolled, source, axis, index)
    if found is not None:
        return found
    shape = unrolled.shape_of(source)
    rest = shape[:axis] + shape[axis + 1 :]
    return unrolled.add(_aten.select.int, (source, axis, index), (), rest, unrolled.values[source.number].dtype)


def item(unrolled: Unrolled, source: Any, index: Any) -> int | None:
    """Return an element of what unbind, split or chunk gave, where its elements are steps."""
    value = unrolled.values[source.number]
    if not value.args or not isinstance(value.args[0], Ref):
        return None
    shape = unrolled.shape_of(value.args[0])
    if value.target is _aten.unbind.int:
        axis = value.args[1] if len(value.args) > 1 else 0
        return select(unrolled, value.args[0], axis, index)
    if value.target in {_aten.split.Tensor, _aten.split_with_sizes.default}:
        axis, sizes = (value.args[2] if len(value.args) > 2 else 0) % len(shape), value.args[1]  # noqa: PLR2004
        single = sizes == 1 or (isinstance(sizes, tuple) and set(sizes) == {1})
    elif value.target is _aten.chunk.default:
        axis = (value.args[2] if len(value.args) > 2 else 0) % len(shape)  # noqa: PLR2004
        single = value.args[1] == shape[axis]
    else:
        return None
    if not single or shape[axis] != unrolled.steps:
        return None
    inner = select(unrolled, value.args[0], axis, index)
    return None if inner is None else _unsqueeze(unrolled, inner, axis)


def slice_one(
    unrolled: Unrolled, source: Ref, axis: int = 0, start: Any = None, end: Any = None, stride: Any = 1
) -> int | None:
    """Return what a slice of everything, or of one step, amounts to."""
    shape = unrolled.shape_of(source)
    axis %= len(shape)
    size, start = shape[axis], 0 if start is None else start
    if stride != 1 or not isinstance(start, int) or not (end is None or isinstance(end, int)):
        return None
    if start == 0 and (end is None or end >= _ENDLESS or (isinstance(size, int) and end >= size)):
        return source.number
    if not is_slots(unrolled, size):
        return None
    first, last = start % size, size if end is None or end >= size else end % size
    if last != first + 1:
        return _slots_read(unrolled, source, axis, first, last)
    inner = select(unrolled, source, axis, first)
    return None if inner is None else _unsqueeze(unrolled, inner, axis)


def _slots_read(unrolled: Unrolled, source: Ref, axis: int, first: int, end: int) -> int | None:
    """Return the stack of T slots of T + 1, also where their axes were transposed after the loop."""
    value, rank = unrolled.values[source.number], len(unrolled.shape_of(source))
    order = _order_of(value, rank)
    if order is None:
        return slots_read(unrolled, value, axis, first, end)
    inner = _slots_read(unrolled, value.args[0], order[axis], first, end)
    if inner is None:
        return None
    shape = (*(value.shape or ())[:axis], end - first, *(value.shape or ())[axis + 1 :])
    return unrolled.add(value.target, (Ref(inner), *value.args[1:]), value.kwargs, shape, value.dtype)


def squeeze(unrolled: Unrolled, source: Ref, axis: int) -> int:
    """Return a value without an axis of size one."""
    value, shape = unrolled.values[source.number], unrolled.shape_of(source)
    if value.target is _aten.unsqueeze.default and value.args[1] % len(shape) == axis:
        return value.args[0].number  # type: ignore[no-any-return]
    return unrolled.add(_aten.squeeze.dim, (source, axis), (), shape[:axis] + shape[axis + 1 :], value.dtype)


def _unsqueeze(unrolled: Unrolled, source: int, axis: int) -> int:
    """Return a value with one more axis of size one."""
    value = unrolled.values[source]
    shape = (*(value.shape or ())[:axis], 1, *(value.shape or ())[axis:])
    return unrolled.add(_aten.unsqueeze.default, (Ref(source), axis), (), shape, value.dtype)


def axis_of(value: Value, rank: int) -> int:
    """Return the axis of a stack or a cat, the first where none is said."""
    return int(value.args[1] if len(value.args) > 1 else 0) % rank


def _order_of(value: Value, rank: int) -> list[int] | None:
    """Return the order of the axes that a transposition makes, or None for what is none."""
    order = list(range(rank))
    if value.target is _aten.permute.default:
        return [k % rank for k in value.args[1]]
    if value.target is _aten.transpose.int:
        a, b = value.args[1] % rank, value.args[2] % rank
        order[a], order[b] = order[b], order[a]
        return order
    if value.target is _aten.t.default and rank == 2:  # noqa: PLR2004
        return [1, 0]
    return None
