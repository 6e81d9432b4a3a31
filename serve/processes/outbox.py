"""What goes out over a socket between frontends and the engine: whole frames, joined, and what the socket did not take.

Rules of this file: hot path; it never waits, and says so where it would have to. Who tries again, and when, and what
becomes of a connection that is gone, is up to its owner: `link_writer` on a frontend's side, `engine_connection` on the
engine's.
"""

import socket
from collections import deque

from .tensor_frames import Piece, join


class Outbox:
    """The frames that are to be sent over one socket, in order.

    Args:
        sock: connected and non-blocking; not closed here.

    Attributes:
        pieces: of whole frames, for the next flush; the list stays the same one, and is added to in place.
        unsent_bytes: that `flush` could not send.
    """

    __slots__ = ("_socket", "_unsent", "pieces", "unsent_bytes")

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._unsent: deque[memoryview] = deque()
        self.pieces: list[Piece] = []
        self.unsent_bytes = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to send."""
        return not self.pieces and not self._unsent

    def flush(self) -> bool:
        """Send what the socket takes now, with one call where it takes all.

        Returns:
            Whether it took all.

        Raises:
            OSError: the connection is gone.
        """
        if self.pieces:
            data = memoryview(join(self.pieces))
            self.pieces.clear()
            self._unsent.append(data)
            self.unsent_bytes += len(data)
        unsent = self._unsent
        while unsent:
            try:
                sent = self._socket.send(unsent[0])
            except BlockingIOError:
                return False
            self.unsent_bytes -= sent
            rest = unsent.popleft()[sent:]
            if rest:
                unsent.appendleft(rest)
                return False
        return True

    def clear(self) -> None:
        """Forget everything that is not sent."""
        self.pieces.clear()
        self._unsent.clear()
        self.unsent_bytes = 0
