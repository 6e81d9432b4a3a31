"""Connections that were just told that the queue is full: what they send next is not read for a while.

Who is refused is asked to come again in a second (`Retry-After`). A client that asks again at once, on the connection
that it has, would be refused once more, and a crowd of such clients keeps a server busy with refusing. So its next
request waits, unread, until there is room, and for that second at most. Room is looked for now and then, and not at
each answer: the one place that an answer makes is usually taken by the client that it was sent to. Who was not refused
waits for nobody.

Since a client may count its timeout from the moment at which it sent, what was there when the connection is read again
(`socket_queues`) counts as sent when the pause began.

Rules of this file: no more than one timer; a refusal costs one entry.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from ..engine.work import Work
from ..errors import QueueTooLong

FULL: Final = "cellgate.full"  # in a request's scope: a route of the framework's has refused it so
PAUSE_S: Final = 1.0
TICK_S: Final = 0.01
_AT_ONCE: Final = 16  # that are read on in one look, for each may fill the room


class Refused(Protocol):
    """What is asked of a connection."""

    def pause_refused(self) -> None: ...  # noqa: D102 - the class says it
    def resume_refused(self) -> None: ...  # noqa: D102


class RefusedConnections:
    """Those that wait, the longest waiting first.

    Args:
        has_room: whether another request may wait.
    """

    def __init__(self, has_room: Callable[[], bool]) -> None:
        self._has_room = has_room
        self._waiting: OrderedDict[Refused, float] = OrderedDict()  # and until when at the latest
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, connection: Refused, loop: asyncio.AbstractEventLoop) -> None:
        """Pause a connection; one that was paused already, as of many requests in one piece, waits once."""
        connection.pause_refused()
        self._waiting[connection] = loop.time() + PAUSE_S
        self._waiting.move_to_end(connection)
        if self._timer is None:
            self._timer = loop.call_later(TICK_S, self._look, loop)

    def resume_all(self) -> None:
        """Read on with all of them: the server stops, and whatever was sent is answered."""
        while self._waiting:
            self._resume_one()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now, waiting = loop.time(), self._waiting
        while waiting and next(iter(waiting.values())) <= now:
            self._resume_one()
        for _ in range(min(_AT_ONCE, len(waiting)) if self._has_room() else 0):
            self._resume_one()
        self._timer = loop.call_later(TICK_S, self._look, loop) if waiting else None

    def _resume_one(self) -> None:
        self._waiting.popitem(last=False)[0].resume_refused()


def age(work: Work, unread_s: float, now: float) -> None:
    """Take off a timeout what its request may have waited unread.

    Args:
        work: of the request; without a deadline nothing is taken off.
        unread_s: the longest that it may have waited.
        now: moment of the clock that deadlines are of.

    Raises:
        QueueTooLong: that may have been all of it.
    """
    if work.deadline_s is not None:
        left_s = work.deadline_s - now
        if left_s <= unread_s:
            raise QueueTooLong(unread_s, left_s)
        work.deadline_s -= unread_s
