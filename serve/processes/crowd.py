"""Crowds that connect at once, taken many a turn of the loop.

uvloop takes one connection a turn, and a turn of a busy frontend lasts tens of milliseconds, so that the last of a
thousand clients who come anew would wait for half a minute.

Rules of this file: whoever comes alone costs one more look at the listener, in the same turn; everything else about a
connection is the loop's and the protocol's.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, Final

_A_LOOK: Final = 64  # connections, then whoever is connected has its turn again
_TOGETHER: Final = 16  # of all processes: one that is awake first must not have the whole crowd to itself

Make = Callable[..., asyncio.Protocol]


class Crowd:
    """A maker of protocols, as uvicorn calls it for each connection, which takes along those who wait behind it.

    Args:
        listener: that the loop listens on; it does not block.
        make: of one protocol, from what uvicorn gives it.
        tls: of the connections, or None.
        processes: that listen there.
    """

    def __init__(self, listener: socket.socket, make: Make, tls: ssl.SSLContext | None, processes: int = 1) -> None:
        self._listener = listener
        self._make = make
        self._tls = tls
        self._a_look = _A_LOOK if processes == 1 else max(1, _TOGETHER // processes)
        self._is_due = False
        self._arriving: set[asyncio.Task[Any]] = set()  # or the collector might take them

    def __call__(self, **given: Any) -> asyncio.Protocol:
        """Make a protocol, and look at the end of the turn who else is there."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._take, partial(self._make, **given))
        return self._make(**given)

    def _take(self, make: Make) -> None:
        self._is_due = False
        loop = asyncio.get_running_loop()
        for _ in range(self._a_look):
            try:
                connection, _ = self._listener.accept()
            except OSError:  # nobody, or no file is left, or the server stops: the loop's own turn says which
                return
            task = loop.create_task(self._connect(make, connection))
            self._arriving.add(task)
            task.add_done_callback(self._arrived)

    async def _connect(self, make: Make, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(make, connection, ssl=self._tls)
        except BaseException:
            connection.close()
            raise

    def _arrived(self, task: asyncio.Task[Any]) -> None:
        self._arriving.discard(task)
        err = None if task.cancelled() else task.exception()
        if err is not None and not isinstance(err, OSError):  # a handshake that failed is the client's affair
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a connection was not taken", "exception": err}
            )
