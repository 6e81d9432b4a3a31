"""What a stranger's error says, in one line that a sentence or a report can hold."""

from typing import Final

from ..model.error_line import first_line

__all__ = ["first_line", "said_by"]


_INTERPRETER: Final = "failed in the TorchScript interpreter"


def said_by(err: BaseException) -> str:
    """Return an error's class and its first line; of TorchScript's its last, which says what failed."""
    lines = str(err).strip().splitlines()
    if lines and _INTERPRETER in lines[0]:
        return lines[-1].strip()
    return f"{type(err).__name__}: {first_line(err)}"
