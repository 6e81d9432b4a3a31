"""The event loops that a load runs on: the quickest one, and one that wakes to the microsecond.

Rules of this file: nothing is imported before it is asked for.
"""

import asyncio
import select
import selectors
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def quick_loop() -> LoopFactory:
    """Return what makes uvloop's event loop where uvloop is installed, else asyncio's own."""
    if find_spec("uvloop") is None:
        return asyncio.new_event_loop
    factory: LoopFactory = import_module("uvloop").new_event_loop
    return factory


def punctual_loop() -> LoopFactory:
    """Return what makes an event loop whose timers are not rounded to milliseconds.

    epoll and uvloop count in milliseconds, so that arrivals would be half a millisecond late on average, and in
    bunches. Elsewhere than on Linux asyncio's own loop has to do.
    """
    if sys.platform != "linux":
        return asyncio.new_event_loop
    return lambda: asyncio.SelectorEventLoop(_PunctualSelector())


if sys.platform == "linux":

    class _PunctualSelector(selectors.EpollSelector):
        """epoll, waited for with select(2), which counts in microseconds: an epoll descriptor can be waited for too."""

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            """Wait at most `timeout` seconds, None for ever, and return what is ready."""
            if timeout is None or timeout > 0:
                select.select([self.fileno()], [], [], timeout)
                timeout = 0
            return super().select(timeout)
