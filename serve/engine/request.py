"""A request in the engine, and its rows on their way through time: the lanes.

Rules of this file: records and their arithmetic only; `lanes` moves them, `plan` decides which.
"""

from typing import Any, Final

from ..arrays import Array
from .work import Answer, Work

ZERO_SLOT: Final = 0  # a state that is always zero and never written


class Request:
    """A work in the engine: which rows of it are still on their way, and the answer so far.

    Attributes:
        ticket: of whoever asked.
        work: what was asked.
        size_bytes: of the work's tensors.
        rows: of the work.
        rows_left: rows that have not ended.
        due_s: see `plan`.
        next_row: the first one that has no lane yet; rows get theirs late, so that what waits takes little memory.
        answer: outputs by name; rows are filled in as they end.
        arrived_s: when it came.
        is_watched: its next run is to be noted: it is its first, or somebody traces it.
        queue: of the engine, where it was added.
        place: its number among those that wait for lanes; 0: it does not.
        deadline_place: its number among the deadlines; 0: it has none.
    """

    __slots__ = (
        "answer",
        "arrived_s",
        "deadline_place",
        "due_s",
        "is_watched",
        "next_row",
        "place",
        "queue",
        "rows",
        "rows_left",
        "size_bytes",
        "ticket",
        "work",
    )

    def __init__(self, ticket: Any, work: Work, size_bytes: int, rows: int) -> None:
        self.ticket = ticket
        self.work = work
        self.size_bytes = size_bytes
        self.rows = self.rows_left = rows
        self.due_s = self.arrived_s = 0.0
        self.next_row = self.place = self.deadline_place = 0
        self.is_watched = True
        self.queue: Any = None
        self.answer: Answer = {}

    @property
    def rows_waiting(self) -> int:
        """Rows that have no lane yet."""
        return self.rows - self.next_row

    def next_lane(self) -> "Lane":
        """Return the lane of the next row."""
        row = self.next_row
        self.next_row = row + 1
        return Lane(self, row, self.work.sequence[row], self.work.lengths.item(row), self.due_s)

    def ordered_answer(self) -> Answer:
        """Return the answer in the order that was asked for."""
        answer, names = self.answer, self.work.outputs
        return answer if len(names) == 1 else {name: answer[name] for name in names}


class Lane:
    """One row on its way through time.

    Attributes:
        request: it belongs to.
        row: its place there.
        source: [T, I] or [T], the row's steps.
        remaining: steps left.
        due_s: its request's.
        position: steps done.
        slot: where its state is kept between runs.
    """

    # By hand, as in `work`.
    __slots__ = ("due_s", "position", "remaining", "request", "row", "slot", "source")

    def __init__(self, request: Request, row: int, source: Array, remaining: int, due_s: float) -> None:
        self.request = request
        self.row = row
        self.source = source
        self.remaining = remaining
        self.due_s = due_s
        self.position = 0
        self.slot: int = ZERO_SLOT
