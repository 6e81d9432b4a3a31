"""Connections that were just told that the queue is full: what they send next is not read for a moment.

Who is refused is asked to come again in a second. A client that asks again at once, on the connection that it has,
would be refused once more, and a crowd of such clients keeps a server busy with refusing. So its next request waits,
unread, until an answer to somebody has made room, and for `PAUSE_S` at most. Who was not refused waits for nobody.

Rules of this file: no more than one timer; a refusal costs one entry.
"""

import asyncio
from collections import deque
from typing import Final, Protocol

PAUSE_S: Final = 0.25


class Refused(Protocol):
    """What is asked of a connection."""

    def pause_refused(self) -> None: ...  # noqa: D102 - the class says it
    def resume_refused(self) -> None: ...  # noqa: D102


class RefusedConnections:
    """Those that wait, the longest waiting first."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, Refused]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, connection: Refused, loop: asyncio.AbstractEventLoop) -> None:
        """Pause a connection."""
        connection.pause_refused()
        self._waiting.append((loop.time() + PAUSE_S, connection))
        if self._timer is None:
            self._timer = loop.call_later(PAUSE_S, self._look, loop)

    def resume_one(self) -> None:
        """Read on with the one that has waited longest; to be called where an answer has made room."""
        self._waiting.popleft()[1].resume_refused()

    def resume_all(self) -> None:
        """Read on with all of them: the server stops, and whatever was sent is answered."""
        while self._waiting:
            self.resume_one()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        while self._waiting and self._waiting[0][0] <= now:
            self.resume_one()
        self._timer = None
        if self._waiting:
            self._timer = loop.call_later(self._waiting[0][0] - now, self._look, loop)
