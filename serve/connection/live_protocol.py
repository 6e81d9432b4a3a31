"""A WebSocket's protocol that leaves the end to whoever serves the connection when the server stops.

Rules of this file: uvicorn's own would close at once, and what was read and not answered would be lost.
`LiveConnection` answers that first (`ServingState.stop_live`), and its route closes then.
"""

from typing import Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

GOING_AWAY: Final = 1012  # "service restart": the client may connect again


class LiveProtocol(WebSocketsSansIOProtocol):
    """One connection."""

    def shutdown(self) -> None:
        """Close what has nobody left who would; called by the server when it stops."""
        if self.close_sent:
            super().shutdown()
