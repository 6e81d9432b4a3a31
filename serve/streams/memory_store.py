"""Streams in this process's memory: the quickest store, and a restart loses it.

Rules of this file: synchronous, bounded. Streams that turned idle and those that ended leave a mark without a state, so
that whoever comes late is told so; the oldest marks go first where there are too many.
"""

from collections import OrderedDict
from collections.abc import Sequence

from .record import EXPIRED, StreamKey, StreamRecord
from .store import Usage, Write


class MemoryStore:
    """Records by key.

    Args:
        max_ended: most records of streams that have ended.
    """

    line = "in memory: a restart of the engine or of the server loses them, and says so (404)"
    is_durable = False
    is_shared = False

    def __init__(self, max_ended: int) -> None:
        self._max_ended = max_ended
        self._records: dict[StreamKey, StreamRecord] = {}
        self._live: OrderedDict[StreamKey, tuple[float, float]] = OrderedDict()  # expires, kept until; oldest first
        self._ended: OrderedDict[StreamKey, float] = OrderedDict()  # kept until
        self.usage = Usage()

    def load(self, key: StreamKey) -> StreamRecord | None:
        """Return the record of a stream, or None."""
        return self._records.get(key)

    def commit(self, writes: Sequence[Write]) -> list[bool]:
        """Write records; return which of them won."""
        return [self._put(write) for write in writes]

    def sweep(self, now_s: float) -> dict[str, int]:
        """See `StreamStore.sweep`."""
        expired: dict[str, int] = {}
        while self._live:
            key, (expires_s, keep_until_s) = next(iter(self._live.items()))
            if expires_s > now_s:
                break
            self._replace(key, self._records[key].tombstone(EXPIRED), expires_s, keep_until_s)
            expired[key.model] = expired.get(key.model, 0) + 1
        while self._ended:
            key, keep_until_s = next(iter(self._ended.items()))
            if keep_until_s > now_s and len(self._ended) <= self._max_ended:
                break
            self._forget(key)
        return expired

    def close(self) -> None:
        """Forget everything."""
        self._records.clear()
        self._live.clear()
        self._ended.clear()
        self.usage = Usage()

    def _put(self, write: Write) -> bool:
        before = self._records.get(write.key)
        if (None if before is None else before.revision) != write.expected:
            return False
        self._replace(write.key, write.record, write.expires_s, write.keep_until_s)
        if len(self._ended) > self._max_ended:
            self._forget(next(iter(self._ended)))
        return True

    def _replace(self, key: StreamKey, record: StreamRecord, expires_s: float, keep_until_s: float) -> None:
        if key in self._records:
            self._forget(key)
        self._records[key] = record
        self._count(key, record, 1)
        if record.ended is None:
            self._live[key] = (expires_s, keep_until_s)
        else:
            self._ended[key] = keep_until_s

    def _forget(self, key: StreamKey) -> None:
        self._count(key, self._records.pop(key), -1)
        self._live.pop(key, None)
        self._ended.pop(key, None)

    def _count(self, key: StreamKey, record: StreamRecord, sign: int) -> None:
        is_live = record.ended is None
        self.usage.add(
            key.model, is_live=is_live, state_bytes=record.state_bytes, size_bytes=record.size_bytes, sign=sign
        )
