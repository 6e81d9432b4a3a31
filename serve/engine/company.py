"""Whether a run is held for company: what the decision in `plan` needs to know about the past.

Rules of this file: it is told the time. A run is held at most once, and holding that brings nobody stops by itself.
"""

from collections.abc import Callable

from .cost_model import CostModel
from .plan import Ints, hold_s

_MEAN_RATE = 0.1  # share of a new value in a running mean
_FORGIVE_RATE = 0.01  # a hold that was not tried makes the next try a little more likely
_LONGEST_GAP_S = 1.0  # arrivals further apart than this tell nothing more


class Company:
    """Running means of arrivals and of holds, and the hold that is on."""

    def __init__(self) -> None:
        self._gap_s = _LONGEST_GAP_S
        self._last_s = 0.0
        self._success = 1.0
        self._until_s: float | None = None
        self._held = False
        self._since_hold = 0
        self._arrivals = 0
        self.holds = 0

    def arrived(self) -> None:
        """Count an arrival."""
        self._arrivals += 1
        self._since_hold += 1

    def wait_s(self, now: float, cost: CostModel, remaining: Callable[[], Ints]) -> float:
        """Return how long the next run is held from now on; decides once a run.

        Args:
            now: monotonic seconds.
            cost: of the model.
            remaining: gives the steps left of all rows, ascending; asked only where a decision is due.
        """
        if self._until_s is None:
            hold = hold_s(cost, remaining(), self._gap_s, self._success)
            self._until_s = now + hold
            self._since_hold = 0
            self.holds += hold > 0.0
            self._held = hold > 0.0
        return max(0.0, self._until_s - now)

    def started(self, now: float) -> None:
        """A run starts: learn from the arrivals since the one before, and from the hold before this one."""
        if self._arrivals:
            gap = min((now - self._last_s) / self._arrivals, _LONGEST_GAP_S)
            self._gap_s += _MEAN_RATE * (gap - self._gap_s)
            self._last_s, self._arrivals = now, 0
        if self._until_s is None:
            return
        if self._held:
            self._success += _MEAN_RATE * ((self._since_hold > 0) - self._success)
        else:
            self._success += _FORGIVE_RATE * (1.0 - self._success)
        self._until_s = None
