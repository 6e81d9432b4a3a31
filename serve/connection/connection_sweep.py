"""Clients that keep a connection and do not do their part: found by looking at all connections now and then.

Rules of this file: no clock, no timers; one look a second finds who has owed the same for too long, so that a request
itself costs nothing. Who is late is found up to a look late.
"""

from collections.abc import Iterable
from typing import Protocol

from .connection_end import Awaited


class Connection(Protocol):
    """What is asked of a connection."""

    def awaited(self) -> Awaited | None: ...  # noqa: D102 - the class says it
    def give_up(self, awaited: Awaited) -> None: ...  # noqa: D102


class ConnectionSweep:
    """Remembers what each connection waited for at the last look, and since when."""

    def __init__(self) -> None:
        self._seen: dict[Connection, tuple[Awaited, float]] = {}

    def look(self, connections: Iterable[Connection], now: float) -> int:
        """Give up the connections whose clients are late; return how many.

        Args:
            connections: all there are.
            now: monotonic, in seconds.
        """
        before, self._seen = self._seen, {}
        late = []
        for connection in connections:
            awaited = connection.awaited()
            if awaited is None:
                continue
            last, since_s = before.get(connection, (None, now))
            if awaited != last:
                since_s = now
            if now - since_s >= awaited.limit_s:
                late.append((connection, awaited))
            else:
                self._seen[connection] = (awaited, since_s)
        for connection, awaited in late:
            connection.give_up(awaited)
        return len(late)
