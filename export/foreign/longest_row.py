"""The longest row of a batch is taken to fill it, as ``lengths.max()`` has it in code that pads a batch no further.

A request may be padded further than its longest row. Then a mask of ``torch.arange(lengths.max())`` would have fewer
steps than what it masks; so, while a ``LongestFills`` is entered, code that asks for the longest of its lengths gets
the number of steps, as it does from ``pad_packed_sequence`` (ragged.py). For a row alone that is the same.
"""

import builtins
from collections.abc import Callable
from typing import Any, Final, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..graph.names_exchanged import homes_of

_LARGEST: Final = frozenset({Tensor.max, torch.max, Tensor.amax, torch.amax})
# What gives the same lengths, in another type or order.
_SAME: Final = frozenset(
    {
        *(Tensor.cpu, Tensor.to, Tensor.long, Tensor.int, Tensor.float, Tensor.clone, Tensor.detach),
        *(Tensor.contiguous, Tensor.view, Tensor.reshape, Tensor.flatten, Tensor.squeeze, Tensor.tolist, Tensor.numpy),
        *(torch.as_tensor, Tensor.data.__get__),  # type: ignore[attr-defined] # of the C type
    }
)
_SORTS: Final = frozenset({Tensor.sort, torch.sort})
_TAKE_SIZES: Final = frozenset({torch.arange, Tensor.__getitem__, Tensor.expand, Tensor.narrow})


class LongestFills(TorchFunctionMode):
    """While entered, the largest of ``lengths`` is ``steps``.

    Args:
        module: whose code asks.
        lengths: integer [B], as handed to it.
        steps: T.
    """

    def __init__(self, module: nn.Module, lengths: Tensor, steps: Any) -> None:
        super().__init__()
        self._homes = [home for home in homes_of(module) if "max" not in home]
        self._lengths: list[Any] = [lengths]
        self._falling: list[Any] = []
        self._longest: list[Any] = []
        self._steps = steps

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func``, or say how many steps there are."""
        del types
        named = kwargs or {}
        if not args:
            return func(**named)
        if self._asks_for_longest(func, args, named):
            longest = torch.full((), self._steps, dtype=args[0].dtype, device=args[0].device)
            self._longest.append(longest)
            return longest
        if func is Tensor.item and _is_one_of(args[0], self._longest):
            return self._steps
        if func in _TAKE_SIZES:
            args = tuple(self._as_size(value) for value in args)
        result = func(*args, **named)
        if func in _SORTS and _is_one_of(args[0], self._lengths):
            self._lengths.append(result[0])
            if named.get("descending") or True in args[1:]:
                self._falling.append(result[0])
        elif (func in _SAME or _counts_one_at_least(func, args, named)) and _is_one_of(args[0], self._lengths):
            self._lengths.append(result)
            if _is_one_of(args[0], self._falling):
                self._falling.append(result)
        return result

    def _asks_for_longest(self, func: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> bool:
        if func is Tensor.__getitem__:
            return type(args[1]) is int and args[1] == 0 and _is_one_of(args[0], self._falling)
        return func in _LARGEST and len(args) == 1 and not named and _is_one_of(args[0], self._lengths)

    def _as_size(self, value: Any) -> Any:
        """Return the number of steps for the longest row, also within what an index is made of."""
        if isinstance(value, slice):
            return slice(*(self._as_size(part) for part in (value.start, value.stop, value.step)))
        if type(value) is tuple:
            return tuple(self._as_size(part) for part in value)
        return self._steps if _is_one_of(value, self._longest) else value

    def _max(self, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and not kwargs and _is_one_of(args[0], self._lengths):
            return self._steps
        return builtins.max(*args, **kwargs)

    def __enter__(self) -> Self:
        """Take the place of ``max`` too, which asks no mode."""
        for home in self._homes:
            home["max"] = self._max
        return super().__enter__()  # type: ignore[no-any-return, no-untyped-call]

    def __exit__(self, *raised: object) -> None:
        """Leave the names as they were."""
        for home in self._homes:
            del home["max"]
        super().__exit__(*raised)  # type: ignore[no-untyped-call]


def _counts_one_at_least(func: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> bool:
    """Whether a row of no step is given one, which changes no longest row."""
    return func in {Tensor.clamp, torch.clamp} and len(args) == 1 and named == {"min": 1}


def _is_one_of(value: Any, known: list[Any]) -> bool:
    return any(value is one for one in known)
