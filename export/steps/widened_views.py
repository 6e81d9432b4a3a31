"""A module that takes a batch of one, given more rows: with other sizes in its views.

``x.view(1, 1, -1)`` says that there is one row. With as many as there are in the place of its last 1 the module often
runs for a whole batch, and each row gives what it gives alone, which is proved on runs (step_probe.py, step_proof.py).

Rules of this file: it knows views and nothing of modules.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class ViewsWidened(TorchFunctionMode):
    """While entered, ``view(1, 1, -1)``, ``view(1, -1)`` and ``view(1, 5)`` keep so many rows apart."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self._rows = rows

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func``, with the rows in the place of its last leading 1."""
        del types
        if func in {Tensor.view, Tensor.reshape, torch.reshape} and not kwargs:
            sizes = tuple(args[1]) if isinstance(args[1], tuple | list) else args[1:]
            if self._is_of_one_row(args[0], sizes):
                last = next((k for k, size in enumerate(sizes) if size != 1), len(sizes)) - 1
                return args[0].reshape(*sizes[:last], self._rows, *sizes[last + 1 :])
        return func(*args, **(kwargs or {}))

    def _is_of_one_row(self, tensor: Tensor, sizes: tuple[Any, ...]) -> bool:
        """Whether a view asks for one row, of a tensor that has all of them."""
        if not sizes or not all(type(size) is int for size in sizes) or sizes[0] != 1:
            return False
        if -1 in sizes:
            return sizes in {(1, -1), (1, 1, -1)}
        count = tensor.numel()
        if type(count) is int and type(self._rows) is not int:  # in a graph, where the rows are free: it has none
            return False
        return bool(count == prod(sizes) * self._rows)
