"""A module that takes a batch of one, given more rows: by other sizes in its views, or mapped over the rows.

``x.view(1, 1, -1)`` says that there is one row. With as many as there are in the place of its last 1 the module often
runs for a whole batch, and each row gives what it gives alone, which is proved on runs. Else vmap runs it row by row.

Rules of this file: what vmap has no rule for, or one that freezes the number of rows, gets another form of the same.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class ViewsWidened(TorchFunctionMode):
    """While entered, ``view(1, 1, -1)`` and ``view(1, -1)`` keep so many rows apart."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self._rows = rows

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func``, with the rows in the place of its last 1."""
        del types
        if func in {Tensor.view, Tensor.reshape, torch.reshape} and not kwargs:
            sizes = tuple(args[1]) if isinstance(args[1], tuple | list) else args[1:]
            if all(type(size) is int for size in sizes) and sizes in {(1, -1), (1, 1, -1)}:
                return args[0].reshape(*sizes[:-2], self._rows, -1)
        return func(*args, **(kwargs or {}))


class JoinedBySum(TorchFunctionMode):
    """While entered, ``torch.cat`` is a sum of padded parts, to the bit: vmap's own rule for it freezes the rows."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func``, or join by padding."""
        del types
        if func in {torch.cat, torch.concat, torch.concatenate}:
            return _joined(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _joined(tensors: Sequence[Tensor], dim: int = 0, *, axis: int | None = None) -> Tensor:
    place = dim if axis is None else axis
    place = place if place < 0 else place - tensors[0].dim()
    sizes = [tensor.shape[place] for tensor in tensors]
    parts = [
        functional.pad(tensor, [0, 0] * (-1 - place) + [sum(sizes[:k]), sum(sizes[k + 1 :])])
        for k, tensor in enumerate(tensors)
    ]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def map_rows(
    one: Callable[..., tuple[Tensor, ...]], given: Sequence[Tensor], in_axes: Sequence[int], out_axes: Sequence[int]
) -> list[Tensor]:
    """Return what ``one`` gives for each row, its rows joined along ``out_axes``."""
    with JoinedBySum():
        return list(torch.vmap(one, in_dims=tuple(in_axes), out_dims=tuple(out_axes))(*given))
