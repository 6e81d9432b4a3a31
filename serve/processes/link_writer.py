"""The sending side of a frontend's connection to the engine: frames of one turn in one write, without waiting.

Rules of this file: hot path. It writes to the socket itself, since a transport of the loop writes only between two
turns, and a frontend that refuses a crowd has long ones: the engine would run out of the work that waits here.
"""

import asyncio
import socket
from contextlib import suppress
from typing import Final

from .outbox import Outbox
from .tensor_frames import Piece

_SOCKET_BYTES: Final = 2**20  # asked of the kernel; it may grant less


class LinkWriter:
    """Writes to a socket whose reading side somebody else has.

    Args:
        sock: connected and non-blocking; it is not closed here, for a copy of it is used.
        loop: of this process.
    """

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._socket = socket.fromfd(sock.fileno(), sock.family, sock.type)
        self._socket.setblocking(False)
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
        self._loop = loop
        self._outbox = Outbox(self._socket)
        self._out = self._outbox.pieces  # of this turn
        self._is_waiting = False  # for the socket to take more

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the engine has not taken."""
        return self._outbox.unsent_bytes

    def write(self, pieces: list[Piece]) -> None:
        """Send whole frames, at the end of this turn of the loop at the latest."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out += pieces

    def push(self) -> None:
        """Send now what the engine has not taken, as far as it takes it now: where a turn of the loop is long."""
        if not self._outbox.is_empty:
            self._flush()

    def close(self) -> None:
        """Send nothing more. Closing twice is fine."""
        self._stop_waiting()
        self._outbox.clear()
        self._socket.close()

    def _flush(self) -> None:
        try:
            took_all = self._outbox.flush()
        except OSError:  # the connection is over, which its reading side tells
            self.close()
        else:
            if took_all:
                self._stop_waiting()
            else:
                self._wait()

    def _wait(self) -> None:
        if not self._is_waiting:
            self._is_waiting = True
            self._loop.add_writer(self._socket, self._flush)

    def _stop_waiting(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            self._loop.remove_writer(self._socket)
