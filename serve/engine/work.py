"""What goes into the engine and what comes out, whatever protocol, process or file it came by.

Rules of this file: records only. What is in a `Work` has passed `input_check` and `value_check`: the engine trusts it.
Nobody changes one; it is not frozen because both processes make one a request, and a frozen dataclass takes three times
as long.
"""

from dataclasses import dataclass
from typing import Any, Literal

from ..arrays import Array
from ..errors import ServeError

Answer = dict[str, Array]


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamRef:
    """Which stream a request belongs to, and its place in it.

    Attributes:
        id: 1 .. 2**64 - 1, or text; 7 and "7" are two streams.
        is_start: the stream begins here.
        is_end: it ends here.
        step: number of the request in its stream, from 0 on, 0 .. 2**64 - 1; None: as it comes, applied each time.
    """

    id: int | str
    is_start: bool = False
    is_end: bool = False
    step: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamAnswer:
    """The answer to a request of a stream.

    Attributes:
        outputs: that were asked for.
        step: of the request in its stream, whether it said so or not.
        is_replayed: the request had been applied before; this is the answer of that time.
        version: on which the stream goes on; None: the one that was asked for.
    """

    outputs: Answer
    step: int
    is_replayed: bool = False
    version: str | None = None


OrderKind = Literal["show", "export", "bring", "close"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamOrder:
    """An order about a stream; `streams.order` says what each kind does.

    Attributes:
        kind: what is ordered.
        model: of the stream.
        id: of the stream.
        data: a record as bytes, where one is brought.
        deadline_s: as of `Work`.
    """

    kind: OrderKind
    model: str
    id: int | str
    data: bytes = b""
    deadline_s: float | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes that it holds."""
        return len(self.data)


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamReport:
    """What is told of a stream, to whoever ordered something about it.

    Attributes:
        facts: plain JSON values.
        data: its record as bytes, where that was ordered.
    """

    facts: dict[str, Any]
    data: bytes = b""


Reply = Answer | StreamAnswer
Outcome = Answer | StreamAnswer | ServeError


@dataclass(slots=True)
class RunTimes:
    """When a traced work was in the engine, which fills this in. Moments are of the monotonic clock, in seconds.

    Attributes:
        arrived_s: when the engine took it.
        first_run_s: when the first run with a row of it began; `arrived_s` while there was none.
        last_run_s: when the last one ended.
        runs: with rows of it.
    """

    arrived_s: float = 0.0
    first_run_s: float = 0.0
    last_run_s: float = 0.0
    runs: int = 0


@dataclass(init=False, slots=True)
class Work:
    """One request for the engine: rows of unequal length, their states, and what is wanted of them.

    Attributes:
        model: `ServedModel.key` of a served model, or its name, which means the current version.
        sequence: [B, T, I] in the dtype of the graph, or tokens [B, T] int64; C-contiguous, finite, never written to.
        lengths: [B] int32, each in 1 .. T.
        states: one for each of the signature's, in its order: C-contiguous with "B" of B, or None for zeros.
        outputs: names of the signature's outputs, in the order of the answer, each once.
        priority: higher goes first; 0 is usual. Nothing starves: see `plan`.
        deadline_s: moment on the monotonic clock of this machine after which nobody waits for the answer, or None.
        times: to be filled in by the engine, where somebody traces the work, or None.
        stream: the stream that it belongs to, or None.
    """

    model: str
    sequence: Array
    lengths: Array
    states: tuple[Array | None, ...]
    outputs: tuple[str, ...]
    priority: int
    deadline_s: float | None
    times: RunTimes | None
    stream: StreamRef | None

    # By hand: the one that a dataclass makes while it is imported would never be compiled (`setup.py`).
    def __init__(
        self,
        *,
        model: str,
        sequence: Array,
        lengths: Array,
        states: tuple[Array | None, ...],
        outputs: tuple[str, ...],
        priority: int = 0,
        deadline_s: float | None = None,
        times: RunTimes | None = None,
        stream: StreamRef | None = None,
    ) -> None:
        self.model = model
        self.sequence = sequence
        self.lengths = lengths
        self.states = states
        self.outputs = outputs
        self.priority = priority
        self.deadline_s = deadline_s
        self.times = times
        self.stream = stream

    @property
    def rows(self) -> int:
        """B."""
        return int(self.sequence.shape[0])

    @property
    def steps(self) -> int:
        """T, of the longest row at least."""
        return int(self.sequence.shape[1])

    @property
    def size_bytes(self) -> int:
        """Bytes of its tensors."""
        found = self.sequence.nbytes + self.lengths.nbytes
        for state in self.states:
            if state is not None:
                found += state.nbytes
        return found
