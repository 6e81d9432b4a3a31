"""One frontend's connection as the engine's process sees it: frames in, work and cancellations; outcomes, frames out.

Rules of this file: it never waits; `engine_loop` says when to read and when to write. A frontend that breaks the
protocol, or goes away, costs its own connection and nothing else.
"""

import logging
import socket
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, Final, get_args

from ..engine.port import DrivenEngine, Order, no_streams
from ..engine.work import OrderKind, Outcome, RunTimes, StreamOrder, StreamReport
from ..errors import EngineError, NotReady, ServeError
from ..models.control_port import ControlAction
from .desk import Desk
from .error_words import error_to_words
from .frames import FrameDecoder, FrameError, Kind, id_of, json_of, mixed_of, pack_json, pack_mixed, pack_times
from .outbox import Outbox
from .tensor_frames import Frame, ModelCodec, WorkFrame, model_of

logger = logging.getLogger("cellgate.serve")

_WORK: Final = int(Kind.WORK)  # looked up for every frame

# Larger reads cost more: the C library maps and unmaps a buffer above 128 KiB (measured: 17 µs a read of 256 KiB).
_READ_BYTES: Final = 2**16
_READS: Final = 64  # in a turn, so that one frontend cannot keep the engine from running


class Ticket:
    """One request in the engine: where its answer goes. Compared by identity."""

    __slots__ = ("codec", "connection", "frame")

    def __init__(self, connection: "EngineConnection", codec: ModelCodec, frame: WorkFrame) -> None:
        self.connection = connection
        self.codec = codec
        self.frame = frame


