"""Arithmetic in half precision in a module's own code, seen while it runs once.

What float16 or bfloat16 rounds is a step: two float32 values that differ in the last digit may fall on both sides of
it, whoever computes them. So a product in half precision cannot be held against another to float32's digits. Values
that are only rounded and taken back, or moved, are left alone.

Rules of this file: it watches, and changes no result.
"""

import sys
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .lost_in_graph import place_of_frame

_aten = torch.ops.aten
_HALF: Final = (torch.float16, torch.bfloat16)
_PRODUCTS: Final = (_aten.mm, _aten.addmm, _aten.bmm, _aten.baddbmm, _aten.mv, _aten.dot, _aten.convolution)
_EXACT: Final = (_aten._to_copy, _aten.clone, _aten.copy_, _aten.where, _aten.neg, _aten.abs, _aten.relu)  # noqa: SLF001 - its only name


class HalfPrecisionSeen(TorchDispatchMode):
    """Notes the first operation in half precision that rounds.

    Attributes:
        found: such as "float16 at net.py:12 (forward)"; "" where there was none.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = ""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation, and look at what it was given and what it gave."""
        result = func(*args, **(kwargs or {}))
        if not self.found and isinstance(result, Tensor) and result.dtype in _HALF and _rounds(func, args):
            dtype = str(result.dtype).removeprefix("torch.")
            self.found = dtype + place_of_frame(sys._getframe(1))  # noqa: SLF001 - the documented way to see who calls
        return result


def half_precision_in(run: Callable[[], object]) -> str:
    """Return what HalfPrecisionSeen finds in a run."""
    seen = HalfPrecisionSeen()
    with seen:
        run()
    return seen.found


def say_half_precision(name: str, found: str) -> str:
    """Return the refusal of a module, or of a cell, called ``name``."""
    return (
        f"{name} computes in {found}, expected float32: what half precision rounds, PyTorch and onnxruntime round "
        "apart; let it stay in float32, without half(), bfloat16() or to() of such a type around what it computes"
    )


def _rounds(func: Any, args: tuple[Any, ...]) -> bool:
    packet = func.overloadpacket
    arithmetic = packet in _PRODUCTS or (torch.Tag.pointwise in func.tags and packet not in _EXACT)
    return arithmetic and any(isinstance(one, Tensor) and one.dtype in _HALF for one in tree_leaves(args))
