"""What a module asks torch of itself, answered for the time of a capture as where it simply runs.

``torch.compiler.is_compiling()`` is true while a graph is captured, and code that asks goes another way there than
where it was trained. While ``answered_as_eager`` is entered, the code of a module is told what it is told eagerly,
that of a cell in the body of a Scan too, which torch does not run but reads; torch itself is told the truth.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from types import FrameType, ModuleType
from typing import Final

import torch
from torch import nn

from .names_exchanged import homes_of, names_exchanged
from .size_guards import STRANGERS

# What calls a function, of those marked as ``ask`` is, for the code that it reads.
_ASKS_IN_PLACE: Final = "invoke_and_store_as_constant"
_QUESTIONS: Final = ("is_compiling", "is_exporting")
_ASKED: Final[tuple[ModuleType, ...]] = (torch.compiler, torch._utils)  # noqa: SLF001 - the old place, still in use


@contextlib.contextmanager
def answered_as_eager(module: nn.Module) -> Iterator[None]:
    """Tell the code of ``module`` and of its children, while entered, that nothing is compiled."""
    _let_torch_know_its_questions()
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


def _let_torch_know_its_questions() -> None:
    """Let torch make its tables of them, which it does once, while their names still mean what they mean."""
    from torch._dynamo import trace_rules  # noqa: PLC0415 - costs a second, which only a capture needs, and it anyway
    from torch._dynamo.variables.torch import tracing_state_functions  # noqa: PLC0415 - as above

    trace_rules.get_torch_obj_rule_map()
    tracing_state_functions()


def _answered(question: Callable[[], bool], *, answer: bool) -> Callable[[], bool]:
    def ask() -> bool:
        return question() if _who_asks(sys._getframe(1)).startswith(STRANGERS) else answer  # noqa: SLF001 - the documented way to see who calls

    # What reads the body of a Scan would follow this code, which it cannot; it calls it, and takes what it gets.
    ask._dynamo_marked_constant = True  # type: ignore[attr-defined] # noqa: SLF001
    return ask


def _who_asks(frame: FrameType) -> str:
    """Return the file of the code that asks: of what is being read, where torch reads code and asks in its place."""
    reader = frame.f_locals.get("tx") if frame.f_code.co_qualname == _ASKS_IN_PLACE else None
    code = frame.f_code if reader is None else reader.f_code
    return str(code.co_filename)
