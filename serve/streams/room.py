"""Room for streams: whether another one may begin, and whether what a request leaves behind fits.

Rules of this file: pure. What runs has its room set aside, so that many at once do not take the same one. A store that
does not count (`Usage` is None) has bounds of its own, and nothing is refused here.
"""

from ..stream_errors import StreamsFull
from .limits import StreamLimits
from .store import StreamStore
from .table import Entry


class Room:
    """What is left, and what is set aside.

    Args:
        store: says what it holds.
        limits: of streams and of bytes.
    """

    def __init__(self, store: StreamStore, limits: StreamLimits) -> None:
        self._store = store
        self._limits = limits
        self._streams = 0
        self._bytes = 0

    @property
    def has_any(self) -> bool:
        """Whether the store holds something that may become old."""
        usage = self._store.usage
        return usage is not None and usage.records > 0

    def take(self, entry: Entry, growth_bytes: int, *, is_new: bool) -> None:
        """Set room aside for a request that is going to run.

        Raises:
            StreamsFull: there is not enough.
        """
        usage, limits = self._store.usage, self._limits
        if usage is not None:
            if is_new and usage.total_live + self._streams >= limits.max_streams:
                raise StreamsFull("streams", limits.max_streams)
            if growth_bytes > 0 and usage.total_bytes + self._bytes + growth_bytes > limits.max_stream_bytes:
                raise StreamsFull("bytes of streams", limits.max_stream_bytes)
        entry.growth_bytes = max(0, growth_bytes)
        entry.is_new = is_new
        self._streams += is_new
        self._bytes += entry.growth_bytes

    def give_back(self, entry: Entry) -> None:
        """The run has ended, or never began: the store counts what it left."""
        self._streams -= entry.is_new
        self._bytes -= entry.growth_bytes
        entry.is_new, entry.growth_bytes = False, 0
