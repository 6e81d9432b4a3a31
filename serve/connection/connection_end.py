"""The end of a connection: the client owes something for too long, or is refused, or the server stops.

Rules of this file: who is refused gets the error object, after the answers that are due to earlier requests, and
whatever is said last is said before the connection is closed. Nothing here is done for a request that is answered. What
is refused, and why, is `guarded_protocol`'s; the clock is `connection_sweep`'s.

Of the class that it derives from it uses what `hot_surface` lists.
"""

from typing import Any, ClassVar, Final, NamedTuple

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..error_answer import answer_error
from ..errors import ServeError
from ..head_errors import RequestTimeout
from ..observe.access_log import REFUSED, RequestEnd
from ..observe.request_id import HEADER, KEY, given_id
from ..serving_state import ServingState
from ..settings import Settings
from .raw_response import STATUS_LINES, header_lines
from .socket_queues import has_unsent, is_encrypted

IDLE, HEAD, BODY = range(3)  # what is being read
LINGER_S: Final = 0.5  # from the stop to the end of a connection on which nothing comes


class Awaited(NamedTuple):
    """What a connection waits for from its client.

    Attributes:
        what: idle, head, body, or answer (to be read by the client).
        mark: another one where there was progress.
        limit_s: how long it may wait.
    """

    what: str
    mark: int
    limit_s: float


class EndingProtocol(HttpToolsProtocol):
    """The half of a connection that ends it; `GuardedProtocol` is the one that reads, and keeps these marks."""

    serving: ClassVar[ServingState]
    settings: ClassVar[Settings]

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._reading = IDLE
        self._messages = 0
        self._cycles: list[Any] = []  # uvicorn's, one behind the other
        self._is_over = False
        self._owed: ServeError | None = None  # why it is over, to be said after the answers that are due
        self._is_draining = False

    # who is late

    def awaited(self) -> Awaited | None:
        """Return what the client owes, or None: nothing, it waits for us."""
        settings = self.settings
        if self.flow.write_paused:
            return Awaited("answer", self.transport.get_write_buffer_size(), settings.body_timeout_s)
        if self.flow.read_paused:
            return None
        if self._reading == BODY:
            return Awaited("body", self._messages, settings.body_timeout_s)
        if self._reading == HEAD:
            return Awaited("head", self._messages, settings.head_timeout_s)
        if self._is_busy():
            return None
        return Awaited("idle", self._messages, settings.keep_alive_s if self._messages else settings.head_timeout_s)

    def give_up(self, awaited: Awaited) -> None:
        """End the connection of a client that does not do what it owes."""
        if awaited.what == "answer":
            self.transport.abort()
        elif awaited.what == "idle":
            self._close_silent()
        else:
            self._refuse(RequestTimeout(awaited.what, awaited.limit_s))

    # the server stops

    def shutdown(self) -> None:
        """Answer what is under way and what still comes, and end: the server stops.

        A connection that is kept may have a request on its way to us, which nobody would answer if it were closed now.
        So the answer to it says that it was the last one here, and only who sends nothing for a moment is closed.
        """
        self._is_draining = True
        if self._is_busy():
            super().shutdown()
        else:
            self.loop.call_later(min(LINGER_S, self.settings.shutdown_grace_s), self._close_idle)

    def _close_idle(self) -> None:
        if self._is_busy() or self not in self.connections:
            return
        if self._reading == IDLE:
            self._close_silent()
        else:
            self.loop.call_later(self.settings.head_timeout_s, self._refuse_late_head)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection: nothing came for so long."""
        self._close_silent()

    def _close_silent(self) -> None:
        """Close a connection on which nothing is going on."""
        if self.transport.is_closing():
            return
        # TLS waits for the client's own close, and a client that keeps a connection for later does not look at it.
        if is_encrypted(self.transport) and not self._has_unsent():
            self.loop.call_later(LINGER_S, self._abort_closed)
        self.transport.close()

    def _has_unsent(self) -> bool:
        return self.transport.get_write_buffer_size() > 0 or has_unsent(self.transport)

    def _abort_closed(self) -> None:
        if self in self.connections:
            self.transport.abort()

    def _refuse_late_head(self) -> None:
        if not self._is_busy():
            self._refuse(RequestTimeout("head", self.settings.head_timeout_s))

    # who is refused

    def _refuse(self, error: ServeError) -> None:
        """Answer, unless this request's answer has begun, and close; where earlier answers are due, after them."""
        if self.transport.is_closing():
            return
        self._is_over = True
        can_answer = self._may_answer()
        if not can_answer and self._put_off():
            self._owed = error
            return
        if can_answer:
            word = self._name_refused()
            response = answer_error(error, word.decode("ascii"))
            lines = header_lines([*self.server_state.default_headers, *response.raw_headers, (HEADER, word)])
            self._note_refused(RequestEnd(error.status, len(response.body), error.code))
            self.transport.write(b"".join([STATUS_LINES[error.status], lines, b"\r\n", response.body]))
        for cycle in self._cycles:  # whoever is at work must not write behind it
            cycle.disconnected = True
        self.transport.close()

    def _scope_of_refused(self) -> Any:
        """Return the scope of the request that is refused, if the routes have it; None: they never see it."""
        return None if self._reading != BODY or self._owed is not None else self.cycle.scope

    def _name_refused(self) -> bytes:
        """Return its name, by which the layers round the routes will call it too."""
        scope = self._scope_of_refused()
        if scope is None:
            return self.serving.ids.make()
        if KEY not in scope:  # they begin with it in the next turn of the loop
            scope[KEY] = self.serving.ids.take(given_id(scope["headers"])).decode("ascii")
        return bytes(scope[KEY], "ascii")

    def _note_refused(self, end: RequestEnd) -> None:
        """Count it; one that the routes have is counted and logged by the layers round them, and only there."""
        scope = self._scope_of_refused()
        if scope is None:
            self.serving.meters.of(None).answered(end.status, 0.0)
        else:
            scope[REFUSED] = end

    def _put_off(self) -> bool:
        """Whether what is refused comes after requests whose answers are due; a whole head of it is begun no more."""
        if self._reading != BODY:
            return True
        if not self.pipeline or self.pipeline[0][0] is not self.cycle:
            return False
        self.pipeline.popleft()
        return True

    def on_response_complete(self) -> None:
        """As uvicorn's; then say what is owed, if that was the last answer."""
        was_last = not self.pipeline  # asked before: uvicorn begins the next one
        super().on_response_complete()
        if self._owed is not None and was_last:
            self._refuse(self._owed)

    def _may_answer(self) -> bool:
        working = [cycle for cycle in self._cycles if not cycle.response_complete]
        if self._reading != BODY:
            return not working
        cycle: Any = self.cycle
        return not cycle.response_started and working == [cycle]

    def _is_busy(self) -> bool:
        """Whether a request is being answered, or waits to be."""
        cycle: Any = self.cycle  # uvicorn's type leaves out that there is none at first
        return cycle is not None and not cycle.response_complete
