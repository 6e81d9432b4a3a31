"""When an operation gives a value that is there already under another name: then it is that value.

The same step of a loop can be written down in many ways, and steps are compared operation by operation, so each value
has to have one form. What copies is what it copies, ``cat`` of unsqueezed steps is their ``stack``, and so on; reading
one step of a sequence is in step_reads.py, of what was computed of one in step_results.py, filling an output step by
step in step_writes.py.

Rules of this file: a rule gets the arguments of an operation and gives the number of an equal value, or None; it
believes shapes and operators, and never looks at numbers in a tensor.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Final

import torch

from .step_reads import axis_of, item, select, slice_one
from .step_writes import select_scatter, slice_scatter
from .value import BATCH, Ref

if TYPE_CHECKING:
    from collections.abc import Callable

    from .unrolled import Unrolled

_aten = torch.ops.aten
# What gives back its first argument, once a module is in evaluation mode and its graph is functional.
_SAME: Final = frozenset(
    {
        _aten.alias.default,
        _aten.clone.default,
        _aten.contiguous.default,
        _aten.detach.default,
        _aten.lift_fresh_copy.default,
    }
)
_DROPOUT: Final = frozenset(
    {
        _aten.alpha_dropout.default,
        _aten.dropout.default,
        _aten.feature_alpha_dropout.default,
        _aten.feature_dropout.default,
    }
)
_MADE_LIKE: Final = {
    _aten.full_like.default: _aten.full.default,
    _aten.ones_like.default: _aten.ones.default,
    _aten.zeros_like.default: _aten.zeros.default,
}
_SAME_IF_SHAPED_ALIKE: Final = frozenset(
    {
        _aten._to_copy.default,  # noqa: SLF001 - an operator's name
        _aten.expand.default,
        _aten.reshape.default,
        _aten.to.dtype,
        _aten.to.dtype_layout,
        _aten.view.default,
    }
)
# What reads a tensor's layout in memory, which is another one once the loop is a layer; reshape does not.
_RESHAPES: Final = frozenset({_aten.view.default, _aten._unsafe_view.default})  # noqa: SLF001 - an operator's name


def equal_value(unrolled: Unrolled, target: Any, args: tuple[Any, ...], shape: Any, dtype: Any) -> int | None:
    """Return the number of a value that an operation would only repeat, or None."""
    if target in _SAME or (target in _DROPOUT and args[2] is False):
        return args[0].number  # type: ignore[no-any-return]
    if target is _aten.copy.default and unrolled.shape_of(args[0]) == unrolled.shape_of(args[1]):
        return args[1].number  # type: ignore[no-any-return]
    if target in _SAME_IF_SHAPED_ALIKE and isinstance(args[0], Ref):
        alike = _shaped_alike(unrolled, args[0], shape, dtype)
        if alike is not None:
            return alike
    if target in _RESHAPES:
        return unrolled.add(_aten.reshape.default, args, (), shape, dtype)
    if target in _MADE_LIKE and "?" not in (shape or ("?",)):
        return made_alike(unrolled, _MADE_LIKE[target], args[1:], shape, dtype)
    rule = _RULES.get(target)
    return None if rule is None else rule(unrolled, *args)


def made_alike(unrolled: Unrolled, make: Any, fill: tuple[Any, ...], shape: Any, dtype: Any) -> int:
    """Return zeros and the like, of a size that is told instead of read off a tensor: no step goes into them."""
    sizes = tuple(Ref(unrolled.add(BATCH, ())) if size == "B" else size for size in shape)
    return unrolled.add(make, (sizes, *fill), (("dtype", dtype),), shape, dtype)


def _squeeze_all(unrolled: Unrolled, source: Ref) -> int:
    """Return what squeeze() gives for any batch but one row, where it would take the batch's axis too."""
    shape = unrolled.shape_of(source)
    axes = tuple(k for k, size in enumerate(shape) if size == 1)
    if not axes:
        return source.number
    rest = tuple(size for size in shape if size != 1)
    return unrolled.add(_aten.squeeze.dims, (source, axes), (), rest, unrolled.values[source.number].dtype)


