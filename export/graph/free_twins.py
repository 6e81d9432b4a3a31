"""Functions of torch that a graph can say in another form only, for the time of a capture: attention, a ramp, a median.

torch asks for the number of steps of ``linspace`` as a plain number, and the exporter knows attention over [B, H, T, E]
alone, and of what sorts only a sort. What is here computes the same, as free_pooling.py does for pooling.

Rules of this file: pure; where a form needs no twin, torch's own runs.
"""

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

_WITHOUT_HEADS: Final = 3  # axes of [B, T, E]


def twin_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what computes the same of a free length, or the function itself; plain comparisons, as free_form_of."""
    if function is torch.linspace:
        return linspace
    if function is functional.scaled_dot_product_attention:
        return attention
    if function in {torch.median, Tensor.median}:
        return median
    if function in {torch.kthvalue, Tensor.kthvalue}:
        return kthvalue
    return function


def attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *rest: Any, **how: Any
) -> Any:
    """Return functional.scaled_dot_product_attention, of [B, T, E] as that of one head."""
    attend: Any = functional.scaled_dot_product_attention
    if any(part.dim() != _WITHOUT_HEADS for part in (query, key, value)):
        return attend(query, key, value, attn_mask, *rest, **how)
    if attn_mask is not None and attn_mask.dim() == _WITHOUT_HEADS:
        attn_mask = attn_mask.unsqueeze(1)
    heads = [part.unsqueeze(1) for part in (query, key, value)]
    return attend(*heads, attn_mask, *rest, **how).squeeze(1)


def linspace(start: Any, end: Any, steps: Any, **how: Any) -> Tensor:
    """Return torch.linspace; of a free number of steps from both ends to the middle, as torch computes it."""
    dtype = how.get("dtype") or torch.get_default_dtype()
    is_plain = not isinstance(steps, torch.SymInt) or isinstance(start, Tensor) or isinstance(end, Tensor)
    if is_plain or not dtype.is_floating_point:
        return torch.linspace(start, end, steps, **how)
    place: Tensor = torch.arange(steps, device=how.get("device")).to(dtype)
    last = torch.tensor(steps - 1, dtype=dtype)
    step = (end - start) / last.clamp(min=1)
    first_half = place < ((last + 1) / 2).floor().clamp(min=1)
    return torch.where(first_half, start + step * place, end - step * (last - place))


def median(input: Tensor, *args: Any, **named: Any) -> Any:  # noqa: A002 - torch's name
    """Return torch.median along an axis, the lower of two in the middle; without an axis torch's own."""
    if isinstance(args[0] if args else named.get("dim"), int):
        return _sorted_at(input, lambda steps: (steps - 1) // 2, torch.return_types.median, *args, **named)
    return torch.median(input, *args, **named)


def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:  # noqa: A002
    """Return torch.kthvalue."""
    return _sorted_at(input, lambda _: k - 1, torch.return_types.kthvalue, dim, keepdim)


def _sorted_at(
    signal: Tensor, place: Callable[[Any], Any], returned: Callable[..., Any], dim: int, keepdim: bool = False
) -> Any:
    """Return the number that stands at a place in order along an axis, and where it stood; NaN, if any, is last."""
    at = place(signal.size(dim))
    found = [part.select(dim, at) for part in signal.sort(dim)]
    return returned([part.unsqueeze(dim) for part in found] if keepdim else found)
