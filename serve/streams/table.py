"""The streams that somebody waits for: a queue for each, and what is going on with its head.

Rules of this file: pure; it is told the time and decides nothing about steps (`judge` does). Only the head of a queue
is worked on: the requests of a stream are applied one after the other, in the order in which they came.
"""

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from ..engine.port import OnReport
from ..engine.work import Answer, StreamOrder, Work
from .record import StreamKey, StreamRecord
from .served_streams import ServedStreams


class Phase(Enum):
    """What the head of a queue waits for."""

    DUE = auto()  # to be judged
    LOADING = auto()  # for its stream's record
    RUNNING = auto()  # for the engine
    COMMITTING = auto()  # for the store


@dataclass(slots=True, eq=False)
class Held:
    """A request of a stream. Compared by identity: it is its own ticket in the engine.

    Attributes:
        ticket: of whoever asked; None where nobody waits any more.
        work: what was asked: a request of the stream, or an order about it.
        entry: of its stream.
        size_bytes: of the work's tensors.
        on_done: told of an order's end, in the place of a result with the ticket.
        payload: see `payload_hash`; None where the request does not say its step, or nobody has looked yet.
        step: of the request, once it runs.
        tries: how often somebody else's write came first.
        outputs: of its run, until they are committed.
        model: in which version it runs, once it was judged.
        version: of that, where another one was asked for.
    """

    ticket: Hashable
    work: Work | StreamOrder
    entry: "Entry"
    size_bytes: int
    on_done: OnReport | None = None
    payload: bytes | None = None
    step: int = 0
    tries: int = 0
    outputs: Answer = field(default_factory=dict)
    model: ServedStreams | None = None
    version: str | None = None

    @property
    def model_that_runs(self) -> ServedStreams:
        """The version in which it runs, after it was judged."""
        assert self.model is not None
        return self.model


@dataclass(slots=True, eq=False)
class Entry:
    """A stream that somebody waits for.

    Attributes:
        key: of the stream.
        phase: of the head.
        queue: in the order of arrival.
        record: as this server knows it, where `is_known`; None: there is none.
        is_known: whether the record may be judged by.
        read_for: who was the head when the store was last asked for the record.
        fresh_for: that one, once the record is here: it was read after this request had come. Another one may have come
            after it was read, and the record may be older than what its client knows.
        is_given_up: the store took too long; who waited has been told, and what comes back late is not trusted.
        asked_s: when the store was asked.
        growth_bytes, is_new: what `room` has set aside for the head.
    """

    key: StreamKey
    phase: Phase = Phase.DUE
    queue: "deque[Held]" = field(default_factory=deque)
    record: StreamRecord | None = None
    is_known: bool = False
    read_for: Held | None = None
    fresh_for: Held | None = None
    is_given_up: bool = False
    asked_s: float = 0.0
    growth_bytes: int = 0
    is_new: bool = False

    @property
    def is_fresh(self) -> bool:
        """Whether the record was read from the store for the head."""
        return self.fresh_for is not None and bool(self.queue) and self.queue[0] is self.fresh_for

    def forget(self) -> None:
        """The record must be read again before anything is judged."""
        self.record, self.is_known, self.fresh_for = None, False, None


