"""Where each counter stands in a page of counters: fixed, and the same in every process of a server.

Models may come later; they take places that were left for them, in an order that all processes share.

Rules of this file: pure, and nothing but the standard library, for the supervisor reads it too. Adding a family is a
line here and one in `metrics`; its cells begin at zero in every process. Label values are numbers of a fixed list, so
that nothing a client sends can make a new series.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Final
from zlib import crc32

PROTOCOLS: Final = ("http", "grpc", "websocket")
STATUSES: Final = (200, 400, 401, 403, 404, 405, 408, 409, 410, 413, 415, 421, 422, 429, 431, 499, 500, 503, 504)
CODES: Final = (*map(str, STATUSES), "other")
STEP_KINDS: Final = ("useful", "padding")
NO_MODEL: Final = 0  # what is not about a served model; the models count from 1
MAX_RUN_ROWS: Final = 64  # as many as the planner gives a run

SECONDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0
)  # fmt: skip
ROWS: Final = (1, 2, 4, 8, 16, 32, 64)
SPARE_MODELS: Final = 16  # further names that a server may load after its start

_SIZES: Final = {
    "protocol": len(PROTOCOLS),
    "code": len(CODES),
    "kind": len(STEP_KINDS),
    "rows": MAX_RUN_ROWS,
}


@dataclass(frozen=True, slots=True)
class CounterFamily:
    """One kind of counter.

    Attributes:
        name: unique.
        labels: its axes, "model" or of the fixed lists above.
        bounds: None: a plain number. Else a histogram: a cell for each upper bound, one for what is above all, and the
            sum; without bounds that is a count and a sum.
    """

    name: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] | None = None

    @property
    def cells(self) -> int:
        """Cells for one combination of label values."""
        return 1 if self.bounds is None else len(self.bounds) + 2


# What the supervisor counts or reads, which knows no models: these come first, whatever models there are.
ENGINE_RESTARTS: Final = CounterFamily("engine_restarts")
FRONTEND_RESTARTS: Final = CounterFamily("frontend_restarts")
# Of the engine; the supervisor reads it.
TURN: Final = CounterFamily("turn")  # moment of the monotonic clock when the loop's last turn began
# Of the frontends.
REQUESTS: Final = CounterFamily("requests", ("model", "protocol", "code"))
REQUEST_S: Final = CounterFamily("request_s", ("model", "protocol"), SECONDS)
FAILED_S: Final = CounterFamily("failed_s", ("model",))  # of the seconds above, those that ended in no answer
READ_S: Final = CounterFamily("read_s", ("model",))  # bodies parsed and checked
RENDER_S: Final = CounterFamily("render_s", ("model",))  # answers rendered
# Of the engine.
QUEUE_S: Final = CounterFamily("queue_s", ("model",), SECONDS)
RUN_S: Final = CounterFamily("run_s", ("model",), SECONDS)
RUN_S_OF_ROWS: Final = CounterFamily("run_s_of_rows", ("model", "rows"), ())  # rows count from 1
STEPS: Final = CounterFamily("steps", ("model", "kind"))
ANSWERED_ROWS: Final = CounterFamily("answered_rows", ("model",))
LAST_RUN: Final = CounterFamily("last_run", ("model",))  # moment of the monotonic clock

HEAD: Final = (ENGINE_RESTARTS, FRONTEND_RESTARTS, TURN)
_OF_FRONTENDS: Final = (REQUESTS, REQUEST_S, FAILED_S, READ_S, RENDER_S)
_OF_THE_ENGINE: Final = (QUEUE_S, RUN_S, RUN_S_OF_ROWS, STEPS, ANSWERED_ROWS, LAST_RUN)
FAMILIES: Final = (*HEAD, *_OF_FRONTENDS, *_OF_THE_ENGINE)
HEAD_CELLS: Final = sum(family.cells for family in HEAD)


class CounterLayout:
    """The places of all counters of a server.

    Args:
        models: names of the served models, in the order of the command line; none for who counts nothing of a model.
        spare: places for further names.

    Attributes:
        cells: how many there are.
        fingerprint: equal for layouts that were made alike, in 0 .. 2**32 - 1.
    """

    def __init__(self, models: Sequence[str] = (), spare: int = 0) -> None:
        self._numbers = {name: number for number, name in enumerate(models, NO_MODEL + 1)}
        self._most = len(models) + spare
        self._sizes = {**_SIZES, "model": 1 + self._most}
        self._starts: dict[str, int] = {}
        self.cells = 0
        for family in FAMILIES:
            self._starts[family.name] = self.cells
            self.cells += family.cells * prod(self._sizes[label] for label in family.labels)
        self.fingerprint = crc32(repr((tuple(models), spare, FAMILIES, CODES, PROTOCOLS)).encode())

    @property
    def models(self) -> tuple[str, ...]:
        """The names, in the order of their numbers."""
        return tuple(self._numbers)

    @property
    def spare(self) -> int:
        """Places that no name has yet."""
        return self._most - len(self._numbers)

    def add(self, name: str) -> None:
        """Give a name the next place, unless it has one; it keeps that for ever.

        Raises:
            IndexError: there is none left.
        """
        if name in self._numbers:
            return
        if not self.spare:
            raise IndexError(f"models: expected at most {self._most} names, found another: {name}")
        self._numbers[name] = len(self._numbers) + NO_MODEL + 1

    def model(self, name: str) -> int:
        """Return the number of a model among the label's values; `NO_MODEL` for a name that was never served."""
        return self._numbers.get(name, NO_MODEL)

    def place(self, family: CounterFamily, *labels: int) -> int:
        """Return the first cell of a combination of label values.

        Args:
            family: of `FAMILIES`.
            labels: the number of each label's value, in the family's order.
        """
        index = 0
        for label, value in zip(family.labels, labels, strict=True):
            size = self._sizes[label]
            if not 0 <= value < size:
                raise IndexError(f"{family.name}.{label}: expected 0 .. {size - 1}, found {value}")
            index = index * size + value
        return self._starts[family.name] + index * family.cells
