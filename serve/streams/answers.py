"""What is told to those who wait: the results of requests, and the ends of orders.

Rules of this file: it decides nothing. Whoever waits is told once; nobody is told of what was cancelled.
"""

from ..engine.engine import Result
from ..engine.work import Outcome, StreamReport
from ..errors import ServeError
from .table import Entry, Held, StreamTable


class Answers:
    """The results that were not taken yet, and the way to end a head.

    Args:
        table: holds those who wait.

    Attributes:
        results: of requests, the same list always; `take` hands out what is in it.
    """

    def __init__(self, table: StreamTable) -> None:
        self._table = table
        self.results: list[Result] = []

    def take(self) -> list[Result]:
        """Return the results since the last time."""
        results = self.results.copy()
        self.results.clear()
        return results

    def tell(self, held: Held, outcome: Outcome | StreamReport) -> None:
        """Say how a request or an order ended, if anybody waits; it keeps its place in its queue."""
        if held.ticket is None:
            return
        self._table.release(held)
        if held.on_done is None:
            assert not isinstance(outcome, StreamReport)
            self.results.append((held.ticket, outcome))
        else:
            assert isinstance(outcome, StreamReport | ServeError)
            held.on_done(outcome)

    def end_head(self, entry: Entry, outcome: Outcome | StreamReport | None = None) -> None:
        """The head is done with: tell whoever waits, unless there is nothing to tell, and go on with the next one."""
        held = entry.queue.popleft()
        if outcome is not None:
            self.tell(held, outcome)
        else:
            self._table.release(held)
        entry.fresh_for = None
        self._table.wait_no_more(entry)
