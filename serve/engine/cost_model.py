"""What a run costs: seconds for B rows by K steps, measured at start and refined while the engine runs.

Rules of this file: pure; it is told what was measured and never measures. The model is linear in K,

    seconds(B, K) = run_s + row_s * B + step_s(B) * K,

because a recurrent step of B rows is one matrix product whose time depends on B alone. `step_s` is a table over B: the
products are computed in blocks of rows, so that it is neither linear nor smooth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LEARNING_RATE = 0.05  # share of a new measurement in the running estimate
_EVERY = 4  # one run in so many is learnt from: learning costs as much as packing a row
_REFRESH_RUNS = 1024
_LEAST_SHARE = 0.8  # no number of rows makes a row and step much cheaper than is usual: what says so is noise
_LARGEST_SURPRISE = 2.0  # a run off by more was interrupted by something else on the machine
_AS_CHEAP = 1.1  # a row and step within this factor of the cheapest counts as cheap


class Measurement(NamedTuple):
    """One timed run: rows, steps, seconds."""

    rows: int
    steps: int
    seconds: float


@dataclass(slots=True)
class CostModel:
    """The estimate for one model on one machine.

    Attributes:
        run_s: fixed cost of a run.
        row_s: cost of a row in a run, whatever its steps: packing and unpacking.
        step_s: [max_rows + 1] cost of a step of B rows; entry 0 is not used.
        best_row_steps: rows times steps of the run that costs least for each; longer ones leave the caches.
        had_cpu: whether it was measured by a thread that seldom waited for a CPU.
        version: counts refinements, so that tables made from the model know when they are out of date.
    """

    run_s: float
    row_s: float
    step_s: Floats
    best_row_steps: int = 2**20
    had_cpu: bool = True
    version: int = 0
    _runs: int = field(default=0, repr=False)

    @property
    def max_rows(self) -> int:
        """Largest B that the table knows."""
        return len(self.step_s) - 1

    @property
    def unit_s(self) -> float:
        """The least cost of one row and step, over B."""
        return float((self.step_s[1:] / np.arange(1, len(self.step_s))).min())

    @property
    def cheap_rows(self) -> int:
        """The smallest B at which a row and step costs about the least: more rows save nothing but fixed costs."""
        each = self.step_s[1:] / np.arange(1, len(self.step_s))
        return int(np.argmax(each <= _AS_CHEAP * each.min())) + 1

    def seconds(self, rows: int, steps: int) -> float:
        """Return the predicted time of a run of B rows by K steps."""
        return self.run_s + self.row_s * rows + float(self.step_s[rows]) * steps

    def refine(self, found: Measurement) -> None:
        """Take a run's measured time into the estimate; a surprise counts only in part.

        The step's cost of that many rows takes the blame, and that of its neighbours half as much.
        """
        self._runs += 1
        if self._runs % _EVERY:
            return
        expected = self.seconds(found.rows, found.steps)
        ratio = min(max(found.seconds / expected, 1 / _LARGEST_SURPRISE), _LARGEST_SURPRISE)
        share = float(self.step_s[found.rows]) * found.steps / expected
        gain = _LEARNING_RATE * (ratio - 1) * share
        self.step_s[found.rows] *= 1 + gain
        for neighbour in (found.rows - 1, found.rows + 1):
            if 1 <= neighbour <= self.max_rows:
                self.step_s[neighbour] *= 1 + gain / 2
        if self._runs % _REFRESH_RUNS == 0:
            self.version += 1


def fit(measurements: Sequence[Measurement], max_rows: int, least_share: float = _LEAST_SHARE) -> CostModel:
    """Fit the model to timed runs.

    Args:
        measurements: for some numbers of rows, each at two numbers of steps or more; the fastest of equal ones counts.
        max_rows: the table's largest B; beyond the measured ones a step grows in proportion to B.
        least_share: of the usual cost of a row and step, below which none is believed.

    Returns:
        The model; every cost is positive.

    Raises:
        ValueError: fewer than two numbers of steps for some B.
    """
    best: dict[int, dict[int, float]] = {}
    for found in measurements:
        steps = best.setdefault(found.rows, {})
        steps[found.steps] = min(found.seconds, steps.get(found.steps, np.inf))
    slopes = {rows: _slope(times) for rows, times in best.items()}
    fixed = {rows: max(min(times.values()) - slopes[rows] * min(times), 0.0) for rows, times in best.items()}
    run_s, row_s = _line(fixed)
    return CostModel(run_s=run_s, row_s=row_s, step_s=_dense(slopes, max_rows, least_share))


def _slope(times: Mapping[int, float]) -> float:
    if len(times) < 2:  # noqa: PLR2004 - a slope needs two points
        raise ValueError(f"measurements: expected two numbers of steps for each number of rows, found {dict(times)}")
    low, high = min(times), max(times)
    return max((times[high] - times[low]) / (high - low), 1e-9)


def _line(fixed: Mapping[int, float]) -> tuple[float, float]:
    """Least squares through the fixed costs over B, neither part below zero."""
    rows = np.array(sorted(fixed), dtype=float)
    costs = np.array([fixed[int(count)] for count in rows])
    if len(rows) == 1:
        return max(float(costs[0]), 1e-6), 0.0
    row_s = max(float(np.polyfit(rows, costs, 1)[0]), 0.0)
    return max(float((costs - row_s * rows).mean()), 1e-6), row_s


def _dense(slopes: Mapping[int, float], max_rows: int, least_share: float) -> Floats:
    rows = np.array(sorted(slopes), dtype=float)
    each = np.array([slopes[int(count)] for count in rows]) / rows
    costs = np.maximum(each, least_share * float(np.median(each[len(each) // 2 :]))) * rows
    costs = np.maximum.accumulate(costs)  # more rows are never cheaper
    wanted = np.arange(max_rows + 1)
    table = np.interp(wanted, rows, costs)
    beyond = wanted > rows[-1]
    table[beyond] = costs[-1] * wanted[beyond] / rows[-1]
    return table