class StreamTable:
    """The entries by key, and the requests in them by ticket."""

    def __init__(self) -> None:
        self._entries: dict[StreamKey, Entry] = {}
        self._held: dict[Hashable, Held] = {}
        self._due: dict[StreamKey, Entry] = {}
        self._asked: dict[StreamKey, Entry] = {}  # the store, longest ago first
        self._running = 0
        self.held_bytes = 0
        self.next_deadline_s: float | None = None  # of all that were held since the last `passed`

    def __len__(self) -> int:
        """Return how many requests wait here: those that the engine has are not among them."""
        return len(self._held) - self._running

    @property
    def has_due(self) -> bool:
        """Whether a head is to be judged."""
        return bool(self._due)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is held and nothing is on its way."""
        return not self._entries

    @property
    def oldest_asked_s(self) -> float | None:
        """When the store was asked for what it has owed for longest."""
        return next((entry.asked_s for entry in self._asked.values()), None)

    def add(self, ticket: Hashable, key: StreamKey, work: Work | StreamOrder, on_done: OnReport | None = None) -> Held:
        """Queue a request, or an order and who is told."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Entry(key)
        held = Held(ticket, work, entry, work.size_bytes, on_done)
        entry.queue.append(held)
        self._held[ticket] = held
        self.held_bytes += held.size_bytes
        deadline_s = work.deadline_s
        if deadline_s is not None and (self.next_deadline_s is None or deadline_s < self.next_deadline_s):
            self.next_deadline_s = deadline_s
        if entry.phase is Phase.DUE:
            self._due[key] = entry
        return held

    def find(self, ticket: Hashable) -> Held | None:
        """Return the request with this ticket."""
        return self._held.get(ticket)

    def entry_of(self, key: StreamKey) -> Entry | None:
        """Return the entry of a stream."""
        return self._entries.get(key)

    def take_due(self) -> list[Entry]:
        """Return the entries whose heads are to be judged, each once."""
        due, self._due = self._due, {}
        return list(due.values())

    def ask(self, entry: Entry, phase: Phase, now_s: float) -> None:
        """The head waits for the store from now on."""
        self._leave(entry)
        entry.phase, entry.asked_s = phase, now_s
        self._asked[entry.key] = entry

    def run(self, entry: Entry) -> None:
        """The head waits for the engine from now on."""
        entry.phase = Phase.RUNNING
        self._running += 1

    def wait_no_more(self, entry: Entry) -> None:
        """The head is to be judged again, or the next one is; without any, the entry goes."""
        self._leave(entry)
        entry.phase = Phase.DUE
        if entry.queue:
            self._due[entry.key] = entry
        else:
            self._due.pop(entry.key, None)
            del self._entries[entry.key]
            if not self._entries:
                self.next_deadline_s = None

    def remove(self, held: Held) -> None:
        """Take a request out of its queue; its entry stays until it waits for nothing more."""
        entry = held.entry
        entry.queue.remove(held)
        self.release(held)
        if not entry.queue and entry.phase is Phase.DUE:
            self.wait_no_more(entry)

    def release(self, held: Held) -> None:
        """Nobody waits for a request any more; it keeps its place in the queue."""
        if self._held.pop(held.ticket, None) is not None:
            self.held_bytes -= held.size_bytes

    def drain(self) -> list[Held]:
        """Take everybody out, and return those who still wait."""
        left = list(self._held.values())
        for found in (self._entries, self._held, self._due, self._asked):
            found.clear()
        self.held_bytes = self._running = 0
        return left

    def late(self, before_s: float) -> Iterator[Entry]:
        """Return the entries that asked the store by this moment and were not given up."""
        for entry in tuple(self._asked.values()):
            if entry.asked_s > before_s:
                return
            if not entry.is_given_up:
                yield entry

    def passed(self, now_s: float) -> list[Held]:
        """Return those whose deadline has passed, but for what the engine or the store has."""
        found: list[Held] = []
        later: list[float] = []
        for entry in self._entries.values():
            is_busy = entry.phase in (Phase.RUNNING, Phase.COMMITTING) and not entry.is_given_up
            for place, held in enumerate(entry.queue):
                deadline_s = held.work.deadline_s
                if deadline_s is None or (is_busy and place == 0):
                    continue
                if deadline_s <= now_s:
                    found.append(held)
                else:
                    later.append(deadline_s)
        self.next_deadline_s = min(later, default=None)
        return found

    def _leave(self, entry: Entry) -> None:
        """The head waits no more for what it waited for."""
        self._asked.pop(entry.key, None)
        self._running -= entry.phase is Phase.RUNNING
