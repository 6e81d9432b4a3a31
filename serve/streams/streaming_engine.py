"""An engine with streams: what belongs to none passes through, what belongs to one waits for its turn.

    submit -> queue of the stream -> judge -> engine -> commit -> answer

Rules of this file: synchronous, one thread owns it, as `engine.Engine`, whose promises it keeps: every ticket that
`submit` accepted is answered exactly once, or was cancelled. It only drives: `turns` decides about the heads of queues,
`store_client` asks the store, and neither waits. A request of a stream is answered as done only when its record is
committed.
"""

import time
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from typing import Any

from ..engine.engine import Engine, Result
from ..engine.models import EngineModel
from ..engine.port import OnReport
from ..engine.work import StreamOrder, Work
from ..errors import DeadlineExceeded, NotReady, QueueBytesFull, QueueFull
from ..stream_errors import StoreUnavailable
from .answers import Answers
from .judge import check_request
from .limits import StreamLimits
from .record import StreamKey
from .store import StreamStore
from .store_client import StoreClient
from .stream_counts import StreamCounts
from .table import Held, Phase, StreamTable
from .turns import Turns
from .versions import Versions


class StreamingEngine:
    """An engine and the streams over it.

    Args:
        engine: nobody else uses it from now on.
        store: of the streams; closed by `close`.
        limits: of what is kept.
        clock: monotonic, in seconds; the engine's.
        wall_clock: seconds that all servers of a store agree on, and that go on while none runs.

    Attributes:
        waker: called on another thread when there is something to do; whoever drives this engine sets it.
    """

    def __init__(
        self,
        engine: Engine,
        store: StreamStore,
        limits: StreamLimits,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = lambda: datetime.now(UTC).timestamp(),
    ) -> None:
        self.waker: Callable[[], None] = lambda: None
        self._engine = engine
        self._store = store
        self._limits = limits
        self._clock = clock
        self._versions = Versions(model.served for model in engine.models)
        self._table = table = StreamTable()
        self._answers = answers = Answers(table)
        self._counts = counts = StreamCounts(streams.name for streams in self._versions)
        self._client = StoreClient(store, limits, table, answers, counts, clock, wall_clock, self._wake)
        # Looked at before every run.
        self._port, self._sweep, self._results = self._client.port, self._client.sweep, answers.results
        self._turns = Turns(engine, self._versions, table, self._client, answers, counts, limits.max_record_bytes)

    @property
    def models(self) -> tuple[EngineModel, ...]:
        """The models, in the order of the command line and of loading."""
        return self._engine.models

    def add(self, model: EngineModel) -> None:
        """See `Engine.add`."""
        self._engine.add(model)
        self._versions.add(model.served)
        self._counts.add(model.served.name)

    def prefer(self, name: str, key: str | None) -> None:
        """See `Engine.prefer`."""
        self._engine.prefer(name, key)
        self._versions.prefer(name, key)

    def uses_of(self, key: str) -> int:
        """Return how often a version ran, or a stream was brought to it."""
        return self._engine.uses_of(key) + self._versions.brought_to(key)

    def is_idle(self, key: str) -> bool:
        """See `Engine.is_idle`; whoever waits for a turn in that version is told that it is gone, if it goes."""
        return self._engine.is_idle(key)

    def remove(self, key: str) -> None:
        """See `Engine.remove`."""
        self._engine.remove(key)
        self._versions.remove(key)

    def submit(self, ticket: Hashable, work: Work) -> None:
        """Take work; see `Engine.submit`.

        Raises:
            QueueFull, UnknownModel: as there.
            BadInput: the work says something of its stream that is impossible, whatever the stream is.
            StoreUnavailable: the store owes answers for too long.
        """
        if work.stream is None:
            if len(self._table):
                self._check_room(work)
            self._engine.submit(ticket, work)
            return
        model = self._versions.find(work.model)
        check_request(work, is_streamable=model.is_streamable)
        self._check_room(work)
        if self._client.is_late:
            raise StoreUnavailable
        self._table.add(ticket, StreamKey(model.name, work.stream.id), work)

    def order(self, order: StreamOrder, on_done: OnReport) -> Hashable:
        """Take an order about a stream.

        Args:
            order: what to do.
            on_done: called once with the answer or the error, in a later `run_once` or in `close`, unless cancelled.

        Returns:
            A ticket for `cancel`.

        Raises:
            QueueFull, UnknownModel, StoreUnavailable: as `submit`.
        """
        self._versions.any_of(order.model)
        self._check_room(order)
        if self._client.is_late:
            raise StoreUnavailable
        ticket = object()
        self._table.add(ticket, StreamKey(order.model, order.id), order, on_done)
        return ticket

    def cancel(self, ticket: Hashable) -> None:
        """Drop work that nobody waits for; what runs is stopped and not applied, what is being committed stays so."""
        held = self._table.find(ticket)
        if held is None:
            self._engine.cancel(ticket)
            return
        entry = held.entry
        is_head = entry.queue[0] is held and not entry.is_given_up  # what was given up was for nobody in the queue
        if is_head and entry.phase is Phase.COMMITTING:
            self._table.release(held)
            held.ticket = None
            return
        if is_head and entry.phase is Phase.RUNNING:
            self._turns.stop_run(held)
            return
        self._table.remove(held)

    def wait_s(self) -> float | None:
        """Return how long nothing is due: 0.0 now, None until work comes."""
        if self._table.has_due or self._port.has_done or self._results:
            return 0.0
        wait_s = self._engine.wait_s()
        if wait_s == 0.0 or (self._table.is_quiet and not self._client.room.has_any):
            return wait_s
        moments = [self._sweep.due_s]
        if self._table.next_deadline_s is not None:
            moments.append(self._table.next_deadline_s)
        if (asked_s := self._table.oldest_asked_s) is not None:
            moments.append(asked_s + self._limits.store_limit_s)
        left_s = max(0.0, min(moments) - self._clock())
        return left_s if wait_s is None else min(wait_s, left_s)

    def run_once(self) -> list[Result]:
        """Take what the store has done, judge, run once, hand the store what is to be committed."""
        if self._table.is_quiet and not self._results and self._clock() < self._sweep.due_s and not self._port.has_done:
            return self._engine.run_once()
        self._client.take_all_done()  # before the clock is looked at: this process may have stood still, not the store
        self._look_at_the_time()
        self._settle()
        for ticket, outcome in self._engine.run_once():
            if isinstance(ticket, Held):
                self._turns.take_run(ticket, outcome)
            else:
                self._results.append((ticket, outcome))
        self._settle()
        return self._answers.take()

    def close(self) -> list[Result]:
        """Refuse what waits; what is on its way to the store is answered. Closing twice is fine."""
        for ticket, outcome in self._engine.close():
            if isinstance(ticket, Held):
                self._answers.end_head(ticket.entry, outcome)
            else:
                self._results.append((ticket, outcome))
        self._client.close()
        for held in self._table.drain():
            self._answers.tell(held, NotReady())
        return self._answers.take()

    def statistics(self) -> dict[str, Any]:
        """Return what the engine counts, and the streams, as plain JSON values."""
        return {
            **self._engine.statistics(),
            "streams": self._counts.statistics(self._store.usage, self._client.cache),
            "streams_waiting": len(self._table),
            "stream_store": {"is_durable": self._store.is_durable, "is_shared": self._store.is_shared},
        }

    def _check_room(self, work: Work | StreamOrder) -> None:
        """Refuse what would be more than may wait, here and in the engine together."""
        limits = self._limits
        held = len(self._table)
        inside_bytes = self._engine.inside_bytes + self._table.held_bytes
        is_first = not held and not self._engine.inside
        is_too_large = not is_first and inside_bytes + work.size_bytes > limits.max_waiting_bytes
        if held + self._engine.inside >= limits.max_waiting:
            raise QueueFull(limits.max_waiting)
        if is_too_large:
            raise QueueBytesFull(limits.max_waiting_bytes)

    def _look_at_the_time(self) -> None:
        now = self._clock()
        deadline_s = self._table.next_deadline_s
        if deadline_s is not None and deadline_s <= now:
            for held in self._table.passed(now):
                self._answers.tell(held, DeadlineExceeded())
                self._table.remove(held)
        self._client.look_at_the_time(now)

    def _settle(self) -> None:
        """Go on until everybody waits for the engine or for the store."""
        while True:
            self._client.take_all_done()
            for entry in self._table.take_due():
                self._turns.take(entry)
            self._port.flush()
            if not (self._port.has_done or self._table.has_due):
                return

    def _wake(self) -> None:
        self.waker()
