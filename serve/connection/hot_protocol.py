"""The hot route: inference requests answered by the connection's own callbacks, without ASGI, tasks or futures.

Rules of this file: it answers the plain case only, `POST …/infer` of a served model with a `Content-Length`, on a
connection where nothing else is going on; whatever is out of the ordinary (another path, chunks, `Expect`, an odd
header, a large body, a second request before the first is answered, a client that does not read) is handed to
uvicorn's own protocol unchanged, and so to the route in `routes`. Both give the same bytes; a test holds them together.
A whole request with a head that has been here before (`known_heads`) does not pass the parser at all.

Of the class that it derives from it uses the callbacks of asyncio and of the parser, and what `hot_surface` lists.
"""

from time import monotonic, perf_counter
from typing import Any, ClassVar

from ..engine.work import Outcome
from ..error_answer import answer_error
from ..errors import QueueFull, ServeError
from ..infer.answer_form import AnswerForm
from ..infer.infer_answer import render_answer
from ..infer.infer_request import RequestReader, is_large_answer
from ..observe.access_log import CLIENT_GONE, RequestEnd
from ..observe.request_meter import RequestMeter
from ..serving_state import ServingState
from .connection_end import IDLE
from .hot_replies import HotReplies, Rendered, rendered
from .hot_request import HotRequest, hot_request
from .known_heads import HEAD_BYTES, Headers, KnownHead, KnownHeads
from .pausing_protocol import what_pausing_knows
from .raw_response import STATUS_LINES, answer_lines
from .refused_connections import age

_OK = STATUS_LINES[200]
_HEAD_END = b"\r\n\r\n"


