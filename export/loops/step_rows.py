"""Between a sequence and the rows of its steps: what a rolled network (program.py) calls to lay values out.

A value of one step has the batch on one of its axes. For all steps at once it is either a sequence [B, T, W], its other
axes flat, which is what a recurrent layer reads and gives; or rows, the same axes as in one step with B * T in the
place of B, which is what the step's own operations can be applied to.

Rules of this file: functions of tensors and sizes that a capturer can follow, with batch and time free; what is
reshaped is contiguous before, or the capturer guards its strides with conditions on the sizes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import NO_COMPLEX
from .loop import NoLoopError


def sequence_of_slices(source: Tensor, time_axis: int, batch_axis: int) -> Tensor:
    """Return [B, T, W] of a tensor that is sliced along time; W is 1 where it has no other axis."""
    laid = source.movedim((batch_axis, time_axis), (0, 1))
    return laid.unsqueeze(2) if laid.dim() == 2 else laid.contiguous().flatten(2)  # noqa: PLR2004 - [B, T]


def sequence_of_rows(rows: Tensor, batch_axis: int, B: int, T: int) -> Tensor:
    """Return [B, T, W] of rows."""
    # A copy, for a view of rows with another axis of one is contiguous, and its strides are guarded nevertheless.
    laid = rows.movedim(batch_axis, 0).clone(memory_format=torch.contiguous_format)
    return laid.reshape(B, T, laid.numel() // laid.shape[0] if laid.dim() == 1 else _width(laid.shape[1:]))


def rows_of_sequence(sequence: Tensor, batch_axis: int, rest: Sequence[int], B: int, T: int) -> Tensor:
    """Return rows of [B, T, W]; ``rest`` is the step's shape without its batch."""
    return sequence.contiguous().reshape(B * T, *rest).movedim(0, batch_axis)


def rows_of_constant(tensor: Tensor, batch_axis: int, B: int, T: int) -> Tensor:
    """Return rows that hold for every step what is the same in all."""
    laid = tensor.movedim(batch_axis, 0).unsqueeze(1)
    laid = laid.expand(B, T, *laid.shape[2:])
    return laid.reshape(B * T, *laid.shape[2:]).movedim(0, batch_axis)


def stacked(sequence: Tensor, batch_axis: int, rest: Sequence[int], B: int, T: int, axis: int) -> Tensor:
    """Return what torch.stack(steps, axis) gives."""
    laid = sequence.contiguous().reshape(B, T, *rest)
    steps = laid.movedim(0, batch_axis + 1) if batch_axis else laid.movedim(1, 0)  # time first, then the step's axes
    return steps.movedim(0, axis)


def joined(sequence: Tensor, batch_axis: int, rest: Sequence[int], B: int, T: int, axis: int) -> Tensor:
    """Return what torch.cat(steps, axis) gives."""
    return stacked(sequence, batch_axis, rest, B, T, axis).contiguous().flatten(axis, axis + 1)


def state_of(tensor: Tensor, batch_axis: int, rest: Sequence[int], B: int) -> Tensor:
    """Return [B, W] of what a loop starts from, which may be one row for all or none."""
    shape = [*rest[:batch_axis], B, *rest[batch_axis:]]
    laid = tensor.expand(shape).movedim(batch_axis, 0)
    return laid.reshape(B, _width(rest)).contiguous()  # a scan wants its states laid out alike, the first too


def step_of_state(state: Tensor, batch_axis: int, rest: Sequence[int]) -> Tensor:
    """Return a value of one step of [B, W]."""
    return state.reshape(state.shape[0], *rest).movedim(0, batch_axis)


def state_of_step(step: Tensor, batch_axis: int) -> Tensor:
    """Return [B, W] of a value of one step."""
    laid = step.movedim(batch_axis, 0).contiguous()  # a scan wants its states laid out alike at every step
    return laid.unsqueeze(1) if laid.dim() == 1 else laid.flatten(1)


def numbers_of_steps(
    rows: int,
    steps: int,
    form: str,
    first: float,
    by: float,
    before: Sequence[int],
    after: Sequence[int],
    dtype: torch.dtype,
) -> Tensor:
    """Return [T, *before, B, *after], at step t the number that a rule (step_numbers.py) gives for t.

    What is no whole number is float64, until it is used.
    """
    t = torch.arange(steps, dtype=torch.float64)
    numbers = first * by**t if form == "power" else first + by * t
    numbers = 1.0 / numbers if form == "under-one" else numbers
    numbers = numbers if dtype.is_floating_point else numbers.to(dtype)
    laid = numbers.reshape(-1, *[1] * (len(before) + 1 + len(after)))
    return laid.expand(-1, *before, rows, *after)


def rows_of_table(table: Tensor, axis: int, first: int, rows: int, steps: int) -> Tensor:
    """Return [T, B, W], at step t row first + t of a table along ``axis``."""
    laid = table.movedim(axis, 0).narrow(0, first, steps)
    return laid.reshape(steps, 1, -1).expand(-1, rows, -1)


def blank(x: Tensor, B: int, T: int) -> Tensor:
    """Return a sequence [B, T, 1] that tells nothing but how many steps there are."""
    return torch.zeros(B, T, 1, dtype=x.dtype if x.is_floating_point() else None, device=x.device)


def like(tensor: Tensor, weight: Tensor) -> Tensor:
    """Return a tensor that the network made for itself, such as its zeros, in the precision of its weights.

    Raises:
        NoLoopError: it is complex.
    """
    return _real(tensor).to(weight.dtype)


def as_number(tensor: Tensor, weight: Tensor) -> Tensor:
    """Return integers or truth values as the numbers that a layer carries and gives; in float32 exact up to 2**24.

    Raises:
        NoLoopError: they are complex.
    """
    return _real(tensor).to(weight.dtype)


def _real(tensor: Tensor) -> Tensor:
    if tensor.is_complex():
        raise NoLoopError(f"its loop over time computes in {str(tensor.dtype).removeprefix('torch.')}, {NO_COMPLEX}")
    return tensor


def as_it_was(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the integers or truth values that were made numbers."""
    return tensor != 0 if dtype is torch.bool else tensor.to(dtype)


def last_step(sequence: Tensor, batch_axis: int, rest: Sequence[int]) -> Tensor:
    """Return the value of the last step of [B, T, W]."""
    return step_of_state(sequence[:, -1], batch_axis, rest)


def part(tensor: Tensor, start: int, width: int) -> Tensor:
    """Return ``width`` columns of the last axis."""
    return tensor.narrow(-1, start, width)


def side_by_side(tensors: Sequence[Tensor]) -> Tensor:
    """Return tensors joined along their last axis."""
    return torch.cat(list(tensors), -1) if len(tensors) > 1 else tensors[0]


def _width(rest: Sequence[int]) -> int:
    width = 1
    for size in rest:
        width *= size
    return width
