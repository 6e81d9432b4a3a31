"""How many requests a frontend may have in an engine that other frontends fill too.

The engine holds so many requests altogether, and each frontend knows of its own only. Who was refused by the engine
knows for a moment that it is full, and refuses by itself what would be more than it has in there: that costs the
engine nothing, and a body is not read for it.

Rules of this file: pure; it is told the time.
"""

from typing import Final

_KNOWN_S: Final = 0.05  # then others may have left


class SharedRoom:
    """The room in one engine, as one frontend knows it.

    Args:
        most: requests in the engine, of all frontends together.
    """

    __slots__ = ("_known_until_s", "_most", "share")

    def __init__(self, most: int) -> None:
        self._most = most
        self._known_until_s = 0.0
        self.share = most  # of this frontend, when it was last told

    def refused(self, inside: int, now: float) -> None:
        """The engine is full.

        Args:
            inside: requests that this frontend has in there.
            now: monotonic, in seconds.
        """
        self.share = min(self._most, max(1, inside))  # one is always let try
        self._known_until_s = now + _KNOWN_S

    def has_room(self, inside: int, now: float) -> bool:
        """Whether another request may be sent; for the arguments see `refused`."""
        if now >= self._known_until_s:
            self.share = self._most
        return inside < self.share