class HotProtocol(HotReplies):
    """One connection. `hot_protocol` makes the class that knows a state."""

    readers: ClassVar[dict[bytes, RequestReader]]
    meters: ClassVar[dict[bytes, RequestMeter]]
    known_heads: ClassVar[KnownHeads]
    refusal: ClassVar[Rendered]  # where the queue is full

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._request: HotRequest | None = None  # whose body is being read
        self._begun = b""  # a head, if a message began with it and the parser agrees
        self._is_refused = False  # that request, before its body is there
        self._pieces: list[bytes] = []
        self._form: AnswerForm | None = None
        self._ticket: int | None = None

    # asyncio's callbacks

    def data_received(self, data: bytes) -> None:
        """Take a whole request with a known head; all else is the parser's."""
        if self._reading == IDLE and not self._is_over:
            end = data.find(_HEAD_END, 0, HEAD_BYTES) + len(_HEAD_END)  # what is longer is not known
            self._begun = head = data[:end]
            known = self.known_heads.get(head)
            if (
                known is not None
                and len(data) == end + known.request.body_bytes
                and self._take_known(known, data[end:])
            ):
                return
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more: the work is cancelled."""
        if self._ticket is not None:
            self.serving.engine.cancel(self._ticket)
        if self._ticket is not None or self._request is not None:  # at work, or in the middle of its body
            self._note(CLIENT_GONE, 0, perf_counter(), 0.0)
        self._ticket = self._request = None
        super().connection_lost(exc)

    # the parser's callbacks

    def _take(self) -> None:
        """Decide whose request it is."""
        begun, self._begun = self._begun, b""
        request = None
        if self._may_take(self._url):
            request = hot_request(self.parser, self._headers, self.settings.max_body_bytes)
        if request is None or not self._is_admitted(self._url, self._headers):
            self._unread_s = 0.0
            self._hand_over()
            return
        self.known_heads.remember(begun, KnownHead(self._url, self._headers, request))
        self._pieces = []
        self._begin(self._url, request)

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
            self._refuse_full()
            return
        pieces = self._pieces
        self._pieces = []
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if not self._submit(request, body):
            self._hand_over_whole(body)

    # the request

    def _take_known(self, known: KnownHead, body: bytes) -> bool:
        """Answer it here, if its head would be taken here now; nothing has happened where not."""
        if not self._may_take(known.url):
            return False
        now = self.serving.admission, self.client[0] if self.client else None
        if known.admitted != now:
            if not self._is_admitted(known.url, known.headers):
                return False
            known.admitted = now
        self._begin(known.url, known.request)
        self._request = None
        if self._is_refused:
            self._messages += 1
            self._refuse_full()
            return True
        if not self._submit(known.request, body):
            self._hot.response_complete = True
            return False
        self._messages += 1
        return True

    def _may_take(self, path: bytes) -> bool:
        serving = self.serving
        if path not in self.readers or self.flow.write_paused or self._is_busy():
            return False
        return serving.queue is not None and serving.engine.is_ready

    def _is_admitted(self, path: bytes, headers: Headers) -> bool:
        """Whether it may be answered here; where not, the gate in front of the routes says why."""
        try:
            self.serving.admission.admit("POST", path, headers, self.client[0] if self.client else None)
        except ServeError:
            return False
        return True

    def _begin(self, path: bytes, request: HotRequest) -> None:
        self._request = request
        self._is_refused = not self.serving.engine.has_room()
        self._path = path
        self._meter = self.meters[path]
        ids = self.serving.ids
        self._id = ids.make() if request.given_id is None else ids.take(request.given_id)
        hot = self._hot
        hot.response_complete = False
        hot.keep_alive = request.keep_alive and not self._is_draining
        self.cycle = hot  # type: ignore[assignment]
        self._read_s = 0.0
        self._start = perf_counter()

    def _refuse_full(self) -> None:
        self._reply(*self.refusal, perf_counter(), 0.0)
        self._pause()

    def _submit(self, request: HotRequest, body: bytes) -> bool:
        """Hand the work to the engine, or reply why not; False: its answer is not for this route."""
        reader = self.readers.get(self._path)
        if reader is None:  # the model went while the body came
            return False
        start, unread_s, self._unread_s = perf_counter(), self._unread_s, 0.0
        try:
            work, form = reader.read(body, request.head_bytes)
            if is_large_answer(form):
                return False
            self._form = form
            self._read_s = perf_counter() - start
            if unread_s:
                age(work, unread_s, monotonic())
            self._ticket = self.serving.engine.submit(work, self._on_done)
        except QueueFull as err:
            self._reply_error(err)
            self._pause()
        except Exception as err:  # noqa: BLE001 - the border: whatever it is, the client gets an answer
            self._reply_error(err)
        return True

    # the answer

    def _on_done(self, outcome: Outcome) -> None:
        self._ticket = None
        if isinstance(outcome, ServeError):
            self._reply_error(outcome)
            if isinstance(outcome, QueueFull):  # by the engine, which other frontends fill too
                self._pause()
            return
        assert self._form is not None
        start = perf_counter()
        try:
            found = render_answer(self._form, outcome)
        except Exception as err:  # noqa: BLE001 - as above
            self._reply_error(err)
            return
        lines = answer_lines(found.head_bytes, found.size_bytes)
        end = perf_counter()
        self._reply(200, _OK, lines, found.parts, found.size_bytes, end, end - start)

    # what is uvicorn's

    def _hand_over_whole(self, body: bytes) -> None:
        self._hot.response_complete = True
        self._hand_over()
        super().on_body(body)
        super().on_message_complete()

    def _may_answer(self) -> bool:
        """The request that is being read has no cycle in uvicorn, the one that is at work has no other mark."""
        return self._ticket is None and (self._request is not None or super()._may_answer())

    def _name_refused(self) -> bytes:
        """As the class says; the request whose body is being read has its name here."""
        return super()._name_refused() if self._request is None else self._id

    def _note_refused(self, end: RequestEnd) -> None:
        """As the class says; the request whose body is being read has its meter here."""
        if self._request is None:
            super()._note_refused(end)
            return
        self._request = None
        self._note(end.status, end.answer_bytes, perf_counter(), 0.0)


def hot_protocol(state: ServingState) -> type[HotProtocol]:
    """Return the protocol class that knows a state.

    Args:
        state: of the application that gets what is handed over.
    """
    known = what_pausing_knows(state)
    known |= {"readers": state.hot_readers, "meters": state.hot_meters, "known_heads": KnownHeads()}
    known["refusal"] = rendered(answer_error(QueueFull(state.settings.max_waiting)))
    return type("HotProtocolOfState", (HotProtocol,), known)
