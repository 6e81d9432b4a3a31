"""Where the records of streams are kept: the interface, and what goes over it.

Rules of this file: an interface and its records; every store passes the same contract tests. A store is used by one
thread at a time. Compare-and-set: a write wins where the record there has the revision that its writer saw.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .record import StreamKey, StreamRecord
from .record_bytes import RecordError


class StoreError(Exception):
    """The store failed: what was asked may have happened or not. The message is for the log and names no secret."""


class StoreDownError(StoreError):
    """Nobody answers at all: whatever else is asked of it at this moment would wait as long and fail alike."""


class DamagedRecordError(Exception):
    """What a store holds under a key is no record; the message is for the log.

    Attributes:
        revision: under which it lies there, for whoever writes another in its place.
    """

    def __init__(self, revision: int, err: RecordError) -> None:
        super().__init__(str(err))
        self.revision = revision


@dataclass(frozen=True, kw_only=True, slots=True)
class Write:
    """One record to be written.

    Attributes:
        key: of the stream.
        expected: revision of the record that it replaces; None: there is none.
        record: with another revision.
        expires_s: when it turns idle, on the clock of `record.touched_s`; only of records that live.
        keep_until_s: when it may be forgotten; later than `expires_s`.
    """

    key: StreamKey
    expected: int | None
    record: StreamRecord
    expires_s: float
    keep_until_s: float


@dataclass(slots=True)
class Usage:
    """What a store holds: live streams and bytes of their states by model, records and bytes of everything."""

    live: dict[str, int] = field(default_factory=dict)
    state_bytes: dict[str, int] = field(default_factory=dict)
    total_live: int = 0
    total_bytes: int = 0
    records: int = 0

    def add(
        self, model: str, *, is_live: bool, state_bytes: int, size_bytes: int, records: int = 1, sign: int = 1
    ) -> None:
        """Count records, or, with the sign -1, count them no more; sizes are those of all of them."""
        self.records += sign * records
        self.total_bytes += sign * size_bytes
        if is_live:
            self.total_live += sign * records
            self.live[model] = self.live.get(model, 0) + sign * records
            self.state_bytes[model] = self.state_bytes.get(model, 0) + sign * state_bytes


class StreamStore(Protocol):
    """Keeps the record of each stream."""

    @property
    def line(self) -> str:
        """Where states live and what a restart does to them, in words, without secrets."""
        ...

    @property
    def is_durable(self) -> bool:
        """Whether a record that was committed outlives this process."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether other servers may write to it at the same time."""
        ...

    @property
    def usage(self) -> Usage | None:
        """What it holds; None where it cannot tell. May be read from any thread."""
        ...

    def load(self, key: StreamKey) -> StreamRecord | None:
        """Return the record of a stream, or None.

        Raises:
            StoreError: it failed.
            DamagedRecordError: what it holds under this key is no record.
        """
        ...

    def commit(self, writes: Sequence[Write]) -> list[bool]:
        """Write records of different streams, as durably as it can, together; return which of them won.

        Raises:
            StoreError: it failed; each of the writes may have happened or not.
        """
        ...

    def sweep(self, now_s: float) -> dict[str, int]:
        """Forget what has been kept for long enough; return how many streams turned idle since the last time, by model.

        Raises:
            StoreError: it failed.
        """
        ...

    def close(self) -> None:
        """Give everything back. Closing twice is fine."""
        ...
