"""Ctrl-C, kept: an interruption that other code swallows is told again at the next step of the work.

Python raises KeyboardInterrupt wherever it happens to be. In a finaliser, or in a callback of the collector, it is
printed and forgotten, and a library may turn it into an error of its own; people would have to press again.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interruption:
    """Whether the running command was interrupted."""

    def __init__(self) -> None:
        self.came = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch for Ctrl-C meanwhile; outside the main thread, and where Ctrl-C is ignored, signals are left alone."""
        self.came = False
        is_main = threading.current_thread() is threading.main_thread()
        if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return
        signal.signal(signal.SIGINT, self._take)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def check(self) -> None:
        """Raise KeyboardInterrupt if one came."""
        if self.came:
            raise KeyboardInterrupt

    def _take(self, *_: object) -> None:
        self.came = True
        raise KeyboardInterrupt


INTERRUPTION = Interruption()  # signals are the process's, and so is this
