"""Pooling over time as a graph with a free length can say it, for the time of a capture.

torch asks for the length as a plain number where it pools with ``max_pool1d`` on the CPU or adaptively, and decides by
it with ``ceil_mode``. What is here computes the same of any length.

Rules of this file: pure; where a form has no such twin, torch's own runs, and the capture says what it binds.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.nn import functional

from .free_twins import twin_of


def free_form_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what computes the same of a free length, or the function itself.

    Plain comparisons, for the body of a Scan is read through here by a compiler that knows no tables of functions.
    """
    if function in {torch.max_pool1d, functional.max_pool1d}:
        return _max_pool
    if function is torch.avg_pool1d:
        return _avg_pool
    if function is torch.adaptive_avg_pool1d:
        return _adaptive_avg_pool
    if function is functional.adaptive_max_pool1d:
        return _adaptive_max_pool
    return twin_of(function)


def _max_pool(
    signal: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Return torch.max_pool1d of [B, C, T] or [C, T], by an axis of one beside T."""
    if return_indices:
        return functional.max_pool1d_with_indices(signal, kernel_size, stride, padding, dilation, ceil_mode)
    if _is_whole(signal, kernel_size, padding) and _number(dilation) == 1:
        return signal.amax(-1, keepdim=True)
    kernel, step = _number(kernel_size), _number(stride or kernel_size)
    before, apart = _number(padding), _number(dilation)
    if ceil_mode and before + step <= apart * (kernel - 1) + 1:  # then no window begins behind the sequence
        signal, ceil_mode = functional.pad(signal, (0, step - 1), value=-torch.inf), False
    sizes = (1, kernel), (1, step), (0, before), (1, apart)
    return functional.max_pool2d(signal.unsqueeze(-2), *sizes, ceil_mode).squeeze(-2)


def _avg_pool(
    signal: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Return torch.avg_pool1d of [B, C, T] or [C, T]; a last window that is cut off is a mean over what it has."""
    if _is_whole(signal, kernel_size, padding):
        return signal.mean(-1, keepdim=True)
    kernel, step, before = _number(kernel_size), _number(stride or kernel_size), _number(padding)
    if not ceil_mode or before or step > kernel:
        return torch.avg_pool1d(signal, kernel, step, before, ceil_mode, count_include_pad)
    more = (0, step - 1)
    ones = functional.pad(torch.ones_like(signal[..., :1, :]), more)
    return torch.avg_pool1d(functional.pad(signal, more), kernel, step) / torch.avg_pool1d(ones, kernel, step)


def _adaptive_avg_pool(signal: Tensor, output_size: Any) -> Tensor:
    """Return torch.adaptive_avg_pool1d of [B, C, T] or [C, T], as a product with the windows' weights [T, windows]."""
    count = output_size[0] if isinstance(output_size, tuple | list) else output_size
    if statically_known_true(count == 1):
        return signal.mean(-1, keepdim=True)
    inside = _windows(signal.size(-1), count).to(signal.dtype)
    return signal @ (inside / inside.sum(1, keepdim=True)).transpose(0, 1)


def _adaptive_max_pool(signal: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Return torch.adaptive_max_pool1d of [B, C, T] or [C, T], window by window."""
    if return_indices:
        return functional.adaptive_max_pool1d_with_indices(signal, output_size)
    inside = _windows(signal.size(-1), _number(output_size))
    return torch.stack([torch.where(window, signal, -torch.inf).amax(-1) for window in inside.unbind(0)], -1)


def _windows(steps: Any, count: Any) -> Tensor:
    """Return which of the steps each window has, bool [windows, T]; neighbours may share one."""
    window, step = torch.arange(count).unsqueeze(1), torch.arange(steps).unsqueeze(0)
    first = torch.div(window * steps, count, rounding_mode="floor")
    last = torch.div((window + 1) * steps + (count - 1), count, rounding_mode="floor")
    return (step >= first) & (step < last)


def _is_whole(signal: Tensor, kernel_size: Any, padding: Any) -> bool:
    """Whether one window is said to hold the whole sequence, by a free length as its size."""
    kernel = kernel_size[0] if isinstance(kernel_size, tuple | list) else kernel_size
    if not isinstance(kernel, torch.SymInt):
        return False
    return statically_known_true(kernel == signal.size(-1)) and _number(padding) == 0


def _number(size: Any) -> int:
    return int(size[0] if isinstance(size, tuple | list) else size)
