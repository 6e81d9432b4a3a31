"""Who runs next, and by how many steps: pure decisions over what waits.

Rules of this file: no clock, no I/O, no lanes: numbers in, a decision out.

The order. Every request has a due moment, and its sequences have it too: its arrival, plus `PATIENCE` times what all
its steps would cost by themselves, minus a credit for its priority. The leader is the sequence with the earliest
due moment, and **every run advances the leader**. That is the fairness bound: a sequence is passed over only in favour
of those with an earlier due moment, so never in favour of one that arrives after it was due (save by priority, at most
`PRIORITY_CREDIT_S` a level), however many arrive. Short ones are due soon, so they do not wait for long ones; long ones
wait in proportion to their own length.

The run. Beside the leader the planner is free. It sorts what is active by remaining steps and looks at two kinds of
run: some neighbours in that order to their end (a little padding, all of them finish), and everything from some place
upwards by so many steps that those below are done (no padding above). Of all of them it takes the one with the
most useful steps in its predicted time. Each sequence that ends counts for a little more, because it will not need a
place in another run.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .cost_model import CostModel, Floats

Ints = NDArray[np.int64]

PATIENCE = 8.0  # measured on the three ragged workloads: below, short ones wait longer; above, long ones
PRIORITY_CREDIT_S = 1.0
FINISH_BONUS = 0.2  # of a run's and a row's fixed cost; measured likewise
POOL_ROWS = 64  # rows that one decision weighs; its cost grows with the square
_FEW_ROWS = 8  # up to so many, sums in Python take less time than arrays
_FINISHING, _ADVANCING = 0, 1
_HOLD_SHARE = 0.1  # of the run's predicted time is the longest wait for company
_HOLD_SUCCESS = 0.5  # share of holds that must have paid lately


@dataclass(frozen=True, slots=True)
class RunRules:
    """What a network allows.

    Attributes:
        stoppable: a sequence may be stopped between steps, its state carried (streamable networks).
        ragged: rows of one run may have unequal lengths (the graph takes lengths).
        run_limit_s: longest run that is planned for a stoppable network.
        step_budget: most rows times steps of a run, padding included, which bounds its memory; one row may exceed it
            where it cannot be stopped.
    """

    stoppable: bool
    ragged: bool
    run_limit_s: float
    step_budget: int


class Run(NamedTuple):
    """A decision: rows first .. stop - 1 in the order of remaining steps advance by at most `steps`."""

    first: int
    stop: int
    steps: int


def due_s(arrival_s: float, steps: int, priority: int, unit_s: float) -> float:
    """Return the due moment of a request.

    Args:
        arrival_s: monotonic seconds.
        steps: of all its sequences together.
        priority: higher is earlier.
        unit_s: the least cost of one row and step.
    """
    return arrival_s + PATIENCE * steps * unit_s - priority * PRIORITY_CREDIT_S


class Planner:
    """Decides for one model. Holds tables made from the cost model, and nothing about lanes.

    Args:
        cost: of the model; refined elsewhere, read here.
        rules: what the network allows.
        max_rows: most rows of a run, at most POOL_ROWS.
    """

    def __init__(self, cost: CostModel, rules: RunRules, max_rows: int) -> None:
        self.cost = cost
        self.rules = rules
        self.max_rows = min(max_rows, POOL_ROWS, cost.max_rows)
        self._is_free = rules.ragged and rules.stoppable
        self._refresh()

    def choose_run(self, remaining: Ints, leader: int) -> Run:
        """Choose the rows and the steps of the next run.

        Args:
            remaining: [n] steps left, ascending, each at least 1; n is 1 .. max_rows.
            leader: the place in it that must be in the run.

        Returns:
            A run with first <= leader < stop; 1 <= steps <= the largest remaining in it. Where rows must be of equal
            length, all of them have that many steps left or more (stoppable) or exactly that many.
        """
        if self._version != self.cost.version:
            self._refresh()
        if len(remaining) == 1:
            return self._limited(0, 1, int(remaining[0]))
        if self._is_free and len(remaining) <= _FEW_ROWS:
            kind, first, last = self._best_of_few(remaining.tolist(), leader)
        else:
            kind, first, last = self._best(remaining, leader)
        stop = last + 1 if kind == _FINISHING else len(remaining)
        return self._limited(first, stop, int(remaining[last]))

    def _limited(self, first: int, stop: int, steps: int) -> Run:
        if self.rules.stoppable:
            rows = stop - first
            budget = min(self.rules.step_budget, self.cost.best_row_steps)
            most = min(int(self.rules.run_limit_s / self.cost.step_s[rows]), budget // rows)
            steps = min(steps, max(1, most))
        return Run(first, stop, steps)

    def _best(self, remaining: Ints, leader: int) -> tuple[int, int, int]:
        """Return the kind of run and its i, k with the highest score: useful seconds for each predicted second.

        FINISHING: the neighbours i .. k, all to their end. ADVANCING: everything from i upwards by as many steps as k
        has left. Both kinds are computed at once, as [i, kind, k].
        """
        count, rows = len(remaining), leader + 1
        fixed, step, above = self._tables(count)
        steps = remaining.astype(np.float64)  # once, or each product would do it by itself
        each = steps * self._unit_s
        before = np.zeros(count + 1)  # useful seconds below a place
        done = each.cumsum(out=before[1:])
        done += self._bonus[1 : count + 1]
        useful = above * each
        useful += done
        cost = step[:rows] * steps
        cost += fixed[:rows]
        score = useful - before[:rows, None, None]
        score /= cost
        score[:, _FINISHING, :leader] = 0.0
        if not self._is_free:
            self._forbid(score, remaining, leader)
        first, place = divmod(int(score.argmax()), 2 * count)
        kind, last = divmod(place, count)
        return kind, first, last

    def _best_of_few(self, remaining: list[int], leader: int) -> tuple[int, int, int]:
        """Return what `_best` would, one candidate after the other: for a few rows arrays cost more than sums."""
        count, fixed_s, step_s = len(remaining), self._few_fixed_s, self._few_step_s
        before_s, sum_s = [0.0], 0.0  # useful seconds below a place
        for place, steps in enumerate(remaining, 1):
            sum_s += steps * self._unit_s
            before_s.append(sum_s + place * self._bonus_s)
        best, chosen = 0.0, (_FINISHING, leader, leader)
        for first in range(leader + 1):
            for last in range(leader, count):
                rows = last - first + 1
                score = (before_s[last + 1] - before_s[first]) / (step_s[rows] * remaining[last] + fixed_s[rows])
                if score > best:
                    best, chosen = score, (_FINISHING, first, last)
            rows = count - first
            for last in range(first, count - 1):
                useful_s = (count - 1 - last) * (remaining[last] * self._unit_s) + before_s[last + 1]
                score = (useful_s - before_s[first]) / (step_s[rows] * remaining[last] + fixed_s[rows])
                if score > best:
                    best, chosen = score, (_ADVANCING, first, last)
        return chosen

    def _forbid(self, score: Floats, remaining: Ints, leader: int) -> None:
        """Strike out what the network does not allow. The leader alone stays possible."""
        count = len(remaining)
        if not self.rules.ragged:  # nobody may be shorter than the run, and to the end all must be equal
            shorter = remaining[: leader + 1, None] < remaining
            score[np.stack((shorter, shorter), axis=1)] = 0.0
        if not self.rules.stoppable:
            score[:, _ADVANCING] = 0.0
            rows = np.arange(count) + 1 - np.arange(leader + 1)[:, None]
            score[:, _FINISHING][rows * remaining > self.rules.step_budget] = 0.0
        place = (leader, _FINISHING, leader)
        score[place] = max(score[place], np.finfo(np.float64).tiny)

    def _tables(self, count: int) -> tuple[Floats, Floats, Floats]:
        """Return a run's fixed cost and its step's, [i, kind, k], and the rows above k that advance with it, [kind, k].

        k < i costs infinitely much.
        """
        found = self._by_count.get(count)
        if found is None:
            place = np.arange(count)
            finishing = place[None, :] - place[:, None] + 1
            advancing = np.broadcast_to((count - place)[:, None], (count, count))
            rows = np.stack((np.maximum(finishing, 1), advancing), axis=1)
            fixed = self.cost.run_s + self.cost.row_s * rows
            fixed[np.stack((finishing < 1, finishing < 1), axis=1)] = np.inf
            above = np.stack((np.zeros(count), np.arange(count - 1.0, -1.0, -1.0)))
            found = self._by_count[count] = fixed, self.cost.step_s[rows], above
        return found

    def _refresh(self) -> None:
        """Take over the cost model as it is now."""
        self._by_count: dict[int, tuple[Floats, Floats, Floats]] = {}
        self._unit_s = self.cost.unit_s
        self._bonus_s = FINISH_BONUS * (self.cost.run_s + self.cost.row_s)
        self._bonus = np.arange(self.max_rows + 1.0) * self._bonus_s
        few = np.arange(min(_FEW_ROWS, self.max_rows) + 1)
        self._few_fixed_s: list[float] = (self.cost.run_s + self.cost.row_s * few).tolist()
        self._few_step_s: list[float] = self.cost.step_s[few].tolist()
        self._version = self.cost.version


def hold_s(cost: CostModel, remaining: Ints, arrival_gap_s: float, hold_success: float) -> float:
    """Return how long to wait for company before the next run; 0 where waiting does not pay.

    Waiting pays where few rows leave the machine underused, where the next arrival is expected before a tenth of the
    run's own time is over, and where waiting has lately brought somebody.

    Args:
        cost: of the model.
        remaining: [n] steps left, ascending; empty is idle, not waiting.
        arrival_gap_s: running mean of the time between arrivals.
        hold_success: running share of holds that ended with an arrival.
    """
    if len(remaining) == 0 or len(remaining) >= cost.cheap_rows or hold_success < _HOLD_SUCCESS:
        return 0.0
    longest = _HOLD_SHARE * cost.seconds(len(remaining), int(remaining[-1]))
    return min(longest, 2 * arrival_gap_s) if arrival_gap_s < longest else 0.0
