"""A WebSocket's protocol that leaves the end to whoever serves the connection when the server stops.

Rules of this file: uvicorn's own would close at once, and what was read and not answered would be lost.
`LiveConnection` answers that first (`ServingState.stop_live`), and its route closes then. Nor would uvicorn's answer a
handshake that its WebSocket library does not take, and no clock would watch that connection.
"""

from typing import Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from ..error_answer import answer_error
from ..head_errors import HeadTooLarge
from .raw_response import STATUS_LINES, header_lines

GOING_AWAY: Final = 1012  # "service restart": the client may connect again
# The library's own. All else that it minds, `head_check` and the HTTP parser refuse before.
_LIMIT: Final = "8192 bytes a line and 128 of them for a WebSocket"


class LiveProtocol(WebSocketsSansIOProtocol):
    """One connection."""

    def data_received(self, data: bytes) -> None:
        """As uvicorn's, which gives the whole handshake at once; what is none by then never will be."""
        super().data_received(data)
        if not self.handshake_initiated and not self.transport.is_closing():
            self._refuse()

    def _refuse(self) -> None:
        error = HeadTooLarge(_LIMIT)
        response = answer_error(error)
        lines = header_lines([*self.default_headers, *response.raw_headers])
        self.transport.write(b"".join([STATUS_LINES[error.status], lines, b"\r\n", response.body]))
        self.transport.close()

    def shutdown(self) -> None:
        """Close what has nobody left who would; called by the server when it stops."""
        if self.close_sent:
            super().shutdown()
