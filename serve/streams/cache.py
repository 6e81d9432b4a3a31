"""Records in memory that also lie in a store: the last one of each stream, as long as there is room.

Rules of this file: pure. What is dropped here is read again when it is needed; nothing is lost by it.
"""

from collections import OrderedDict

from .record import StreamKey, StreamRecord


class RecordCache:
    """The records that were used last.

    Args:
        max_bytes: of their arrays; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._records: OrderedDict[StreamKey, StreamRecord] = OrderedDict()
        self.size_bytes = 0

    def get(self, key: StreamKey) -> StreamRecord | None:
        """Return the record of a stream, if it is here."""
        record = self._records.get(key)
        if record is not None:
            self._records.move_to_end(key)
        return record

    def put(self, key: StreamKey, record: StreamRecord) -> None:
        """Keep a record; those that were used longest ago make room."""
        self.drop(key)
        if self._max_bytes == 0:
            return
        self._records[key] = record
        self.size_bytes += _cost(record)
        while self.size_bytes > self._max_bytes and self._records:
            self.drop(next(iter(self._records)))

    def drop(self, key: StreamKey) -> None:
        """Keep a record no longer."""
        record = self._records.pop(key, None)
        if record is not None:
            self.size_bytes -= _cost(record)

    def usage(self) -> dict[str, tuple[int, int]]:
        """Return how many streams live here and the bytes of their states, by model."""
        found: dict[str, tuple[int, int]] = {}
        for key, record in self._records.items():
            if record.ended is None:
                live, state_bytes = found.get(key.model, (0, 0))
                found[key.model] = live + 1, state_bytes + record.state_bytes
        return found


def _cost(record: StreamRecord) -> int:
    return record.size_bytes + 512  # of the objects around the arrays
