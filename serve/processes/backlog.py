"""How long a new request will wait, judged by how many wait and how fast they have lately left.

Rules of this file: pure; it is told the time, and what it does not know it takes for nothing: a queue that has not
moved yet refuses nobody.
"""

from typing import Final

_WINDOW_S: Final = 0.1


class Backlog:
    """The requests for one model that one frontend has in the engine.

    Args:
        free: so many at a time do not wait for each other.
    """

    __slots__ = ("_count", "_each_s", "_free", "_since_s", "inside")

    def __init__(self, free: int) -> None:
        self._free = free
        self.inside = 0
        self._each_s = 0.0  # from one that left to the next
        self._since_s = 0.0
        self._count = 0

    @property
    def wait_s(self) -> float:
        """Seconds until one that comes now has its turn."""
        return max(0, self.inside - self._free) * self._each_s

    def came(self, now: float) -> None:
        """Count one in.

        Args:
            now: monotonic, in seconds.
        """
        if not self.inside:  # while nobody was there nobody could leave
            self._since_s, self._count = now, 0
        self.inside += 1

    def left(self, now: float) -> None:
        """Count one out, however it ended."""
        self.inside -= 1
        self._count += 1
        span_s = now - self._since_s
        if span_s >= _WINDOW_S:
            self._each_s = span_s / self._count
            self._since_s, self._count = now, 0
