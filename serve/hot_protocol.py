"""The hot route: inference requests answered by the connection's own callbacks, without ASGI, tasks or futures.

Rules of this file: it answers the plain case only, `POST …/infer` of a served model with a `Content-Length`, on a
connection where nothing else is going on; whatever is out of the ordinary (another path, chunks, `Expect`, an odd
header, a large body, a second request before the first is answered, a client that does not read) is handed to
uvicorn's own protocol unchanged, and so to the route in `routes`. Both give the same bytes; a test holds them together.

Of the class that it derives from it uses the callbacks of asyncio and of the parser, and what `hot_surface` lists.
"""

from time import perf_counter
from typing import Any, ClassVar

from starlette.responses import Response

from .access_log import CLIENT_GONE, log_request
from .answer_form import AnswerForm
from .engine.work import Outcome
from .error_answer import answer_error, answer_fault
from .errors import QueueFull, ServeError
from .guarded_protocol import IDLE, GuardedProtocol, known_of
from .hot_cycle import HotCycle
from .hot_request import HotRequest, hot_request
from .infer_answer import render_answer
from .infer_request import RequestReader, is_large_answer
from .raw_response import STATUS_LINES, header_lines
from .refused_connections import RefusedConnections
from .request_meter import RequestMeter
from .serving_state import ServingState

_OK = STATUS_LINES[200]

Rendered = tuple[int, bytes, bytes, list[Any], int]  # status, its line, header lines, body, bytes of it


