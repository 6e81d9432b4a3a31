"""The width of a step, or the number of tokens, where no layer tells it: found by trying.

A module that joins something of its own making to each step, as differences or the time, has no layer as wide as what
it is given, and one that makes one-hot vectors has no table of its tokens.

Rules of this file: taken is only what nothing else of its kind runs beside; of several none is.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final

from ..errors import SignatureError

_WIDEST: Final = 320  # of what is tried: spectra and features of a step are seldom wider
_FEW: Final = 3
LOOP_AROUND: Final = (
    "let it take its state as an argument and give it back, or, where it keeps it in itself, give a module around it "
    "whose forward(x) is torch.stack([self.net(step) for step in x.unbind(1)], 1)"
)


def only_width(runs: Callable[[int], bool], name: str) -> int | None:
    """Return the only width of a step for which a module runs, or None where it runs for none.

    Args:
        runs: whether the module runs for a width.
        name: of the module.

    Raises:
        SignatureError: it runs for several.
    """
    found: list[int] = []
    for width in range(1, _WIDEST + 1):
        if runs(width):
            found.append(width)
        if len(found) == _FEW:
            break
    if len(found) > 1:
        several = " and ".join(map(str, found)) if len(found) < _FEW else f"{', '.join(map(str, found))} and more"
        raise SignatureError(
            f"{name}.forward runs for several input widths ({several}), expected a layer that tells which; say "
            "--input-dim"
        )
    return found[0] if found else None


def number_of_tokens(runs: Callable[[int], bool], candidates: Iterable[int]) -> int | None:
    """Return the candidate that is just the number of tokens: the highest of them runs, and the next one does not."""
    return next((count for count in candidates if runs(count) and not runs(count + 1)), None)


def takes_something_else(said: str, left: Iterable[str] = ()) -> str:
    """Return what helps where a complaint is about what was given, and not about its width; else nothing.

    Args:
        said: by the module.
        left: arguments of its forward that were left at None.
    """
    wanted = next((name for name in left if re.search(rf"\b{re.escape(name)}\b", said) or "NoneType" in said), None)
    if wanted is not None:
        return (
            f"where forward needs {wanted}, which was left at None, give a module around it whose forward(x) cuts it "
            "out of one x, as self.net(x[..., :3], x[..., 3]) (docs/modules.md, several inputs), and "
        )
    told_by = (
        "unpack",
        "too many indices",
        "data type 'str'",
        "has no attribute",
        "indices must be",
        "out of range (exp",
    )
    if not any(words in said for words in told_by):
        return ""
    return (
        "where forward takes a dict, a tuple or more axes than [B, T, I], give a module around it whose forward(x) "
        "makes that of one x [B, T, I], as self.net(x.unflatten(-1, (17, 3))), and "
    )
