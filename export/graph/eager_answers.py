"""What a module asks torch of itself, answered for the time of a capture as where it simply runs.

``torch.compiler.is_compiling()`` is true while a graph is captured, and code that asks goes another way there than
where it was trained. While ``answered_as_eager`` is entered, the code of a module is told what it is told eagerly;
torch itself, and what stands in the body of a Scan, is told the truth.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Final

import torch
from torch import nn

from .names_exchanged import homes_of, names_exchanged
from .size_guards import STRANGERS

_QUESTIONS: Final = ("is_compiling", "is_exporting")
_ASKED: Final[tuple[ModuleType, ...]] = (torch.compiler, torch._utils)  # noqa: SLF001 - the old place, still in use


@contextlib.contextmanager
def answered_as_eager(module: nn.Module) -> Iterator[None]:
    """Tell the code of ``module`` and of its children, while entered, that nothing is compiled."""
    asked = [getattr(home, name) for home in _ASKED for name in _QUESTIONS if hasattr(home, name)]
    homes = [vars(home) for home in _ASKED] + homes_of(module)
    with names_exchanged(homes, {question: _answered(question, answer=False) for question in asked}):
        yield


@contextlib.contextmanager
def answered_as_scripted(module: nn.Module) -> Iterator[None]:
    """Tell the code of ``module`` and of its children, while entered, that it is compiled TorchScript."""
    question = vars(torch.jit)["is_scripting"]
    with names_exchanged([vars(torch.jit), *homes_of(module)], {question: _answered(question, answer=True)}):
        yield


def _answered(question: Callable[[], bool], *, answer: bool) -> Callable[[], bool]:
    def ask() -> bool:
        asks = sys._getframe(1).f_code.co_filename  # noqa: SLF001 - the documented way to see who calls
        return question() if asks.startswith(STRANGERS) else answer

    # What follows the body of a Scan cannot look at frames, and takes the answer that it gets outside of it.
    ask._dynamo_marked_constant = True  # type: ignore[attr-defined] # noqa: SLF001
    return ask
