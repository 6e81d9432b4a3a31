"""A connection that is not read from for a moment after its client was told that too much waits.

Rules of this file: who waits, and for how long, is `refused_connections`'; here is what a connection does meanwhile. A
timeout that a request names counts from the moment at which it is read; the hot route alone takes off what it waited.
"""

from typing import Any, ClassVar

from ..serving_state import ServingState
from .connection_end import IDLE
from .guarded_protocol import GuardedProtocol, known_of
from .refused_connections import FULL, PAUSE_S, RefusedConnections


class PausingProtocol(GuardedProtocol):
    """One connection. `pausing_protocol` makes the class that knows a state."""

    refused: ClassVar[RefusedConnections]

    def on_message_complete(self) -> None:
        """As the class says; a route may have refused the request before all of it was there."""
        super().on_message_complete()
        self._pause_if_told_full()

    def on_response_complete(self) -> None:
        """As the class says; a route may have refused the request."""
        super().on_response_complete()
        self._pause_if_told_full()

    def timeout_keep_alive_handler(self) -> None:
        """As the class says, but for a client whose next request may be here, unread."""
        if self.flow.read_paused:
            left_s = max(PAUSE_S, self.timeout_keep_alive)
            self.timeout_keep_alive_task = self.loop.call_later(left_s, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def _pause_if_told_full(self) -> None:
        """Pause where a route said that too much waits, and nothing of that request's body is to come any more."""
        scope = getattr(self.cycle, "scope", None)
        if scope is not None and self._reading == IDLE and scope.pop(FULL, False):
            self._pause()

    def _pause(self) -> None:
        if not self._is_draining:
            self.refused.add(self, self.loop)

    def pause_refused(self) -> None:
        """Read nothing for a moment; see `refused_connections`."""
        if not self.transport.is_closing():
            self.flow.pause_reading()

    def resume_refused(self) -> None:
        """Read on."""
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def shutdown(self) -> None:
        """As the class says, with nobody left unread."""
        self.refused.resume_all()
        super().shutdown()


def pausing_protocol(state: ServingState) -> type[PausingProtocol]:
    """Return the protocol class that knows a state.

    Args:
        state: of the application that gets what is handed over.
    """
    return type("PausingProtocolOfState", (PausingProtocol,), what_pausing_knows(state))


def what_pausing_knows(state: ServingState) -> dict[str, Any]:
    """Return what a class knows of a state."""
    return {**known_of(state), "refused": RefusedConnections(state.engine.has_room)}
