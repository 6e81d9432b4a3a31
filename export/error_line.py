"""What a stranger's error says, in one line that a sentence or a report can hold."""

from typing import Final

_SHOWN: Final = 300


def first_line(err: BaseException) -> str:
    """Return the first line of an error's text that holds anything, cut."""
    return next((line.strip() for line in str(err).splitlines() if line.strip()), "no reason given")[:_SHOWN]


def said_by(err: BaseException) -> str:
    """Return an error's class and its first line."""
    return f"{type(err).__name__}: {first_line(err)}"
