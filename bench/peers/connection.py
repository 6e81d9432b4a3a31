"""One connection of the load generator: just enough HTTP to know when an answer is whole.

Rules of this file: no clock and no waiting; sockets do not block.
"""

import re
import socket
from typing import Final

_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)


class LoadError(Exception):
    """The server cannot be reached, or what it sends is no HTTP that this generator reads."""


class Connection:
    """One connection and the request that it carries, if any."""

    __slots__ = ("began", "index", "received", "rest", "socket", "wanted")

    def __init__(self, port: int) -> None:
        try:
            self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        except OSError as error:
            raise LoadError(f"port {port}: {error}") from error
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        self.socket.setblocking(False)
        self.index = -1
        self.began = 0.0
        self.rest: memoryview | None = None
        self.received = b""
        self.wanted = 0

    def complete(self, data: bytes) -> bool:
        """Take what was read; return whether the answer is whole."""
        self.received = received = self.received + data if self.received else data
        if not self.wanted:
            end = received.find(b"\r\n\r\n")
            if end < 0:
                return False
            length = _LENGTH.search(received, 0, end + 2)
            if length is None:
                raise LoadError(f"expected an answer with Content-Length, found {received[:end]!r}")
            self.wanted = end + 4 + int(length[1])
        return len(received) >= self.wanted
