"""Whether the engine's process hangs: it lives, but its loop stands still.

    the loop        notes on its page when a turn begins, and begins one now and then even where nothing is to be done
    the supervisor  looks as often, and counts for how long it has seen the same mark

Rules of this file: pure; the clock is handed in. Only what was seen counts: where the watcher itself stood still (a
container that was paused, a machine that slept), the watched one most likely did too.
"""

from typing import Final

_LONGEST_INTERVAL_S: Final = 1.0
_LOOKS: Final = 4  # within a limit at least, so that a turn that begins in time is seen in time
_MOST_MISSED: Final = 2.0  # intervals that one look may count for


def interval_s(limit_s: float) -> float | None:
    """Return the longest time between two turns of an idle loop, and between two looks; None: nobody looks.

    Args:
        limit_s: the setting `engine_hang_s`; 0 switches the watch off.
    """
    return min(_LONGEST_INTERVAL_S, limit_s / _LOOKS) if limit_s else None


class HangWatch:
    """Watches one loop by its mark.

    Args:
        limit_s: longest time without a new turn; 0: nobody looks.
        now: moment of the monotonic clock.

    Attributes:
        look_at_s: moment of the next look; None: there is none.
        complaint: what to say of a loop that hangs.
    """

    def __init__(self, limit_s: float, now: float) -> None:
        self.look_at_s: float | None = None if interval_s(limit_s) is None else now
        self.complaint = (
            f"loop: expected a turn within {limit_s:g} s, found none: the process hangs, and is killed and started "
            "again; --engine-hang-s sets the limit"
        )
        self._limit_s = limit_s
        self._interval_s = interval_s(limit_s) or 0.0
        self._looked_at_s = now
        self._mark: float | None = None
        self._still_s = 0.0

    def is_due(self, now: float) -> bool:
        """Whether it is time to look."""
        return self.look_at_s is not None and self.look_at_s <= now

    def look(self, mark: float | None, now: float) -> bool:
        """Return whether the loop has stood still for longer than the limit.

        Args:
            mark: of its page; None: there is no loop now, for the process starts, or has ended.
            now: moment of the monotonic clock.
        """
        seen_s = min(now - self._looked_at_s, _MOST_MISSED * self._interval_s)
        self._looked_at_s = now
        self.look_at_s = now + self._interval_s
        if mark is None or mark != self._mark:
            self._mark, self._still_s = mark, 0.0
            return False
        self._still_s += seen_s
        return self._still_s > self._limit_s
