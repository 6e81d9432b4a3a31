"""How many requests a frontend may have in an engine that other frontends fill too.

The engine holds so many requests altogether, and each frontend knows of its own only. Who was refused by the engine
knows for a moment that it is full, and refuses by itself what would be more than it has in there: that costs the
engine nothing, and a body is not read for it.

A burst may fill the queue; a queue that stays full only makes everybody wait, for the engine answers no more of them
in a second. So once it was full a shorter one has to do for a while, then it may fill again: were the short queue kept
for as long as somebody is refused, a crowd that fits into the long one would be refused for ever.

Rules of this file: pure; it is told the time.
"""

from typing import Final

_KNOWN_S: Final = 0.05  # then others may have left
_SHORT_S: Final = 2.0  # twice as long as a refused client is asked to stay away
_SHORT_SHARE: Final = 4
_SHORTEST: Final = 64  # fewer might leave lanes empty while frontends read on


class SharedRoom:
    """The room in one engine, as one frontend knows it.

    Args:
        most: requests in the engine, of all frontends together.
    """

    __slots__ = ("_known_until_s", "_most", "_short", "_short_until_s", "_told", "share")

    def __init__(self, most: int) -> None:
        self._most = self._told = self._short = most
        self._known_until_s = self._short_until_s = 0.0
        self.share = most  # of this frontend, when it was last asked or told

    def refused(self, inside: int, now: float) -> None:
        """The engine is full.

        Args:
            inside: requests that this frontend has in there.
            now: monotonic, in seconds.
        """
        self._told = min(self._most, max(1, inside))  # one is always let try
        self._known_until_s = now + _KNOWN_S
        self._be_short(self._told, now)
        self.share = min(self._told, self._short)

    def has_room(self, inside: int, now: float) -> bool:
        """Whether another request may be sent; for the arguments see `refused`."""
        share = self._told if now < self._known_until_s else self._most
        if now < self._short_until_s:
            share = min(share, self._short)
        elif inside >= self._most:
            self._be_short(self._most, now)
            share = min(share, self._short)
        self.share = share
        return inside < share

    def _be_short(self, share: int, now: float) -> None:
        if now >= self._short_until_s:
            self._short = min(self._most, max(_SHORTEST, share // _SHORT_SHARE))
            self._short_until_s = now + _SHORT_S
