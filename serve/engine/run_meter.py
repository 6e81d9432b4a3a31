"""What the engine counts of one model for whoever watches: waiting, runs, steps.

Rules of this file: hot path; some additions to cells for each run. The page may be read by other processes meanwhile.
"""

from bisect import bisect_left

from ..counter_layout import ANSWERED_ROWS, LAST_RUN, MAX_RUN_ROWS, QUEUE_S, RUN_S, RUN_S_OF_ROWS, SECONDS, STEPS
from ..counter_page import CounterPage


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

    def begun(self, waited_s: float) -> None:
        """Count a request of which the first row is in a run now, so many seconds after it came."""
        self._add(self._queue, waited_s)

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
        self._add(self._run, seconds)
        place = self._of_rows + 2 * (min(rows, MAX_RUN_ROWS) - 1)
        cells[place] += 1
        cells[place + 1] += seconds
        cells[self._steps] += useful_steps
        cells[self._steps + 1] += computed_steps - useful_steps
        cells[self._last_run] = begun_s + seconds

    def answered(self, rows: int) -> None:
        """Count a request of so many rows that was answered."""
        self._cells[self._answered_rows] += rows

    def _add(self, start: int, seconds: float) -> None:
        cells = self._cells
        cells[start + bisect_left(SECONDS, seconds)] += 1
        cells[start + len(SECONDS) + 1] += seconds
