"""What goes into the engine and what comes out, whatever protocol, process or file it came by.

Rules of this file: records only. What is in a `Work` has passed `input_check`: the engine trusts it. Nobody changes
one; it is not frozen because both processes make one a request, and a frozen dataclass takes three times as long.
"""

from dataclasses import dataclass

from ..arrays import Array
from ..errors import ServeError

Answer = dict[str, Array]
Outcome = Answer | ServeError


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


@dataclass(kw_only=True, slots=True)
class Work:
    """One request for the engine: rows of unequal length, their states, and what is wanted of them.

    Attributes:
        model: name of a served model.
        sequence: [B, T, I] in the dtype of the graph, or tokens [B, T] int64; C-contiguous, finite, never written to.
        lengths: [B] int32, each in 1 .. T.
        states: one for each of the signature's, in its order: C-contiguous with "B" of B, or None for zeros.
        outputs: names of the signature's outputs, in the order of the answer, each once.
        priority: higher goes first; 0 is usual. Nothing starves: see `plan`.
        deadline_s: moment on the monotonic clock of this machine after which nobody waits for the answer, or None.
        times: to be filled in by the engine, where somebody traces the work, or None.
    """

    model: str
    sequence: Array
    lengths: Array
    states: tuple[Array | None, ...]
    outputs: tuple[str, ...]
    priority: int = 0
    deadline_s: float | None = None
    times: RunTimes | None = None

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
