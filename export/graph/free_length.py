"""``len(x)`` and ``int(n)``, for the time of an export: Python makes plain numbers of them, which freezes a length.

While ``length_left_free`` is entered, the code of a module gets ``x.size(0)`` from ``len(x)``, which stays free. While
``numbers_left_free`` is, ``int`` of a size or of a tensor's one number leaves it free too, in files that only call it:
as a type, as in ``dtype=int``, it stays Python's own.
"""

import builtins
import contextlib
import dis
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from .names_exchanged import homes_of


def _size(thing: Any) -> Any:
    return thing.size(0) if isinstance(thing, Tensor) else builtins.len(thing)


def _whole(value: Any = 0, *base: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.item()
    if isinstance(value, torch.SymFloat):
        return torch.sym_int(value)  # type: ignore[no-untyped-call]
    return value if isinstance(value, torch.SymInt) else builtins.int(value, *base)


@contextlib.contextmanager
def length_left_free(module: nn.Module) -> Iterator[None]:
    """Let the code of ``module`` and of its children see free lengths while entered."""
    with _named("len", _size, homes_of(module)):
        yield


@contextlib.contextmanager
def numbers_left_free(module: nn.Module) -> Iterator[None]:
    """Let the code of ``module`` and of its children keep sizes free in ``int()`` while entered."""
    with _named("int", _whole, [home for home in homes_of(module) if _only_calls_int(home)]):
        yield


@contextlib.contextmanager
def _named(name: str, stand_in: Callable[..., Any], homes: Sequence[dict[str, Any]]) -> Iterator[None]:
    homes = [home for home in homes if name not in home]
    try:
        for home in homes:
            home[name] = stand_in
        yield
    finally:
        for home in homes:
            del home[name]


def _only_calls_int(home: dict[str, Any]) -> bool:
    """Whether the code of a file, where it says ``int``, calls it, and hands it to nobody."""
    here = [value for value in home.values() if getattr(value, "__module__", None) == home.get("__name__")]
    methods = [one for value in here if isinstance(value, type) for one in vars(value).values()]
    codes = [value.__code__ for value in (*here, *methods) if isinstance(value, FunctionType)]
    return all(_is_called(instruction) for code in codes for instruction in _said(code, "int"))


def _said(code: CodeType, name: str) -> Iterator[dis.Instruction]:
    """Yield where code reads a global name, in the functions inside of it too."""
    yield from (one for one in dis.get_instructions(code) if one.opname == "LOAD_GLOBAL" and one.argval == name)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _said(constant, name)


def _is_called(instruction: dis.Instruction) -> bool:
    return bool((instruction.arg or 0) & 1)  # Python 3.11 and later: room is made for a call
