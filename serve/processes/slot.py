"""A place for one child of the supervisor: who fills it, and when it is filled again.

Rules of this file: no processes are started here and no clock is read; the supervisor does and says when.
"""

import logging
from collections.abc import Sequence
from typing import Final

from .child_process import ChildProcess

logger = logging.getLogger("cellgate.supervisor")

# Before a child is started again that died before it was ready, the first time, the second time, ...
PAUSES_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)


class Slot:
    """A place for one child.

    Args:
        name: for people.
        module: what the child runs.
        files: numbers of the files that it inherits.

    Attributes:
        child: None while nobody is there.
        is_ready: the child said so.
        start_at_s: when to fill the place again, or None.
        failure: why the child could not start, in its own words, or None.
        owes_keys: the child is to read its files of keys and of TLS again when it is ready, for it may have read the
            old ones.
    """

    def __init__(self, name: str, module: str, files: Sequence[int]) -> None:
        self.name = name
        self.module = module
        self.files = files
        self.child: ChildProcess | None = None
        self.is_ready = False
        self.start_at_s: float | None = None
        self.failure: Exception | None = None
        self.owes_keys = False
        self._early_deaths = 0
        self._complaint = ""

    def fill(self, child: ChildProcess) -> None:
        """Take a child that was just started."""
        self.child = child
        self.is_ready = False
        self.start_at_s = None
        self.failure = None
        self.owes_keys = False

    def leave(self, now: float) -> None:
        """The child has ended: plan the next one, at once if this one was ready, else after a pause that grows."""
        self._early_deaths = 0 if self.is_ready else self._early_deaths + 1
        self.start_at_s = now + (0.0, *PAUSES_S)[min(self._early_deaths, len(PAUSES_S))]
        self.child = None
        self.is_ready = False

    def have_keys_read(self) -> None:
        """Pass the wish on to a child that listens for it; before, the signal would mean nothing to it."""
        if self.owes_keys and self.is_ready and self.child is not None:
            self.owes_keys = False
            self.child.read_keys()

    def condemn(self, failure: Exception) -> None:
        """Kill the child and say why. It is not ready any more, so that nothing is said again when it has ended."""
        self.complain(str(failure))
        self.failure = failure
        self.is_ready = False
        if self.child is not None:
            self.child.kill()

    def complain(self, text: str) -> None:
        """Log what went wrong, once, however often it goes wrong in the same way while nothing gets better."""
        if self.is_ready or text != self._complaint:
            logger.warning("%s: %s", self.name, text)
        self._complaint = text
