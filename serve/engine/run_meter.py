"""What the engine counts of one model for whoever watches: waiting, runs, steps.

Rules of this file: hot path; some additions to cells for each run. The page may be read by other processes meanwhile.
"""

from bisect import bisect_left
from collections.abc import Iterable

from ..observe.counter_layout import (
    ANSWERED_ROWS,
    LAST_RUN,
    MAX_RUN_ROWS,
    QUEUE_S,
    RUN_S,
    RUN_S_OF_ROWS,
    SECONDS,
    STEPS,
)
from ..observe.counter_page import CounterPage


class RunMeter:
    """Counts the runs of one model.

    Args:
        page: of this process.
        model: name of the model.
    """

    __slots__ = ("_answered_rows", "_cells", "_last_run", "_of_rows", "_queue", "_run", "_steps")

    def __init__(self, page: CounterPage, model: str) -> None:
        layout, number = page.layout, page.layout.model(model)
        self._cells = page.cells
        self._queue = layout.place(QUEUE_S, number)
        self._run = layout.place(RUN_S, number)
        self._of_rows = layout.place(RUN_S_OF_ROWS, number, 0)
        self._steps = layout.place(STEPS, number, 0)
        self._answered_rows = layout.place(ANSWERED_ROWS, number)
        self._last_run = layout.place(LAST_RUN, number)

    def begun(self, waits_s: Iterable[float]) -> None:
        """Count requests of which the first row is in a run now, so many seconds after each came."""
        cells, start = self._cells, self._queue
        sum_s = 0.0
        for waited_s in waits_s:
            cells[start + bisect_left(SECONDS, waited_s)] += 1
            sum_s += waited_s
        cells[start + len(SECONDS) + 1] += sum_s

    def ran(self, rows: int, useful_steps: int, computed_steps: int, begun_s: float, seconds: float) -> None:
        """Count a run.

        Args:
            rows: in it.
            useful_steps: steps of sequences that it advanced.
            computed_steps: the same, and those that were padding.
            begun_s: moment of the monotonic clock.
            seconds: that it took, planning and packing included.
        """
        cells = self._cells
        cells[self._run + bisect_left(SECONDS, seconds)] += 1
        cells[self._run + len(SECONDS) + 1] += seconds
        place = self._of_rows + 2 * (min(rows, MAX_RUN_ROWS) - 1)
        cells[place] += 1
        cells[place + 1] += seconds
        cells[self._steps] += useful_steps
        cells[self._steps + 1] += computed_steps - useful_steps
        cells[self._last_run] = begun_s + seconds

    def answered(self, rows: int) -> None:
        """Count so many rows of requests that were answered."""
        self._cells[self._answered_rows] += rows
