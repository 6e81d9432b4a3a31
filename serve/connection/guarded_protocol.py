"""A connection with limits: uvicorn's protocol, with heads, chunks and numbers bounded, and errors as objects.

Rules of this file: what is refused here is refused before it takes memory; how, is `connection_end`'s. Who may ask is
not decided here (`admission_gate`), and what is checked for every request costs next to nothing: a counter, two flags,
a comparison.

A head is kept until it is whole and then repeated to uvicorn (`_hand_over`), so that a subclass may answer instead.
Of the class that it derives from it uses the callbacks of asyncio and of the parser, and what `hot_surface` lists.
"""

import logging
from typing import Any, ClassVar, Final

import httptools

from ..errors import ServeError
from ..head_errors import HeadTooLarge, MalformedRequest, TooManyChunks, TooManyConnections
from ..serving_state import ServingState
from .connection_end import BODY, HEAD, IDLE, EndingProtocol
from .head_check import check_head, is_handshake

logger = logging.getLogger("cellgate.serve")

_FEW_CYCLES: Final = 8
_CHUNK_BYTES: Final = 16  # of a chunk's own head and end, which nobody can grudge


class GuardedProtocol(EndingProtocol):
    """One connection, all but its pauses, which are `pausing_protocol`'s."""

    max_head_bytes: ClassVar[int]  # these two are the settings', at hand for every request
    max_headers: ClassVar[int]

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._may_be_long = False
        self._head_bytes = 0  # of the pieces that are all head
        self._most_cycles = _FEW_CYCLES
        self._may_upgrade = False
        self._is_chunked = False
        self._chunks = 0
        self._around_bytes = 0  # what stands round the chunks, in the pieces that are all body

    # asyncio's callbacks

    def connection_made(self, transport: Any) -> None:
        """Take the connection, if it is not one too many."""
        super().connection_made(transport)
        resume = self.flow.resume_reading

        def resume_reading() -> None:
            """Read on when nothing is queued: uvicorn would at every answer, and queue a flood without an end."""
            if not self.pipeline:
                resume()

        self.flow.resume_reading = resume_reading  # type: ignore[method-assign]
        if len(self.connections) > self.settings.max_connections:
            self._refuse(TooManyConnections(self.settings.max_connections))
        elif self.serving.draining:  # it was on its way when the others were told
            self.shutdown()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, as uvicorn does; what it refuses is answered with the error object."""
        if self._is_over:
            return
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None
        in_head, is_chunked, messages = self._reading == HEAD, self._is_chunked, self._messages
        self._may_be_long = in_head or len(data) > self.max_head_bytes
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
        except httptools.HttpParserError as err:
            self._refuse(_reason(err))
        else:
            is_one = messages == self._messages  # else the piece had the end of a request and more
            if is_one and in_head and self._reading == HEAD:
                self._count_head(len(data))
            elif is_one and is_chunked and self._is_chunked:
                self._count_around(len(data))
            else:
                self._around_bytes = 0  # what it had of a body was taken off, and is no credit

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more."""
        for cycle in self._cycles:  # uvicorn tells the last one only, and an earlier one may be at work
            _tell_gone(cycle)
        super().connection_lost(exc)
        vars(self.flow).pop("resume_reading", None)  # it knows us, and we it: gone now, not when somebody collects
        self._headers = []

    # the parser's callbacks

    def on_message_begin(self) -> None:
        """Note what comes, for nobody knows yet whose it will be."""
        self._reading = HEAD
        self._messages += 1
        self._url = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        """A piece of it."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or a trailer, which nobody reads."""
        name = name.lower()
        if name != b"transfer-encoding":  # of which only the parser may say what it understood
            value = value.rstrip(b" \t")  # RFC 9110, section 5.5; the parser does so in front of it alone
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Hand it over, if it is not too long."""
        if self._may_be_long or len(self._headers) > self.max_headers:
            self._check_size()
        self._take()
        self._reading = BODY

    def on_chunk_header(self) -> None:
        """One more chunk, or the end of them."""
        self._chunks += 1
        if self._chunks > self.settings.max_chunks + 1:
            raise TooManyChunks(self.settings.max_chunks)

    def on_body(self, body: bytes) -> None:
        """A piece of it."""
        if self._is_chunked:
            if self._chunks > self.settings.max_chunks:
                raise TooManyChunks(self.settings.max_chunks)
            self._around_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of it is there."""
        self._reading = IDLE
        was_chunked, self._is_chunked = self._is_chunked, False
        super().on_message_complete()
        if was_chunked and self.cycle.keep_alive and not self.parser.should_keep_alive():
            self.cycle.keep_alive = False  # the parser obeys a trailer that says so, and reads nothing more
            if self.cycle.response_complete:
                self._close_silent()

    # limits

    def _check_size(self) -> None:
        """Count a head that came in several pieces, or in a long one, to the byte."""
        limit = self.max_head_bytes
        line = len(self.parser.get_method()) + len(self._url) + len("  HTTP/1.1\r\n")
        lines = sum(len(name) + len(value) + len(": \r\n") for name, value in self._headers)
        if line + lines + len("\r\n") > limit:
            raise HeadTooLarge(f"{limit} bytes of request line and headers")
        if len(self._headers) > self.max_headers:
            raise HeadTooLarge(f"{self.max_headers} of them")
        self._head_bytes = 0

    def _count_head(self, size_bytes: int) -> None:
        """Refuse a head that never ends: the parser keeps what it has of a header, and nobody else sees it."""
        self._head_bytes += size_bytes
        limit = self.max_head_bytes
        if self._head_bytes > limit:
            self._refuse(HeadTooLarge(f"{limit} bytes of request line and headers"))

    def _count_around(self, size_bytes: int) -> None:
        """Refuse what stands round the chunks, extensions and trailers, where it takes more than a head may."""
        self._around_bytes += size_bytes
        limit = self.max_head_bytes
        if self._around_bytes > limit + _CHUNK_BYTES * self._chunks:
            self._refuse(HeadTooLarge(f"{limit} bytes of chunk extensions and trailers"))

    # what is uvicorn's

    def _should_upgrade(self) -> bool:
        return self._may_upgrade and super()._should_upgrade()

    def _is_handshake(self) -> bool:
        """Whether it may be granted; behind a request that waits for its answer, 101 would stand before that."""
        parser = self.parser
        return parser.should_upgrade() and not self._is_busy() and is_handshake(parser.get_method(), self._headers)

    def _take(self) -> None:
        self._hand_over()

    def _hand_over(self) -> None:
        """Judge the head in full, and repeat to uvicorn's protocol what the parser said."""
        version = self.parser.get_http_version()
        check_head(version, self._url, self._headers)
        super().on_message_begin()
        super().on_url(self._url)
        on_header = super().on_header
        for name, value in self._headers:
            on_header(name, value)
            self._is_chunked = self._is_chunked or name == b"transfer-encoding"
        self._chunks = self._around_bytes = 0
        if version != "1.1":  # whoever speaks that would take a 100 for the answer: RFC 9110, section 10.1.1
            self.expect_100_continue = False
        self._may_upgrade = self._is_handshake()
        super().on_headers_complete()
        if self._is_draining and self.cycle is not None:  # an upgrade has none
            self.cycle.keep_alive = False
        if self.parser.should_upgrade() and not self._should_upgrade():
            # The parser takes what follows for another protocol's, and would read a body as the next request.
            self.cycle.keep_alive = False
            self._is_over = True
        if self._is_busy():
            self._cycles.append(self.cycle)
        if len(self._cycles) > self._most_cycles:  # now and then, for there may be thousands in one piece
            self._cycles = [cycle for cycle in self._cycles if not cycle.response_complete]
            self._most_cycles = 2 * len(self._cycles) + _FEW_CYCLES


def known_of(state: ServingState) -> dict[str, Any]:
    """Return what a class knows of a state."""
    settings = state.settings
    return {
        "serving": state,
        "settings": settings,
        "max_head_bytes": settings.max_head_bytes,
        "max_headers": settings.max_headers,
    }


def _tell_gone(cycle: Any) -> None:
    """Tell a cycle of uvicorn that its client is gone, if it is one and still at work."""
    event = getattr(cycle, "message_event", None)
    if event is not None and not cycle.response_complete:
        cycle.disconnected = True
        event.set()


def _reason(err: httptools.HttpParserError) -> ServeError:
    """Return what a callback raised, or what the parser says."""
    cause = err.__context__
    if isinstance(cause, ServeError):
        return cause
    if cause is not None and not isinstance(cause, httptools.HttpParserError):
        logger.error("a head could not be handed over", exc_info=cause)
    return MalformedRequest("request", "HTTP/1.1", "something else")