class HotProtocol(GuardedProtocol):
    """One connection. `hot_protocol` makes the class that knows a state."""

    readers: ClassVar[dict[bytes, RequestReader]]
    meters: ClassVar[dict[bytes, RequestMeter]]
    refusal: ClassVar[Rendered]  # where the queue is full
    refused: ClassVar[RefusedConnections]

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._hot = HotCycle()
        self._request: HotRequest | None = None  # whose body is being read
        self._is_refused = False  # that request, before its body is there
        self._pieces: list[bytes] = []
        self._form: AnswerForm | None = None
        self._ticket: int | None = None
        self._path = b""
        self._id = b""
        self._meter: RequestMeter | None = None  # of the request
        self._start = 0.0
        self._read_s = 0.0
        self._seen_headers: Any = None
        self._default_lines = b""

    # asyncio's callbacks

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more: the work is cancelled."""
        if self._ticket is not None:
            self.serving.engine.cancel(self._ticket)
            self._ticket = None
            self._note(CLIENT_GONE, 0, perf_counter(), 0.0)
        super().connection_lost(exc)

    # the parser's callbacks

    def _take(self) -> None:
        """Decide whose request it is."""
        reader = self.readers.get(self._url)
        request = None
        if reader is not None and not self.flow.write_paused and not self._is_busy():
            request = hot_request(self.parser, self._headers, reader, self.serving)
        if request is None or not self._is_admitted():
            self._hand_over()
            return
        self._request = request
        self._is_refused = not self.serving.engine.has_room()
        self._pieces = []
        self._path = path = self._url
        self._meter = self.meters[path]
        ids = self.serving.ids
        self._id = ids.make() if request.given_id is None else ids.take(request.given_id)
        hot = self._hot
        hot.response_complete = False
        hot.keep_alive = request.keep_alive and not self._is_draining
        self.cycle = hot  # type: ignore[assignment]
        self._read_s = 0.0
        self._start = perf_counter()

    def _is_admitted(self) -> bool:
        """Whether it may be answered here; where not, the gate in front of the routes says why."""
        try:
            self.serving.admission.admit("POST", self._url, self._headers, self.client[0] if self.client else None)
        except ServeError:
            return False
        return True

    def on_body(self, body: bytes) -> None:
        """A piece of it."""
        if self._request is None:
            super().on_body(body)
        elif not self._is_refused:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        """Hand the work to the engine."""
        request = self._request
        if request is None:
            super().on_message_complete()
            return
        self._request = None
        self._reading = IDLE
        if self._is_refused:
            self._reply(*self.refusal, perf_counter(), 0.0)
            if not self._is_draining:
                self.refused.add(self, self.loop)
            return
        pieces = self._pieces
        self._pieces = []
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        start = perf_counter()
        try:
            work, form = request.reader.read(body, request.head_bytes)
            if is_large_answer(form):
                self._hand_over_whole(body)
                return
            self._form = form
            self._read_s = perf_counter() - start
            self._ticket = self.serving.engine.submit(work, self._on_done)
        except Exception as err:  # noqa: BLE001 - the border: whatever it is, the client gets an answer
            self._reply_error(err)

    # the answer

    def _on_done(self, outcome: Outcome) -> None:
        self._ticket = None
        if self.refused:
            self.refused.resume_one()
        if isinstance(outcome, ServeError):
            self._reply_error(outcome)
            return
        assert self._form is not None
        start = perf_counter()
        try:
            found = render_answer(self._form, outcome)
        except Exception as err:  # noqa: BLE001 - as above
            self._reply_error(err)
            return
        if found.head_bytes is None:
            lines = (
                b"content-length: %d\r\ncontent-type: application/json\r\n"
                b"x-content-type-options: nosniff\r\n" % found.size_bytes
            )
        else:
            lines = (
                b"inference-header-content-length: %d\r\ncontent-length: %d\r\n"
                b"content-type: application/octet-stream\r\nx-content-type-options: nosniff\r\n"
                % (found.head_bytes, found.size_bytes)
            )
        end = perf_counter()
        self._reply(200, _OK, lines, found.parts, found.size_bytes, end, end - start)

    def _reply_error(self, err: Exception) -> None:
        word = self._id.decode("ascii")
        response = answer_error(err, word) if isinstance(err, ServeError) else answer_fault(err, word)
        self._reply(*_rendered(response), perf_counter(), 0.0)

    def _reply(
        self,
        status: int,
        status_line: bytes,
        lines: bytes,
        parts: list[Any],
        size_bytes: int,
        end: float,
        render_s: float,
    ) -> None:
        self._hot.response_complete = True
        self._write(status_line, lines, parts)
        self._note(status, size_bytes, end, render_s)
        self.on_response_complete()  # uvicorn's: counts, goes on with what is queued, or starts the keep-alive timer

    def _write(self, status_line: bytes, lines: bytes, parts: list[Any]) -> None:
        if self.server_state.default_headers is not self._seen_headers:  # uvicorn makes new ones every second
            self._seen_headers = self.server_state.default_headers
            self._default_lines = header_lines(self._seen_headers)
        if not self.transport.is_closing():
            end = b"\r\n\r\n" if self._hot.keep_alive else b"\r\nconnection: close\r\n\r\n"
            self.transport.write(
                b"".join([status_line, self._default_lines, lines, b"x-request-id: ", self._id, end, *parts])
            )
            if not self._hot.keep_alive:
                self.transport.close()

    def _note(self, status: int, size_bytes: int, end: float, render_s: float) -> None:
        assert self._meter is not None
        seconds = end - self._start
        self._meter.answered(status, seconds, self._read_s, render_s)
        if self.settings.access_log:
            path, word = self._path.decode("ascii"), self._id.decode("ascii")
            log_request("POST", path, status, size_bytes, seconds, word)

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

    # what is uvicorn's

    def _hand_over_whole(self, body: bytes) -> None:
        self._hot.response_complete = True
        self._hand_over()
        super().on_body(body)
        super().on_message_complete()

    def _may_answer(self) -> bool:
        """The request that is being read has no cycle in uvicorn, the one that is at work has no other mark."""
        return self._ticket is None and (self._request is not None or super()._may_answer())


def _rendered(response: Response) -> Rendered:
    status, body = response.status_code, bytes(response.body)
    return status, STATUS_LINES[status], header_lines(response.raw_headers), [body], len(body)


def hot_protocol(state: ServingState) -> type[HotProtocol]:
    """Return the protocol class that knows a state.

    Args:
        state: of the application that gets what is handed over.
    """
    models = {path.encode("ascii"): name for path, name in state.infer_paths.items()}
    readers = {path: state.reader_of(state.table.find(name, None)) for path, name in models.items()}
    meters = {path: state.meters.of(name) for path, name in models.items()}
    refusal = _rendered(answer_error(QueueFull(state.settings.max_waiting)))
    known = {**known_of(state), "readers": readers, "meters": meters, "refusal": refusal}
    known["refused"] = RefusedConnections()
    return type("HotProtocolOfState", (HotProtocol,), known)
