"""``len(x)`` of a tensor, for the time of an export: Python makes a plain number of it, which would freeze the length.

While ``length_left_free`` is entered, the code of a module gets ``x.size(0)`` from ``len(x)``, which stays free.
"""

import builtins
import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from .names_exchanged import homes_of


def _size(thing: Any) -> Any:
    return thing.size(0) if isinstance(thing, Tensor) else builtins.len(thing)


@contextlib.contextmanager
def length_left_free(module: nn.Module) -> Iterator[None]:
    """Let the code of ``module`` and of its children see free lengths while entered."""
    homes = [home for home in homes_of(module) if "len" not in home]
    try:
        for home in homes:
            home["len"] = _size
        yield
    finally:
        for home in homes:
            del home["len"]
