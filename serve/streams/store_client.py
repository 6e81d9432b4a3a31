"""The engine's conversation with the store: what it asks for the heads of queues, and what becomes of the answers.

    load     reads the record that a head is to be judged by, where the cache has none or is doubted
    commit   writes the record that a head leaves behind; only then is the head answered
    sweep    forgets what is old, now and then

Rules of this file: synchronous, on the engine's thread, and it never waits; `StorePort` does. A record that may be
another than the store's is forgotten, not judged by. It knows no engine and judges nothing (`turns` does).
"""

import logging
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from ..engine.work import StreamAnswer, StreamOrder, StreamReport
from ..stream_errors import StoreUnavailable
from .answers import Answers
from .cache import RecordCache
from .limits import StreamLimits
from .order import report_of
from .record import DAMAGED, EXPIRED, StreamKey, StreamRecord
from .room import Room
from .store import StreamStore, Write
from .store_orders import Done, Load, Sweep
from .store_port import InlinePort, StorePort, StoreThread
from .stream_counts import StreamCounts
from .sweep_timer import SweepTimer
from .table import Entry, Held, Phase, StreamTable

logger = logging.getLogger("cellgate.streams")

_TRIES: Final = 4  # of a request that another server's write came before


class StoreClient:
    """What this process asks of the store of its streams.

    Args:
        store: closed by `close`.
        limits: of what is kept.
        table: the streams that somebody waits for.
        answers: to those who wait.
        counts: of what happens to streams.
        clock: monotonic, in seconds.
        wall_clock: see `StreamingEngine`.
        wake: called on another thread when the store has done something.

    Attributes:
        port: to the store.
        cache: of records that lie in it.
        room: for streams.
        sweep: when it is due.
        now_s: the clock that records are stamped with.
    """

    def __init__(
        self,
        store: StreamStore,
        limits: StreamLimits,
        table: StreamTable,
        answers: Answers,
        counts: StreamCounts,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        wake: Callable[[], None],
    ) -> None:
        self.port: StorePort = StoreThread(store, wake) if store.is_durable else InlinePort(store)
        self.cache = RecordCache(limits.max_stream_bytes if store.is_durable else 0)
        self.room = Room(store, limits)
        self.sweep = SweepTimer(limits.sweep_s, clock())
        # What dies with this process is better told by a clock that nobody sets.
        self.now_s = wall_clock if store.is_durable else clock
        self._is_shared = store.is_shared
        self._limits = limits
        self._table = table
        self._answers = answers
        self._counts = counts
        self._clock = clock
        self._is_told_late = False

    @property
    def is_late(self) -> bool:
        """Whether the store owes an answer for too long."""
        asked_s = self._table.oldest_asked_s
        if asked_s is None or self.port.has_done:
            return False
        return asked_s + self._limits.store_limit_s <= self._clock()

    def record_at(self, entry: Entry, now_s: float) -> StreamRecord | None:
        """Return the record of a stream as it is now, on the clock of `now_s`; None where there is none.

        One whose time is over counts as none, though the store holds it until it sweeps, and what is written replaces
        it. What is damaged says no time, and stays until it is got rid of.
        """
        record = entry.record
        if record is None or (record.ended != DAMAGED and self._kept_until_s(record) <= now_s):
            return None
        return record.as_of(now_s, self._limits.idle_s)

    def find(self, entry: Entry) -> bool:
        """Whether the record of a stream is at hand; if not, the head waits for it from now on."""
        if entry.is_known:
            return True
        entry.record = self.cache.get(entry.key)
        if entry.record is not None and self._kept_until_s(entry.record) <= self.now_s():
            entry.record = None  # the store may have forgotten it by now
        entry.is_known = entry.record is not None
        if not entry.is_known:
            self._load(entry)
        return entry.is_known

    def doubts(self, entry: Entry) -> bool:
        """Before a refusal or a repetition: where others write to the store too, look there first."""
        if not self._is_shared or entry.is_fresh:
            return False
        self.cache.drop(entry.key)
        self._load(entry)
        return True

    def commit(self, entry: Entry, record: StreamRecord) -> None:
        """Write what the head leaves behind, in the place of what is there."""
        expected = None if entry.record is None else entry.record.revision
        # Random, not counted: one that a stream had before it was forgotten, or before its store fell back to an older
        # state, never comes back, and nobody who still knows the record of that time goes on from it.
        revision = secrets.randbits(61)
        self._table.ask(entry, Phase.COMMITTING, self._clock())
        self.port.post(
            Write(
                key=entry.key,
                expected=expected,
                record=replace(record, revision=revision),
                expires_s=record.touched_s + self._limits.idle_s,
                keep_until_s=self._kept_until_s(record),
            )
        )

    def look_at_the_time(self, now: float) -> None:
        """Give up what takes too long, and sweep where it is due; `now` is monotonic."""
        for entry in self._table.late(now - self._limits.store_limit_s):
            self._give_up(entry)
        if self.sweep.begins(now):
            self.port.post(Sweep(self.now_s()))

    def take_all_done(self) -> None:
        """Go on with those whom the store has answered."""
        for done in self.port.take():
            self._is_told_late = False
            match done.order:
                case Write() as write:
                    self._take_commit(write, done)
                case Load(key):
                    self._take_load(key, done)
                case Sweep():
                    self.sweep.ended()
                    for model, count in (done.expired or {}).items():
                        self._counts.ended(model, EXPIRED, count)

    def close(self) -> None:
        """Do the last of it and close the store; what is committed meanwhile is answered."""
        for done in self.port.close():
            if isinstance(done.order, Write):
                self._take_commit(done.order, done)

    def _kept_until_s(self, record: StreamRecord) -> float:
        """Return when a record may be forgotten, on the clock of the store."""
        lives_s = self._limits.idle_s if record.ended in (None, EXPIRED) else 0.0  # since it was applied last
        return record.touched_s + lives_s + self._limits.tombstone_s

    def _load(self, entry: Entry) -> None:
        entry.forget()
        entry.read_for = entry.queue[0]
        self._table.ask(entry, Phase.LOADING, self._clock())
        self.port.post(Load(entry.key))

    def _give_up(self, entry: Entry) -> None:
        """The store takes too long: all who wait for this stream are told. What it did is looked up later."""
        if not self._is_told_late:
            logger.warning("store of streams: no answer in %g s", self._limits.store_limit_s)
        self._is_told_late = True
        entry.is_given_up = True
        self.cache.drop(entry.key)
        for held in tuple(entry.queue):
            self._answers.tell(held, StoreUnavailable())
            entry.queue.remove(held)

    def _take_load(self, key: StreamKey, done: Done) -> None:
        entry = self._table.entry_of(key)
        assert entry is not None
        if entry.is_given_up:
            entry.is_given_up = False
            self._table.wait_no_more(entry)
            return
        if done.error is not None:
            if entry.queue:
                self._answers.end_head(entry, done.error)
            else:
                self._table.wait_no_more(entry)
            return
        entry.record, entry.is_known, entry.fresh_for = done.record, True, entry.read_for
        if done.record is not None:
            self.cache.put(key, done.record)
        self._table.wait_no_more(entry)

    def _take_commit(self, write: Write, done: Done) -> None:
        entry = self._table.entry_of(write.key)
        assert entry is not None
        self.room.give_back(entry)
        if done.won:
            self._counts.committed(entry.key.model, entry.record, write.record)
        if entry.is_given_up:
            entry.is_given_up = False
            entry.forget()
            self._table.wait_no_more(entry)
            return
        held = entry.queue[0]
        if done.error is not None:
            self.cache.drop(write.key)
            entry.forget()
            self._answers.end_head(entry, done.error)
        elif not done.won:
            self._try_again(entry, held)
        else:
            self.cache.put(write.key, write.record)
            entry.record, entry.is_known, entry.fresh_for = write.record, True, None
            self._answers.end_head(entry, _told_of(held, write.record))

    def _try_again(self, entry: Entry, held: Held) -> None:
        """Somebody else wrote first: nothing of this run counts."""
        self.cache.drop(entry.key)
        held.tries += 1
        held.outputs = {}
        entry.forget()
        if held.tries >= _TRIES or held.ticket is None:
            self._answers.end_head(entry, StoreUnavailable("that others write to the same stream all the time"))
        else:
            self._table.wait_no_more(entry)


def _told_of(held: Held, record: StreamRecord) -> StreamAnswer | StreamReport:
    """Return what to tell whoever asked for what is committed now."""
    if isinstance(held.work, StreamOrder):
        return report_of(held.entry.key, record, record.touched_s)
    outputs = {name: held.outputs[name] for name in held.work.outputs}
    return StreamAnswer(outputs=outputs, step=held.step, version=held.version)
