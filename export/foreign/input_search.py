"""The width of a step, or the number of tokens, where no layer tells it: found by trying.

A module that joins something of its own making to each step, as differences or the time, has no layer as wide as what
it is given, and one that makes one-hot vectors has no table of its tokens.

Rules of this file: taken is only what nothing else of its kind runs beside; of several none is.
"""

from collections.abc import Callable, Iterable
from typing import Final

from ..errors import SignatureError

_WIDEST: Final = 320  # of what is tried: spectra and features of a step are seldom wider
_FEW: Final = 3


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
