"""An engine with streams: what belongs to none passes through, what belongs to one waits for its turn.

    submit -> queue of the stream -> judge -> engine -> commit -> answer

Rules of this file: synchronous, one thread owns it, as `engine.Engine`, whose promises it keeps: every ticket that
`submit` accepted is answered exactly once, or was cancelled. It never waits for a store; `StorePort` does. A request of
a stream is answered as done only when its record is committed.
"""

import logging
import secrets
import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from ..arrays import Array
from ..engine.engine import Engine, Result
from ..engine.models import EngineModel
from ..engine.port import OnReport
from ..engine.work import Outcome, StreamAnswer, StreamOrder, StreamReport, Work
from ..errors import (
    DeadlineExceeded,
    EngineError,
    NotReady,
    QueueFull,
    ServeError,
    StoreUnavailable,
    StreamsFull,
    UnknownModel,
)
from .cache import RecordCache
from .judge import RunStep, check_request, judge
from .limits import StreamLimits
from .order import decide_order, report_of
from .payload import payload_hash
from .record import EXPIRED, StreamKey, StreamRecord
from .room import Room
from .served_streams import ServedStreams
from .store import StreamStore, Write
from .store_port import Done, InlinePort, Load, StorePort, StoreThread, Sweep
from .stream_counts import StreamCounts
from .table import Entry, Held, Phase, StreamTable

logger = logging.getLogger("cellgate.streams")

