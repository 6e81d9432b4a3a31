"""Filling an output step by step, ``out[:, t] = h``: once all steps are filled, it is the stack of them.

The capturer writes an assignment in place as a ``scatter`` that gives the whole tensor anew; until all steps are there,
each is a FILLED value. There are T of them, or T + 1 where the state before the first step is kept beside the others
(step_slots.py).

Rules of this file: as in equal_values.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .step_reads import squeeze
from .step_slots import is_slots, written
from .value import FILLED, Ref

if TYPE_CHECKING:
    from .unrolled import Unrolled

_aten = torch.ops.aten


def slice_scatter(
    unrolled: Unrolled, base: Ref, source: Ref, axis: int = 0, start: Any = None, end: Any = None, stride: Any = 1
) -> int | None:
    """Return what writing into a slice of everything, or of one step, amounts to."""
    shape = unrolled.shape_of(base)
    axis %= len(shape)
    if stride == 1 and unrolled.shape_of(source) == shape and start in {None, 0}:
        return source.number
    if stride != 1 or not is_slots(unrolled, shape[axis]) or not isinstance(start, int) or end != start + 1:
        return None
    return _scatter(unrolled, base, Ref(squeeze(unrolled, source, axis)), axis, start)


def select_scatter(unrolled: Unrolled, base: Ref, source: Ref, axis: int, index: Any) -> int | None:
    """Return what writing into one step amounts to."""
    shape = unrolled.shape_of(base)
    size = shape[axis % len(shape)]
    if not is_slots(unrolled, size) or not isinstance(index, int):
        return None
    return _scatter(unrolled, base, source, axis % len(shape), index % size)


def _scatter(unrolled: Unrolled, base: Ref, source: Ref, axis: int, index: int) -> int | None:
    """Return the stack of all steps where this fills the last one, else the filling itself."""
    filled = written(unrolled, unrolled.values[base.number], axis) | {index: source}
    shape, dtype = unrolled.shape_of(base), unrolled.values[base.number].dtype
    if len(filled) == shape[axis]:
        return unrolled.add(_aten.stack.default, (tuple(filled[t] for t in sorted(filled)), axis), (), shape, dtype)
    return unrolled.add(FILLED, (base, source, axis, index), (), shape, dtype)
