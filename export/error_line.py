"""What a stranger's error says, in one line that a sentence or a report can hold."""

from ..model.error_line import first_line

__all__ = ["first_line", "said_by"]


def said_by(err: BaseException) -> str:
    """Return an error's class and its first line."""
    return f"{type(err).__name__}: {first_line(err)}"
