"""A module that takes one sequence at a time, called for a batch: row after row, and in a graph mapped over the rows.

Rules of this file: lengths [B] and states [L, B, H] may be None; both ways give (y, final states), the rows in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from .network import ForeignNetwork


def row_by_row(
    network: ForeignNetwork, x: Tensor, lengths: Tensor | None, state: list[Tensor] | None
) -> tuple[Tensor, list[Tensor]]:
    """Call the module for each row."""
    parts = [
        network.run_rows(
            x[row : row + 1],
            None if lengths is None else lengths[row : row + 1],
            None if state is None else [tensor[:, row : row + 1] for tensor in state],
        )
        for row in range(x.size(0))
    ]
    finals = zip(*(final for _, final in parts), strict=True)
    return torch.cat([y for y, _ in parts]), [torch.cat(tensors, 1) for tensors in finals]


def mapped(
    network: ForeignNetwork, x: Tensor, lengths: Tensor | None, state: list[Tensor] | None
) -> tuple[Tensor, list[Tensor]]:
    """Call the module once for all rows, by torch.vmap, which a capture can read."""
    first = 1 if lengths is None else 2

    def one(*given: Tensor) -> tuple[Tensor, ...]:
        counts = None if lengths is None else given[1].unsqueeze(0)
        initial = None if state is None else [tensor.unsqueeze(1) for tensor in given[first:]]
        y, final = network.run_rows(given[0].unsqueeze(0), counts, initial)
        return (y.squeeze(0), *(tensor.squeeze(1) for tensor in final))

    taken = (x, *(() if lengths is None else (lengths,)), *(state or ()))
    count = sum(len(tensors) for tensors in network.stacks.values()) if network.carries_state else 0
    in_axes = (0,) * first + (1,) * (len(taken) - first)
    network.carry.mapped = True
    with _LinearOfRows():
        y, *final = torch.vmap(one, in_dims=in_axes, out_dims=(0, *(1,) * count))(*taken)
    return y, final


class _LinearOfRows(TorchFunctionMode):
    """Linear maps of [T, 1, W] as those of [T, W]: where mapped, those of more axes ask for sizes that are free."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func``, or the one in its place."""
        del types
        return (_linear_of_rows if func is functional.linear else func)(*args, **(kwargs or {}))


def _linear_of_rows(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if x.dim() < 3:  # noqa: PLR2004 - [T, W] and [W]
        return functional.linear(x, weight, bias)
    return functional.linear(x.flatten(0, -2), weight, bias).reshape(*x.shape[:-1], weight.size(0))