_TRIES: Final = 4  # of a request that another server's write came before


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
        # What dies with this process is better told by a clock that nobody sets.
        self._stamp = wall_clock if store.is_durable else clock
        self._models = {model.served.name: ServedStreams.of(model.served) for model in engine.models}
        self._port: StorePort = StoreThread(store, self._wake) if store.is_durable else InlinePort(store)
        self._cache = RecordCache(limits.max_stream_bytes if store.is_durable else 0)
        self._table = StreamTable()
        self._room = Room(store, limits)
        self._counts = StreamCounts(self._models)
        self._running = 0
        self._results: list[Result] = []
        self._sweep_at_s = clock() + limits.sweep_s
        self._swept_s = clock()
        self._is_sweeping = False
        self._is_told_late = False

    @property
    def models(self) -> tuple[EngineModel, ...]:
        """The models, in the order of the command line."""
        return self._engine.models

    def submit(self, ticket: Hashable, work: Work) -> None:
        """Take work; see `Engine.submit`.

        Raises:
            QueueFull, UnknownModel: as there.
            BadInput: the work says something of its stream that is impossible, whatever the stream is.
            StoreUnavailable: the store owes answers for too long.
        """
        if work.stream is None:
            if self._running != len(self._table):
                self._check_room(work)
            self._engine.submit(ticket, work)
            return
        model = self._models.get(work.model)
        if model is None:
            raise UnknownModel(work.model, None, ", ".join(self._models))
        check_request(work, is_streamable=model.is_streamable)
        self._check_room(work)
        if self._is_store_late():
            raise StoreUnavailable
        self._table.add(ticket, StreamKey(work.model, work.stream.id), work)

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
        if order.model not in self._models:
            raise UnknownModel(order.model, None, ", ".join(self._models))
        self._check_room(order)
        if self._is_store_late():
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
        is_head = entry.queue[0] is held
        if is_head and entry.phase is Phase.COMMITTING:
            self._table.release(held)
            held.ticket = None
            return
        if is_head and entry.phase is Phase.RUNNING:
            self._engine.cancel(held)
            self._running -= 1
            self._room.give_back(entry)
            self._end_head(entry)
            return
        self._table.remove(held)

    def wait_s(self) -> float | None:
        """Return how long nothing is due: 0.0 now, None until work comes."""
        if self._table.has_due or self._port.has_done or self._results:
            return 0.0
        wait_s = self._engine.wait_s()
        if wait_s == 0.0 or (self._table.is_quiet and not self._room.has_any):
            return wait_s
        moments = [self._sweep_at_s]
        if self._table.next_deadline_s is not None:
            moments.append(self._table.next_deadline_s)
        if (asked_s := self._table.oldest_asked_s) is not None:
            moments.append(asked_s + self._limits.store_limit_s)
        left_s = max(0.0, min(moments) - self._clock())
        return left_s if wait_s is None else min(wait_s, left_s)

    def run_once(self) -> list[Result]:
        """Take what the store has done, judge, run once, hand the store what is to be committed."""
        if self._table.is_quiet and not self._results and self._clock() < self._sweep_at_s and not self._port.has_done:
            return self._engine.run_once()
        self._take_all_done()  # before the clock is looked at: this process may have stood still, not the store
        self._look_at_the_time()
        self._settle()
        for ticket, outcome in self._engine.run_once():
            if isinstance(ticket, Held):
                self._running -= 1
                self._take_run(ticket, outcome)
            else:
                self._results.append((ticket, outcome))
        self._settle()
        results, self._results = self._results, []
        return results

    def close(self) -> list[Result]:
        """Refuse what waits; what is on its way to the store is answered. Closing twice is fine."""
        for ticket, outcome in self._engine.close():
            if isinstance(ticket, Held):
                self._end_head(ticket.entry, outcome)
            else:
                self._results.append((ticket, outcome))
        for done in self._port.close():
            if isinstance(done.order, Write):
                self._take_commit(done.order, done)
        for held in self._table.drain():
            self._tell(held, NotReady())
        results, self._results = self._results, []
        return results

    def statistics(self) -> dict[str, Any]:
        """Return what the engine counts, and the streams, as plain JSON values."""
        return {
            **self._engine.statistics(),
            "streams": self._counts.statistics(self._store.usage, self._cache),
            "streams_waiting": len(self._table) - self._running,
            "stream_store": {"is_durable": self._store.is_durable, "is_shared": self._store.is_shared},
        }

    def _check_room(self, work: Work | StreamOrder) -> None:
        """Refuse what would be more than may wait, here and in the engine together."""
        limits = self._limits
        held = len(self._table) - self._running
        inside_bytes = self._engine.inside_bytes + self._table.held_bytes
        is_first = not held and not self._engine.inside
        is_too_large = not is_first and inside_bytes + work.size_bytes > limits.max_waiting_bytes
        if held + self._engine.inside >= limits.max_waiting or is_too_large:
            raise QueueFull(limits.max_waiting)

    def _look_at_the_time(self) -> None:
        now = self._clock()
        deadline_s = self._table.next_deadline_s
        if deadline_s is not None and deadline_s <= now:
            for held in self._table.passed(now):
                self._tell(held, DeadlineExceeded())
                self._table.remove(held)
        for entry in self._table.late(now - self._limits.store_limit_s):
            self._give_up(entry)
        if now >= self._sweep_at_s:
            self._sweep_at_s, self._swept_s = now + self._limits.sweep_s, now
            if not self._is_sweeping:
                self._is_sweeping = True
                self._port.post(Sweep(self._stamp()))

    def _give_up(self, entry: Entry) -> None:
        """The store takes too long: all who wait for this stream are told. What it did is looked up later."""
        if not self._is_told_late:
            logger.warning("store of streams: no answer in %g s", self._limits.store_limit_s)
        self._is_told_late = True
        entry.is_given_up = True
        self._cache.drop(entry.key)
        for held in tuple(entry.queue):
            self._tell(held, StoreUnavailable())
            entry.queue.remove(held)

    def _settle(self) -> None:
        """Go on until everybody waits for the engine or for the store."""
        while True:
            self._take_all_done()
            for entry in self._table.take_due():
                self._judge(entry)
            self._port.flush()
            if not (self._port.has_done or self._table.has_due):
                return

    def _judge(self, entry: Entry) -> None:
        """Decide about the head of a queue, if there is one and its stream's record is at hand."""
        if not entry.queue or entry.phase is not Phase.DUE or not self._has_record(entry):
            return
        held = entry.queue[0]
        try:
            if isinstance(held.work, StreamOrder):
                self._carry_out(entry, held.work)
                return
            verdict = self._verdict(entry, held, held.work)
        except ServeError as err:
            if isinstance(err, StreamsFull):  # what has expired makes room
                self._sweep_at_s = min(self._sweep_at_s, self._swept_s + 1.0)
            if not self._doubts(entry):
                self._end_head(entry, err)
            return
        if isinstance(verdict, RunStep):
            self._run(entry, held, held.work, verdict)
        elif not self._doubts(entry):
            self._counts.replayed(entry.key.model)
            self._end_head(entry, verdict)

    def _has_record(self, entry: Entry) -> bool:
        """Whether the head can be judged; if not, it is refused, or waits for the store."""
        if self._is_store_late():
            self._end_head(entry, StoreUnavailable())
            return False
        if entry.is_known:
            return True
        entry.record = self._cache.get(entry.key)
        entry.is_known = entry.record is not None
        if not entry.is_known:
            self._load(entry)
        return entry.is_known

    def _carry_out(self, entry: Entry, order: StreamOrder) -> None:
        """Do what an order says; what writes goes to the store first."""
        now_s = self._stamp()
        record = None if entry.record is None else entry.record.as_of(now_s, self._limits.idle_s)
        model = self._models[entry.key.model]
        decided = decide_order(order, record, model, now_s)
        if isinstance(decided, StreamReport):
            if not self._doubts(entry):
                self._end_head(entry, decided)
            return
        growth = decided.size_bytes - (0 if record is None else record.size_bytes)
        self._room.take(entry, growth, is_new=decided.ended is None)
        self._commit(entry, self._next_revision(entry, decided))

    def _verdict(self, entry: Entry, held: Held, work: Work) -> RunStep | StreamAnswer:
        model = self._models[entry.key.model]
        assert work.stream is not None
        if held.payload is None and work.stream.step is not None:
            held.payload = payload_hash(work)
        record = entry.record
        if record is not None:
            record = record.as_of(self._stamp(), self._limits.idle_s)
        verdict = judge(record, work, model.digest, held.payload)
        if isinstance(verdict, RunStep):
            if record is not None and not work.stream.is_start and not model.fits(record):
                raise EngineError("store of streams: expected the states of the model, found others")
            self._room.take(entry, model.growth_bytes(work, record), is_new=record is None or record.ended is not None)
        elif tuple(verdict.outputs) != work.outputs:
            raise EngineError("store of streams: expected the answer to the request, found another")
        return verdict

    def _doubts(self, entry: Entry) -> bool:
        """Before a refusal or a repetition: where others write to the store too, look there first."""
        if not self._store.is_shared or entry.is_fresh:
            return False
        self._cache.drop(entry.key)
        self._load(entry)
        return True

    def _load(self, entry: Entry) -> None:
        entry.forget()
        self._table.ask(entry, Phase.LOADING, self._clock())
        self._port.post(Load(entry.key))

    def _run(self, entry: Entry, held: Held, work: Work, verdict: RunStep) -> None:
        outputs = self._models[entry.key.model].outputs_to_run(work)
        held.step = verdict.step
        try:
            self._engine.submit(held, _work_to_run(work, verdict.states, outputs))
        except ServeError as err:
            self._room.give_back(entry)
            self._end_head(entry, err)
            return
        self._running += 1
        self._table.run(entry)

    def _take_run(self, held: Held, outcome: Outcome) -> None:
        """The engine is done with a request: what it found goes to the store."""
        entry, work = held.entry, held.work
        if isinstance(outcome, ServeError):
            self._room.give_back(entry)
            self._end_head(entry, outcome)
            return
        assert isinstance(outcome, dict)
        assert isinstance(work, Work)
        try:
            record = self._models[entry.key.model].record_of(
                work, outcome, step=held.step, revision=0, payload=held.payload, now_s=self._stamp()
            )
        except ServeError as err:
            self._room.give_back(entry)
            self._end_head(entry, err)
            return
        held.outputs = outcome if record.answer is None else record.answer
        self._commit(entry, self._next_revision(entry, record))

    @staticmethod
    def _next_revision(entry: Entry, record: StreamRecord) -> StreamRecord:
        """Return the record with the revision that follows what is there."""
        # A random first one: one that a forgotten stream of the same name had never comes back.
        revision = secrets.randbits(61) if entry.record is None else entry.record.revision + 1
        return replace(record, revision=revision)

    def _commit(self, entry: Entry, record: StreamRecord) -> None:
        lives_until_s = record.touched_s + self._limits.idle_s
        ends_s = lives_until_s if record.ended is None else record.touched_s
        self._table.ask(entry, Phase.COMMITTING, self._clock())
        self._port.post(
            Write(
                key=entry.key,
                expected=None if entry.record is None else entry.record.revision,
                record=record,
                expires_s=lives_until_s,
                keep_until_s=ends_s + self._limits.tombstone_s,
            )
        )

    def _take_all_done(self) -> None:
        for done in self._port.take():
            self._take_done(done)

    def _take_done(self, done: Done) -> None:
        self._is_told_late = False
        match done.order:
            case Write() as write:
                self._take_commit(write, done)
            case Load(key):
                self._take_load(key, done)
            case Sweep():
                self._is_sweeping = False
                for model, count in (done.expired or {}).items():
                    self._counts.ended(model, EXPIRED, count)

    def _take_load(self, key: StreamKey, done: Done) -> None:
        entry = self._table.entry_of(key)
        assert entry is not None
        if entry.is_given_up:
            entry.is_given_up = False
            self._table.wait_no_more(entry)
            return
        if done.error is not None:
            if entry.queue:
                self._end_head(entry, done.error)
            else:
                self._table.wait_no_more(entry)
            return
        entry.record, entry.is_known, entry.is_fresh = done.record, True, True
        if done.record is not None:
            self._cache.put(key, done.record)
        self._table.wait_no_more(entry)

    def _take_commit(self, write: Write, done: Done) -> None:
        entry = self._table.entry_of(write.key)
        assert entry is not None
        self._room.give_back(entry)
        if done.won:
            self._count(entry, write.record)
        if entry.is_given_up:
            entry.is_given_up = False
            entry.forget()
            self._table.wait_no_more(entry)
            return
        held = entry.queue[0]
        if done.error is not None:
            self._cache.drop(write.key)
            entry.forget()
            self._end_head(entry, done.error)
        elif not done.won:
            self._try_again(entry, held)
        else:
            self._cache.put(write.key, write.record)
            entry.record, entry.is_known, entry.is_fresh = write.record, True, False
            self._end_head(entry, self._told_of(held, write.record))

    def _try_again(self, entry: Entry, held: Held) -> None:
        """Somebody else wrote first: nothing of this run counts."""
        self._cache.drop(entry.key)
        held.tries += 1
        held.outputs = {}
        entry.forget()
        if held.tries >= _TRIES or held.ticket is None:
            self._end_head(entry, StoreUnavailable("that others write to the same stream all the time"))
        else:
            self._table.wait_no_more(entry)

    @staticmethod
    def _told_of(held: Held, record: StreamRecord) -> StreamAnswer | StreamReport:
        """Return what to tell whoever asked for what is committed now."""
        if isinstance(held.work, StreamOrder):
            return report_of(held.entry.key, record, record.touched_s)
        return StreamAnswer(outputs={name: held.outputs[name] for name in held.work.outputs}, step=held.step)

    def _count(self, entry: Entry, record: StreamRecord) -> None:
        before = entry.record
        if record.ended is not None:
            self._counts.ended(entry.key.model, record.ended)
        if record.step == 0 and record.ended is None and before is not None and before.ended is None:
            self._counts.ended(entry.key.model, "taken_over")

    def _end_head(self, entry: Entry, outcome: Outcome | StreamReport | None = None) -> None:
        """The head is done with: tell whoever waits, if anybody does, and go on with the next one."""
        held = entry.queue.popleft()
        if outcome is not None:
            self._tell(held, outcome)
        else:
            self._table.release(held)
        entry.is_fresh = False
        self._table.wait_no_more(entry)

    def _tell(self, held: Held, outcome: Outcome | StreamReport) -> None:
        if held.ticket is None:
            return
        self._table.release(held)
        if held.on_done is None:
            assert not isinstance(outcome, StreamReport)
            self._results.append((held.ticket, outcome))
        else:
            assert isinstance(outcome, StreamReport | ServeError)
            held.on_done(outcome)

    def _is_store_late(self) -> bool:
        asked_s = self._table.oldest_asked_s
        if asked_s is None or self._port.has_done:
            return False
        return asked_s + self._limits.store_limit_s <= self._clock()

    def _wake(self) -> None:
        self.waker()


def _work_to_run(work: Work, states: tuple[Array | None, ...], outputs: tuple[str, ...]) -> Work:
    """Return the work with these states and outputs, for the engine: a copy, several times as quick as `replace`."""
    return Work(
        model=work.model,
        sequence=work.sequence,
        lengths=work.lengths,
        states=states,
        outputs=outputs,
        priority=work.priority,
        deadline_s=work.deadline_s,
        times=work.times,
    )
