"""What a module's code does that a graph loses without a word, seen while it runs: autocast, tables that it rescales.

Under ``torch.autocast`` PyTorch computes in half precision, which would be another network than was trained in float32;
and ``functional.embedding(..., max_norm=)`` changes its table, which a graph only reads.

Rules of this file: it watches while a network is made ready, and what it saw comes before what went wrong thereby.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional

from .errors import ExportError, SourceError
from .graph.size_guards import STRANGERS

_HOUSE: Final = STRANGERS[1]
_BETWEEN: Final = (STRANGERS[0], contextlib.__file__)


@contextlib.contextmanager
def nothing_lost_in_graph(module: nn.Module) -> Iterator[None]:
    """Watch the code of ``module`` while entered.

    Raises:
        SourceError: it does what a graph would lose; names the place.
    """
    seen: list[str] = []
    enter, renorm = torch.autocast.__enter__, vars(functional)["_no_grad_embedding_renorm_"]

    def watched_enter(self: torch.autocast) -> Any:
        if self._enabled and self.device == "cpu" and self.fast_dtype != torch.float32:
            dtype = str(self.fast_dtype).removeprefix("torch.")
            seen.append(
                f"{type(module).__name__} computes in {dtype} under torch.autocast{_place()}, expected float32; take "
                "autocast out of its code, and enter it around the call where you train"
            )
        return enter(self)  # type: ignore[no-untyped-call]

    def watched_renorm(weight: Any, *rest: Any) -> Any:
        seen.append(
            f"{type(module).__name__} rescales a table as it reads it, by max_norm of functional.embedding{_place()}, "
            "expected a table that stays; hold it in nn.Embedding(..., max_norm=...), whose rows are scaled once"
        )
        return renorm(weight, *rest)

    exchanged: tuple[tuple[Any, str, Callable[..., Any], Callable[..., Any]], ...] = (
        (torch.autocast, "__enter__", watched_enter, enter),
        (functional, "_no_grad_embedding_renorm_", watched_renorm, renorm),
    )
    for home, name, watched, _ in exchanged:
        setattr(home, name, watched)
    try:
        yield
    except ExportError as err:
        if seen:
            raise SourceError(seen[0]) from err
        raise
    finally:
        for home, name, _, was in exchanged:
            setattr(home, name, was)
    if seen:
        raise SourceError(seen[0])


def _place() -> str:
    return place_of_frame(sys._getframe(2))  # noqa: SLF001 - the documented way to walk the stack without reading sources


def place_of_frame(frame: FrameType | None) -> str:
    """Return " at FILE:LINE (FUNCTION)" of the code that called torch; "" where none stands between it and us."""
    while frame is not None and frame.f_code.co_filename.startswith(_BETWEEN):
        frame = frame.f_back
    if frame is None or frame.f_code.co_filename.startswith(_HOUSE):
        return ""
    return f" at {Path(frame.f_code.co_filename).name}:{frame.f_lineno} ({frame.f_code.co_name})"
