"""TorchScript of a module inside a forward that is written as text, for what is known of its call.

Rules of this file: nothing is found out or proved here; the text is the caller's.
"""

from typing import Any

import torch
from torch import nn


def script_around(module: nn.Module, name: str) -> Any:
    """Return a compiled module that holds ``module``, compiled, under ``name``; its forward is yet to be defined.

    Raises:
        Exception: whatever the compiler says to the module.
    """
    # The compiler takes modules of one class and structure for one type, to which a second forward cannot be given.
    holder = type("Around", (nn.Module,), {})()
    holder.add_module(name, module)
    return torch.jit.script(holder)
