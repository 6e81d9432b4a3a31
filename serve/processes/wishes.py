"""What is wished of a loop from elsewhere: by a signal's handler, by another thread.

Rules of this file: a wish is a byte in a pipe, so that it can be made at any moment, and wakes a loop that waits. What
each byte means is its loop's. A wish that comes when none is taken any more is nobody's fault.
"""

import os
from contextlib import suppress
from typing import Final

_AT_ONCE: Final = 4096


class Wishes:
    """A pipe of one's own, which a selector may wait for."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """Return the number of the file that can be read when there are wishes."""
        return self._read

    def make(self, wish: bytes) -> None:
        """Wish, from any thread and any number of times."""
        with suppress(OSError):  # the loop has ended, or was told often enough
            os.write(self._write, wish)

    def take(self) -> bytes:
        """Return what was wished since the last time; to be called when there is something."""
        return os.read(self._read, _AT_ONCE)

    def close(self) -> None:
        """Take no more wishes."""
        os.close(self._read)
        write, self._write = self._write, -1  # its number may soon be another file's
        os.close(write)
