"""One step of what was computed of all steps at once, where that is the same as computing it of the step.

A second loop often reads what a whole layer gave through a projection, a norm or a sum, ``F.relu(W(y))[:, t]``. Each
of these treats every step alone, so the step is read first and the operation follows: then the second loop reads steps
of the first one, as if both were one loop.

It is done where the loop cannot be found otherwise: whoever reads one step alone of what follows a loop reads it better
from all of them.

Rules of this file: as in equal_values.py; only operations that mix no steps, told by operator and axis.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Final

import torch

from .value import Reading, Ref, Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from .unrolled import Unrolled

_aten = torch.ops.aten
_ELEMENTWISE: Final = frozenset(
    {
        _aten.add.Tensor,
        _aten.sub.Tensor,
        _aten.mul.Tensor,
        _aten.div.Tensor,
        _aten.rsub.Scalar,
        _aten.neg.default,
        _aten.pow.Tensor_Scalar,
        _aten.rsqrt.default,
        _aten.sqrt.default,
        _aten.exp.default,
        _aten.relu.default,
        _aten.tanh.default,
        _aten.sigmoid.default,
        _aten.gelu.default,
        _aten.silu.default,
        _aten.softplus.default,
        _aten.elu.default,
        _aten.leaky_relu.default,
        _aten.hardtanh.default,
    }
)
_CUT: Final = frozenset({_aten.chunk.default, _aten.split.Tensor, _aten.split_with_sizes.default})
_OF_THE_LAST_AXIS: Final = frozenset({_aten.linear.default, _aten.matmul.default})


def step_of_result(
    unrolled: Unrolled,
    value: Value,
    rank: int,
    axis: int,
    index: int,
    select: Callable[[Unrolled, Ref, int, int], int],
) -> int | None:
    """Return the operation of ``value`` on one step, or None where it may mix steps or has seen none.

    Args:
        unrolled: the values.
        value: a tensor with the steps on ``axis``.
        rank: of it.
        axis: of time.
        index: of the step.
        select: gives a step of a tensor (step_reads.py, which asks this file).
    """
    if (
        unrolled.reading is not Reading.THROUGH
        or not value.steps
        or not _keeps_steps_apart(unrolled, value, rank, axis)
    ):
        return None

    def step(argument: Any) -> Any:
        if isinstance(argument, tuple):
            return tuple(step(part) for part in argument)
        if not isinstance(argument, Ref):
            return argument
        own = axis - rank + len(unrolled.shape_of(argument))  # shapes are aligned at their ends
        if own < 0:
            return argument
        return Ref(select(unrolled, argument, own, index if unrolled.shape_of(argument)[own] != 1 else 0))

    shape = (value.shape or ())[:axis] + (value.shape or ())[axis + 1 :]
    if value.target is operator.getitem:
        pieces = unrolled.values[value.args[0].number]
        source, sizes = step(pieces.args[0]), pieces.args[1]
        made = unrolled.add(pieces.target, (source, sizes, _moved(_axis_of(pieces), rank, axis)), pieces.kwargs)
        return unrolled.add(operator.getitem, (Ref(made), value.args[1]), (), shape, value.dtype)
    if value.target in _ELEMENTWISE:
        args = tuple(step(argument) for argument in value.args)
    elif value.target is _aten.cat.default:
        args = (step(value.args[0]), _moved(_axis_of(value), rank, axis))
    elif value.target is _aten.mean.dim:
        args = (step(value.args[0]), tuple(_moved(one, rank, axis) for one in value.args[1]), *value.args[2:])
    else:
        args = (step(value.args[0]), *value.args[1:])
    return unrolled.add(value.target, args, value.kwargs, shape, value.dtype)


def _keeps_steps_apart(unrolled: Unrolled, value: Value, rank: int, axis: int) -> bool:
    if value.target in _ELEMENTWISE:
        return True
    if value.target in _OF_THE_LAST_AXIS:
        return axis < rank - 1 and len(unrolled.shape_of(value.args[1])) == 2  # noqa: PLR2004 - a matrix of weights
    if value.target is _aten.cat.default:
        return _axis_of(value) % rank != axis
    if value.target is _aten.mean.dim:
        kept = len(value.args) > 2 and value.args[2] is True  # noqa: PLR2004 - (tensor, axes, keepdim)
        return kept and all(one % rank != axis for one in value.args[1])
    if value.target is operator.getitem:
        pieces = unrolled.values[value.args[0].number]
        return pieces.target in _CUT and _axis_of(pieces) % rank != axis
    return value.target is _aten.layer_norm.default and axis < rank - len(value.args[1])


def _axis_of(value: Value) -> int:
    """Return the axis along which a value is cut or joined; of chunk and split it is the third argument."""
    place = 1 if value.target is _aten.cat.default else 2
    return int(value.args[place]) if len(value.args) > place else 0


def _moved(one: int, rank: int, axis: int) -> int:
    """Return an axis where the one of time is gone."""
    return one % rank - (one % rank > axis)
