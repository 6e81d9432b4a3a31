"""When a store is to forget what is old: now and then, one look at a time, and sooner where there is no room.

Rules of this file: pure; it is told the time.
"""

from typing import Final

_SOONEST_S: Final = 1.0  # after the last look began


class SweepTimer:
    """The time of the next look for what is old.

    Args:
        every_s: usual time between two looks.
        now: monotonic, in seconds.

    Attributes:
        due_s: when the next one is, on the same clock.
    """

    def __init__(self, every_s: float, now: float) -> None:
        self._every_s = every_s
        self._begun_s = now
        self._is_under_way = False
        self.due_s = now + every_s

    def begins(self, now: float) -> bool:
        """Whether to look now; the one before must have ended, or a whole turn is left out."""
        if now < self.due_s:
            return False
        self.due_s, self._begun_s = now + self._every_s, now
        if self._is_under_way:
            return False
        self._is_under_way = True
        return True

    def ended(self) -> None:
        """The store has looked, or has failed to."""
        self._is_under_way = False

    def hurry(self) -> None:
        """Somebody was refused for want of room: what has expired makes some."""
        self.due_s = min(self.due_s, self._begun_s + _SOONEST_S)
