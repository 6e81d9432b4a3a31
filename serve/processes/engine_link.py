"""One connection of a frontend to the engine's process: work that is sent over it, and who waits.

Rules of this file: hot path; what is asked beside work is packed by `link_questions`. Frames of one turn of the event
loop go out in one write. Everything accepted over this connection is answered exactly once: by an answer, an error, or
by the connection's end.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, cast

from ..engine.port import OnDone
from ..engine.work import Outcome, RunTimes, StreamReport, Work
from ..errors import EngineLost, QueueBytesFull, QueueFull, QueueTooLong
from .backlog import Backlog
from .error_words import error_from_words
from .frames import FrameDecoder, FrameError, Kind, id_of, json_of, mixed_of, pack_bare, times_of
from .hello import Offer
from .link_models import LinkModels
from .link_questions import LinkQuestions
from .link_writer import LinkWriter
from .shared_room import SharedRoom
from .stream_block import stream_answer
from .tensor_frames import Frame, Piece, answered_of

logger = logging.getLogger("cellgate.engine")

_ANSWER: Final = int(Kind.ANSWER)  # looked up for every frame

# Of all links of a process: an answer, or a cancellation, can never be taken for one of an earlier connection.
_TICKETS: Final = itertools.count(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkLimits:
    """What may be on its way over one connection.

    Attributes:
        max_waiting: requests that are not answered.
        max_waiting_bytes: of their frames; one request alone may be larger.
        max_frame_bytes: a longer answer is refused.
        max_lanes: rows of a model that are on their way at once.
    """

    max_waiting: int
    max_waiting_bytes: int
    max_frame_bytes: int
    max_lanes: int = 64


class EngineLink(asyncio.Protocol):
    """The connection, from connected to lost.

    Args:
        limits: of what may be on its way.
        on_hello: called with the engine's hello, the first one and each later one. It calls `take`: work may be
            submitted from then on.
        on_lost: called once at the end, before those who wait are told.

    Attributes:
        questions: what is asked over it beside work.
    """

    def __init__(
        self,
        limits: LinkLimits,
        on_hello: Callable[["EngineLink", Any], None],
        on_lost: Callable[["EngineLink"], None],
    ) -> None:
        self._models = LinkModels(limits.max_lanes)
        self._max_waiting = limits.max_waiting
        self._max_waiting_bytes = limits.max_waiting_bytes
        self._room = SharedRoom(limits.max_waiting)
        self._on_hello = on_hello
        self._on_lost = on_lost
        self._decoder = FrameDecoder(limits.max_frame_bytes)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._writer: LinkWriter | None = None
        self._pending: dict[int, tuple[OnDone, int, tuple[str, ...], Backlog]] = {}
        self._pending_bytes = 0
        self._times: dict[int, RunTimes] = {}  # of those that are traced
        self.questions = LinkQuestions(_TICKETS, self._write)

    @property
    def pending(self) -> int:
        """Requests that are not answered."""
        return len(self._pending)

    def has_room(self) -> bool:
        """Whether another request may wait; see `EnginePort.has_room`."""
        writer = self._writer
        if writer is not None and writer.unsent_bytes > self._max_waiting_bytes:  # the engine does not read
            return False
        inside, room = len(self._pending), self._room
        if inside < room.share or room.has_room(inside, monotonic()):
            return True
        if writer is not None:
            writer.push()  # those who are refused come in crowds
        return False

    def take(self, offers: Sequence[Offer], generation: int) -> None:
        """Submit for these models from now on, and tell the engine so.

        Args:
            offers: of its hello.
            generation: of its hello.
        """
        self._models.take(offers)
        self._write([pack_bare(Kind.TAKEN, generation)])

    def submit(self, work: Work, on_done: OnDone) -> int:
        """Send work; see `EnginePort.submit`.

        Raises:
            QueueFull: as much waits as may wait, or the engine does not keep up with reading, or so much waits that
                the work's deadline will have passed.
            UnknownModel: no such model.
        """
        codec, backlog = self._models.find(work.model)
        pending = self._pending
        if not self.has_room():
            raise QueueFull(self._max_waiting)
        now = monotonic()
        if work.deadline_s is not None and work.priority <= 0 and backlog.wait_s > work.deadline_s - now > 0.0:
            raise QueueTooLong(backlog.wait_s, work.deadline_s - now)
        ticket = next(_TICKETS)
        pieces, size = codec.pack_work(ticket, work)
        if pending and self._pending_bytes + size > self._max_waiting_bytes:
            raise QueueBytesFull(self._max_waiting_bytes)
        pending[ticket] = (on_done, size, work.outputs, backlog)
        backlog.came(now)
        self._pending_bytes += size
        if work.times is not None:
            self._times[ticket] = work.times
        self._write(pieces)
        return ticket

    def cancel(self, ticket: int) -> None:
        """Forget work and tell the engine. A ticket of work that ended is ignored."""
        entry = self._pending.pop(ticket, None)
        if entry is not None:
            self._pending_bytes -= entry[1]
            entry[3].left(monotonic())
            self._times.pop(ticket, None)
            self._write([pack_bare(Kind.CANCEL, ticket)])

    def abort(self) -> None:
        """End the connection now; those who wait are told in the next turn of the loop."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast(asyncio.Transport, transport)  # it is one, though uvloop's says so to nobody
        self._writer = LinkWriter(transport.get_extra_info("socket"), self._loop)

    def data_received(self, data: bytes) -> None:
        """Take what came; a frame that is none ends the connection."""
        try:
            for frame in self._decoder.feed(data):
                if frame[0] == _ANSWER:
                    self._take_answer(frame)
                else:
                    self._take_other(frame)
        except FrameError as err:
            logger.warning("the engine broke the protocol and is cut off: %s", err)
            self.abort()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Tell everybody who waits, once."""
        self._transport = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._times.clear()
        self._on_lost(self)
        pending, self._pending, self._pending_bytes = self._pending, {}, 0
        for on_done, _, _, _ in pending.values():
            self._call(on_done, EngineLost())
        self.questions.end()

    def _take_answer(self, frame: Frame) -> None:
        model, ticket = answered_of(frame)
        entry = self._pending.get(ticket)
        if entry is None:  # cancelled while it was on the way
            return
        answer = self._models.codec_of(model).unpack_answer(frame)
        on_done, size, outputs, backlog = entry
        if tuple(answer) != outputs:
            if set(answer) != set(outputs):
                raise FrameError("outputs", str(outputs), tuple(answer))
            answer = {name: answer[name] for name in outputs}
        del self._pending[ticket]
        if self._times:
            self._times.pop(ticket, None)
        self._pending_bytes -= size
        backlog.left(monotonic())
        self._call(on_done, stream_answer(frame, answer) if frame[1] else answer)

    def _take_other(self, frame: Frame) -> None:
        ticket = id_of(frame)
        match frame[0]:
            case Kind.ERROR:
                entry = self._pending.pop(ticket, None)
                self._times.pop(ticket, None)
                if entry is not None:
                    self._pending_bytes -= entry[1]
                    entry[3].left(now := monotonic())
                    error = error_from_words(json_of(frame))
                    if isinstance(error, QueueFull):
                        self._room.refused(len(self._pending), now)
                    self._call(entry[0], error)
                else:
                    self.questions.refuse(ticket, error_from_words(json_of(frame)))
            case Kind.REPORT:
                facts, data = mixed_of(frame)
                self.questions.answer(ticket, StreamReport(facts=facts, data=data))
            case Kind.STATISTICS | Kind.DONE:
                self.questions.answer(ticket, json_of(frame))
            case Kind.TIMES:
                self._note_times(self._times.pop(ticket, None), frame)
            case Kind.HELLO:
                self._on_hello(self, json_of(frame))
            case kind:
                raise FrameError("kind", "HELLO, ANSWER, ERROR, STATISTICS, TIMES, REPORT or DONE", kind)

    def _note_times(self, times: RunTimes | None, frame: Frame) -> None:
        found = times_of(frame)
        if times is not None:  # else cancelled while it was on the way
            times.arrived_s, times.first_run_s, times.last_run_s, times.runs = found

    def _call(self, on_done: OnDone, outcome: Outcome) -> None:
        """Hand an outcome over; one receiver's fault must not cost the others theirs."""
        try:
            on_done(outcome)
        except Exception as err:  # noqa: BLE001 - it is reported, as the loop does with any callback
            self._loop.call_exception_handler({"message": "an outcome of the engine was not taken", "exception": err})

    def _write(self, pieces: list[Piece]) -> None:
        if self._writer is not None:
            self._writer.write(pieces)
