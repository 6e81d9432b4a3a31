"""What a module keeps in itself from call to call: put back after each call, so that every call starts alike.

Much code holds its state in ``self.hidden`` and overwrites it in ``forward``. As served, such a network starts at the
state that it was made with, like any other, and goes on from a state that it is given.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def attributes_kept(module: nn.Module) -> Iterator[list[str]]:
    """Put back every attribute and buffer that is assigned to while entered; the list then names them by their paths.

    A tensor that is changed in place, or a list that is appended to, is not noticed.
    """
    changed: list[str] = []
    if isinstance(module, torch.jit.ScriptModule):  # its attributes are no Python objects
        yield changed
        return
    before = [(path, child, dict(vars(child)), dict(child._buffers)) for path, child in module.named_modules()]  # noqa: SLF001 - buffers that were assigned
    try:
        yield changed
    finally:
        for path, child, *kept in before:
            for was, now in zip(kept, (vars(child), child._buffers), strict=True):  # noqa: SLF001
                names = _differing(was, now)
                changed += [f"{path}.{name}".lstrip(".") for name in names]
                if names:
                    now.clear()
                    now.update(was)


def _differing(was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    missing = object()
    return [name for name in {**was, **now} if was.get(name, missing) is not now.get(name, missing)]
