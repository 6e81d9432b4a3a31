"""How help is set: introductions and lists as wide as the options, which argparse sets to the terminal's width.

Rules of this file: light. A line break after a full stop stays, others follow the width; indented lines are lists or
examples, and where a line of them is too long, what stands behind its gap goes on below it.
"""

import argparse
import re
import textwrap
from collections.abc import Iterator
from typing import Final

_GAP: Final = re.compile(r"^ +\S.*? {2,}(?=\S)")
_NARROW: Final = 40  # columns; what stands behind a gap in fewer goes on the next line
_BELOW: Final = " " * 6


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """argparse's, for descriptions and epilogs that are wider than the terminal."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for part in _parts(text) for line in _set(part, width - len(indent)))


def _parts(text: str) -> Iterator[str]:
    """Return what is set for itself: an indented or empty line, or lines up to one that ends with a full stop."""
    open_part = ""
    for line in text.splitlines():
        stands_alone = not line or line.startswith(" ")
        if open_part and (stands_alone or open_part.endswith(".")):
            yield open_part
            open_part = ""
        if stands_alone:
            yield line
        else:
            open_part = f"{open_part} {line}".strip()
    if open_part:
        yield open_part


def _set(part: str, width: int) -> list[str]:
    gap = _GAP.match(part)
    if len(part) <= width or (part.startswith(" ") and gap is None):  # a command is copied whole
        return [part]
    if gap is not None and width - len(gap[0]) < _NARROW:
        return [gap[0].rstrip(), *_wrap(f"{_BELOW}{part[len(gap[0]) :]}", width, _BELOW)]
    return _wrap(part, width, " " * (0 if gap is None else len(gap[0])))


def _wrap(text: str, width: int, below: str) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent=below, break_long_words=False, break_on_hyphens=False)