class EngineConnection:
    """A frontend's connection.

    Args:
        sock: connected, non-blocking; closed by `close`.
        engine: that the work goes to.
        desk: has the codecs of the served models, and takes orders about them.
        max_frame_bytes: a longer frame is refused.
        statistics: what to answer where they are asked for, as plain JSON values.
        is_traced: tell before each answer when the work was in the engine.
        order: of the engine, where it has streams.
    """

    def __init__(
        self,
        sock: socket.socket,
        engine: DrivenEngine,
        desk: Desk,
        max_frame_bytes: int,
        statistics: Callable[[], dict[str, Any]],
        *,
        is_traced: bool = False,
        order: Order = no_streams,
    ) -> None:
        self.socket = sock
        self.is_draining = False  # set by the loop: no more work is taken
        self.taken = -1  # generation of the hello that the frontend goes by
        self._engine = engine
        self._desk = desk
        self._codecs = desk.codecs
        self._statistics = statistics
        self._is_traced = is_traced
        self._decoder = FrameDecoder(max_frame_bytes)
        self._order = order
        self._live: dict[int, Ticket] = {}
        self._ordered: dict[int, Hashable] = {}
        self._outbox = Outbox(sock)
        self._out = self._outbox.pieces

    @property
    def unsent_bytes(self) -> int:
        """Bytes that `flush` could not send."""
        return self._outbox.unsent_bytes

    @property
    def live(self) -> int:
        """Requests that are not answered."""
        return len(self._live) + len(self._ordered)

    def send(self, frame: bytes) -> None:
        """Send a whole frame at the next flush."""
        self._out.append(frame)

    def read(self) -> None:
        """Take what has come, without waiting.

        Raises:
            FrameError: the frontend broke the protocol.
            ConnectionError: it is gone.
        """
        for _ in range(_READS):
            try:
                chunk = self.socket.recv(_READ_BYTES)
            except BlockingIOError:
                return
            if not chunk:
                raise ConnectionResetError
            for frame in self._decoder.feed(chunk):
                self._take(frame)
            if len(chunk) < _READ_BYTES:
                return

    def answer(self, ticket: Ticket, outcome: Outcome) -> None:
        """Send an outcome at the next flush, unless its request was cancelled."""
        request_id = ticket.frame.request_id
        if self._live.pop(request_id, None) is None:
            return
        if isinstance(outcome, ServeError):
            self._refuse(request_id, outcome)
            return
        if self._is_traced:
            self._tell_times(ticket)
        try:
            self._out += ticket.codec.pack_reply(ticket.frame, outcome)
        except ServeError as err:
            self._refuse(request_id, err)

    def flush(self) -> None:
        """Send everything that the frontend takes now, with one call where it takes all.

        Raises:
            ConnectionError: it is gone.
        """
        self._outbox.flush()

    def close(self) -> None:
        """Cancel what the frontend waited for and close."""
        for ticket in self._live.values():
            self._engine.cancel(ticket)
        for ordered in self._ordered.values():
            self._engine.cancel(ordered)
        self._live.clear()
        self._ordered.clear()
        self._outbox.clear()
        self.socket.close()

    def _take(self, frame: Frame) -> None:
        if frame[0] == _WORK:
            self._submit(frame)
            return
        match frame[0]:
            case Kind.CANCEL:
                ticket = self._live.pop(id_of(frame), None)
                ordered = self._ordered.pop(id_of(frame), None)
                if ticket is not None or ordered is not None:  # its answer may have been on the way
                    self._engine.cancel(ticket or ordered)
            case Kind.ORDER:
                self._take_order(id_of(frame), *mixed_of(frame))
            case Kind.ASK_STATISTICS:
                self.send(pack_json(Kind.STATISTICS, id_of(frame), self._statistics()))
            case Kind.TAKEN:
                self.taken = id_of(frame)
                self._desk.next_look_s = 0.0
            case Kind.CONTROL:
                self._control(id_of(frame), json_of(frame))
            case kind:
                raise FrameError("kind", "WORK, CANCEL, ORDER, ASK_STATISTICS, TAKEN or CONTROL", kind)

    def _submit(self, frame: Frame) -> None:
        model = model_of(frame)
        codec = self._codecs.get(model)
        if codec is None:
            raise FrameError("model", f"one of {list(self._codecs)}", model)
        work = codec.unpack_work(frame)
        if self._is_traced:
            work = work._replace(work=replace(work.work, times=RunTimes()))
        if work.request_id in self._live:
            raise FrameError("id", "one that is not in use", work.request_id)
        ticket = Ticket(self, codec, work)
        if self.is_draining:
            self._refuse(work.request_id, NotReady())
            return
        try:
            self._engine.submit(ticket, work.work)
        except ServeError as err:
            self._refuse(work.request_id, err)
        except Exception:
            # The engine has forgotten it again. Dying here would let one request end the engine at each retry.
            logger.exception("a request could not be taken")
            self._refuse(work.request_id, EngineError("engine: expected to take the request, found a fault"))
        else:
            self._live[work.request_id] = ticket

    def _tell_times(self, ticket: Ticket) -> None:
        request_id, times = ticket.frame.request_id, ticket.frame.work.times
        if times is not None and times.runs:
            moments = times.arrived_s, times.first_run_s, times.last_run_s
            self.send(pack_times(request_id, *moments, times.runs))

    def _control(self, request_id: int, words: Any) -> None:
        try:
            action, name, version = words
        except (TypeError, ValueError) as err:
            raise FrameError("control", "action, name and version", words) from err
        if action not in get_args(ControlAction):
            raise FrameError("control", "one that there is", action)

        def tell(outcome: Any) -> None:  # who has gone meanwhile is told nothing
            if isinstance(outcome, ServeError):
                self._refuse(request_id, outcome)
            else:
                self.send(pack_json(Kind.DONE, request_id, outcome))

        if self.is_draining:
            self._refuse(request_id, NotReady())
        else:
            self._desk.control(action, name, version, tell)

    def _take_order(self, request_id: int, words: Any, data: bytes) -> None:
        try:
            kind, model, name = words
        except (TypeError, ValueError) as err:
            raise FrameError("order", "kind, model and id", words) from err
        if not isinstance(model, str) or not isinstance(name, (int, str)):
            raise FrameError("order", "kind, model and id", words)
        if kind not in get_args(OrderKind) or request_id in self._live or request_id in self._ordered:
            raise FrameError("order", "one that there is, and an id that is not in use", kind)

        def report(outcome: StreamReport | ServeError) -> None:
            if self._ordered.pop(request_id, None) is None:
                return
            if isinstance(outcome, ServeError):
                self._refuse(request_id, outcome)
            else:
                self.send(pack_mixed(Kind.REPORT, request_id, outcome.facts, outcome.data))

        try:
            if self.is_draining:
                raise NotReady
            self._ordered[request_id] = self._order(StreamOrder(kind=kind, model=model, id=name, data=data), report)
        except ServeError as err:
            self._refuse(request_id, err)

    def _refuse(self, request_id: int, err: ServeError) -> None:
        self._out.append(pack_json(Kind.ERROR, request_id, error_to_words(err)))
