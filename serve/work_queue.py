"""Work off the event loop, a bounded amount at a time, with a bounded number waiting.

Rules of this file: it knows neither models nor HTTP. Deciding (`check_room`) is apart from waiting, so that a full
queue is refused without an await.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import anyio
import anyio.to_thread

from .errors import QueueFull

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """How busy the queue is: requests in a thread, requests that wait for one, and how many there may be."""

    running: int
    waiting: int
    max_running: int
    max_waiting: int


class WorkQueue:
    """Runs functions in threads, in the order of arrival.

    Args:
        max_running: at least 1.
        max_waiting: at least 0; one more is refused.
    """

    def __init__(self, max_running: int, max_waiting: int) -> None:
        self._limiter = anyio.CapacityLimiter(max_running)
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._inside = 0

    def statistics(self) -> QueueStatistics:
        """Return how busy the queue is."""
        running = min(self._inside, self._max_running)
        return QueueStatistics(running, self._inside - running, self._max_running, self._max_waiting)

    def check_room(self) -> None:
        """Refuse before a body is read what would be refused afterwards.

        Raises:
            QueueFull: as many wait as may wait.
        """
        if self._inside >= self._max_running + self._max_waiting:
            raise QueueFull(self._max_waiting)

    async def run(self, work: Callable[[], T]) -> T:
        """Run the function in a thread and return what it returns.

        A cancelled caller that still waits leaves the queue at once; one whose work runs waits for its end, because
        the runtime cannot be interrupted and its thread must not be counted as free.

        Raises:
            QueueFull: as many wait as may wait.
        """
        self.check_room()
        self._inside += 1
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._limiter)
        finally:
            self._inside -= 1
