"""The first line of what a stranger's error says, for a sentence of this house to hold.

Rules of this file: text in, text out.
"""

from typing import Final

_SHOWN: Final = 300


def first_line(err: BaseException) -> str:
    """Return the first line of an error's text that holds anything, cut."""
    return next((line.strip() for line in str(err).splitlines() if line.strip()), "no reason given")[:_SHOWN]
