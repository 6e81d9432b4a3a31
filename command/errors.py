"""What a command can end with: exit statuses, and the errors that only the command line knows."""

from typing import ClassVar, Final

DONE: Final = 0
CHECK_FAILED: Final = 1
WRONG_USE: Final = 2
FAULT: Final = 70  # EX_SOFTWARE of sysexits.h: a fault of this program
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells count
PIPE_CLOSED: Final = 141  # 128 + SIGPIPE


class CommandError(Exception):
    """A command ends with a sentence. Raised only as one of its subclasses.

    Attributes:
        status: the exit status.
    """

    status: ClassVar[int]


class UsageError(CommandError):
    """Wrong use, or a file that cannot be read. The message names the thing, expected, found, and the remedy."""

    status = WRONG_USE


class CheckFailedError(CommandError):
    """The command ran, and what it checked does not hold."""

    status = CHECK_FAILED


class MissingExtraError(UsageError):
    """A package is missing that belongs to an extra."""

    def __init__(self, what: str, package: str, extras: str, more: str = "") -> None:
        super().__init__(f'{what} needs {package}, which is not installed; run pip install "cellgate[{extras}]"{more}')
