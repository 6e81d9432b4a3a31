"""Names that the code of a module looks up, exchanged for a time: for what a graph cannot say in torch's own words.

Rules of this file: afterwards every name means what it meant before.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any

from torch import nn
from torch.nn.utils import rnn


@contextlib.contextmanager
def names_exchanged(
    homes: Sequence[dict[str, Any]], stand_ins: Mapping[Callable[..., Any], Callable[..., Any]]
) -> Iterator[None]:
    """Let each name in ``homes`` that means a key of ``stand_ins`` mean its value while entered."""
    # By identity, for what is looked up may be of any kind, also one that cannot be hashed.
    by_identity = {id(old): new for old, new in stand_ins.items()}
    undo: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for home in homes:
            for name, value in list(home.items()):
                replacement = by_identity.get(id(value))
                if replacement is not None:
                    undo.append((home, name, value))
                    home[name] = replacement
        yield
    finally:
        for home, name, value in undo:
            home[name] = value


def homes_of(module: nn.Module) -> list[dict[str, Any]]:
    """Return the globals in which the code of ``module`` and of its children looks up its names, each once."""
    kinds = {kind for child in module.modules() for kind in type(child).__mro__}
    methods = [one for kind in kinds for one in vars(kind).values() if isinstance(one, FunctionType)]
    # A method's own module may be another than that of its class: forward may have been put there.
    names = {kind.__module__ for kind in kinds} | {method.__module__ for method in methods}
    names = {name for name in names if name in sys.modules and not name.startswith("torch.")} | {rnn.__name__}
    return [vars(sys.modules[name]) for name in sorted(names)]