def _squeeze_rule(unrolled: Unrolled, source: Ref, axis: Any) -> int | None:
    """Return what was unsqueezed where this undoes it; what has no such axis of one, for any batch but one row."""
    value, shape = unrolled.values[source.number], unrolled.shape_of(source)
    rank = len(shape)
    axes = [axis % rank] if isinstance(axis, int) else [k % rank for k in axis]
    if rank and not any(shape[k] in {1, "?"} for k in axes):
        return source.number
    undone = value.target is _aten.unsqueeze.default and axes == [value.args[1] % rank]
    return value.args[0].number if undone else None


def _shaped_alike(unrolled: Unrolled, source: Ref, shape: Any, dtype: Any) -> int | None:
    """Return the source where it has this shape; else what was reshaped, as a state is that is kept flat meanwhile."""
    value = unrolled.values[source.number]
    numbers = [source.number, *([value.args[0].number] if value.target is _aten.reshape.default else [])]
    known = [unrolled.values[number] for number in numbers if "?" not in (shape or ("?",))]
    return next((n for n, v in zip(numbers, known, strict=False) if (v.shape, v.dtype) == (shape, dtype)), None)


def _cat(unrolled: Unrolled, parts: tuple[Ref, ...], axis: int = 0) -> int | None:
    """Return the stack that joining steps along a new axis of one amounts to, also where it grows step after step."""
    kept = [part for part in parts if not _is_empty(unrolled.shape_of(part), axis)]
    if len({unrolled.values[part.number].dtype for part in parts}) > 1 or not kept:
        return None
    shape = unrolled.shape_of(kept[0])
    place = axis % len(shape)
    inner: list[Ref] = []
    for part in kept:
        value = unrolled.values[part.number]
        if value.target is _aten.unsqueeze.default and value.args[1] % len(shape) == place:
            inner.append(value.args[0])
        elif value.target is _aten.stack.default and axis_of(value, len(shape)) == place:
            inner += value.args[0]
        else:
            return kept[0].number if len(kept) == 1 else None
    if len(inner) > unrolled.steps:
        return None
    laid = (*shape[:place], len(inner), *shape[place + 1 :])
    return unrolled.add(_aten.stack.default, (tuple(inner), place), (), laid, unrolled.values[kept[0].number].dtype)


def _is_empty(shape: tuple[Any, ...], axis: int) -> bool:
    """Whether a part holds no step, as what is grown from does: of one axis, or as the others are."""
    return shape == (0,) or (-len(shape) <= axis < len(shape) and shape[axis] == 0)


def _add(unrolled: Unrolled, one: Any, other: Any) -> int | None:
    """Return a sum from zeros where the first step is added to the number 0, as that of a list is."""
    if not isinstance(one, Ref) or isinstance(other, Ref | bool) or other != 0:
        return None
    value = unrolled.values[one.number]
    if value.steps.bit_count() != 1 or value.dtype is None or value.shape is None or "?" in value.shape:
        return None
    dtype = torch.result_type(torch.empty(1, dtype=value.dtype), other)  # of truth values: integers
    zeros = made_alike(unrolled, _aten.zeros.default, (), value.shape, dtype)
    return unrolled.add(_aten.add.Tensor, (Ref(zeros), one), (), value.shape, dtype)


def _flip(unrolled: Unrolled, source: Ref, axes: tuple[int, ...]) -> int | None:
    """Return the stack of what was stacked in the other order."""
    value, shape = unrolled.values[source.number], unrolled.shape_of(source)
    if value.target is not _aten.stack.default:
        return None
    place = axis_of(value, len(shape))
    if [axis % len(shape) for axis in axes] != [place]:
        return None
    return unrolled.add(_aten.stack.default, (value.args[0][::-1], place), (), shape, value.dtype)


def _clamp(unrolled: Unrolled, source: Ref, *bounds: Any) -> int | None:
    """Return what is within the same bounds already, as weights that each step clamps anew."""
    value = unrolled.values[source.number]
    return source.number if value.target is _aten.clamp.default and value.args[1:] == bounds else None


_RULES: Final[dict[Any, Callable[..., int | None]]] = {
    _aten.add.Tensor: _add,
    _aten.select.int: select,
    _aten.cat.default: _cat,
    _aten.clamp.default: _clamp,
    _aten.flip.default: _flip,
    _aten.squeeze.default: _squeeze_all,
    _aten.squeeze.dim: _squeeze_rule,
    _aten.squeeze.dims: _squeeze_rule,
    operator.getitem: item,
    _aten.slice.Tensor: slice_one,
    _aten.slice_scatter.default: slice_scatter,
    _aten.select_scatter.default: select_scatter,
}
