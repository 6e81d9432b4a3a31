"""The connections of a load: opened, kept while idle, replaced, closed.

Rules of this file: it knows no requests; who uses a connection for what is the load's.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from .address import Address
from .connection import Connection, Owner
from .errors import UnreachableError

_RETRY_S: Final = 0.05
_OPENING_S: Final = 10.0
# Servers close idle connections, uvicorn by default after 5 s; a request must not meet such a closing half way.
_STALE_S: Final = 2.0


class Pool:
    """Connections to one server.

    Args:
        address: of the server.
        owner: is told what happens on each connection.
        most: connections at a time, at least 1.
        clock: monotonic, in seconds.
    """

    def __init__(self, address: Address, owner: Owner, most: int, clock: Callable[[], float]) -> None:
        self._address, self._owner, self._most, self._clock = address, owner, most, clock
        self._tls = address.tls_context
        self._idle: list[Connection] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._closed = False
        self.live: set[Connection] = set()

    async def open_first(self, count: int) -> None:
        """Open so many connections and wait for them.

        Raises:
            UnreachableError: not all could be opened in time.
        """
        for _ in range(count):
            self.open_one()
        _, late = await asyncio.wait(tuple(self._opening), timeout=_OPENING_S)
        if late:
            found = f"that it took {count - len(late)} of {count} connections in {_OPENING_S:g} s"
            raise UnreachableError(self._address.url, found)

    def open_one(self) -> bool:
        """Open one connection more, trying until it succeeds; false where there are as many as may be."""
        if self._closed or len(self.live) + len(self._opening) >= self._most:
            return False
        task = asyncio.create_task(self._connect())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return True

    def take_idle(self) -> Connection | None:
        """Return the idle connection that was used last; None where the server might be about to close it."""
        if self._idle and self._clock() - self._idle[-1].sent_s <= _STALE_S:
            return self._idle.pop()
        self._abort(self.take_all_idle())
        return None

    def take_all_idle(self) -> list[Connection]:
        """Return every idle connection, the one used last at the end."""
        idle, self._idle = self._idle, []
        return idle

    def keep(self, connection: Connection) -> None:
        """Keep a connection that has nothing to do."""
        connection.sent_s = self._clock()
        self._idle.append(connection)

    def forget(self, connection: Connection) -> None:
        """Drop a connection that ended."""
        self.live.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Close everything; nothing is opened any more."""
        self._closed = True
        for task in tuple(self._opening):
            task.cancel()
        self._abort(list(self.live))

    @staticmethod
    def _abort(connections: list[Connection]) -> None:
        for connection in connections:
            connection.abort()

    async def _connect(self) -> None:
        loop, address = asyncio.get_running_loop(), self._address
        while not self._closed:
            with contextlib.suppress(OSError):
                await loop.create_connection(lambda: Connection(self._owner), address.host, address.port, ssl=self._tls)
                return
            await asyncio.sleep(_RETRY_S)
