"""Ways to work through the same sequences without HTTP: one at a time, in padded batches, in lanes, and the floor.

Rules of this file: each way times its own turn and counts its steps; which turns are made and compared is `limit`'s.
"""

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from ..arrays import Array
from ..errors import ServeError
from ..runtime.runtime import Runtime
from .counting_runtime import CountingRuntime
from .work import Outcome, Work

OUTSTANDING: Final = 32
_FLOOR_S: Final = 0.02  # of each batch size in a turn

Clock = Callable[[], float]


class Lanes(Protocol):
    """What this file needs of the engine."""

    def submit(self, ticket: Hashable, work: Work) -> None:
        """Take work."""
        ...

    def run_once(self) -> list[tuple[Hashable, Outcome]]:
        """Run once and return what ended."""
        ...

    def wait_s(self) -> float | None:
        """Return how long nothing is due."""
        ...


@dataclass(slots=True)
class Turn:
    """What one turn of a way took: seconds, steps of real rows, and steps computed, padding included."""

    seconds: float
    useful: int
    computed: int


class Way(Protocol):
    """A way to work through the sequences."""

    def turn(self) -> Turn:
        """Do it once."""
        ...


@dataclass
class BatchWay:
    """Runs groups of sequences, each padded to its longest; a group of one is run as it is.

    Attributes:
        runtime: open.
        groups: the sequences, [1, T, I] or [1, T] each.
        clock: in seconds.
    """

    runtime: Runtime
    groups: Sequence[Sequence[Array]]
    clock: Clock = time.perf_counter
    _zeros: dict[int, dict[str, Array]] = field(default_factory=dict)

    def turn(self) -> Turn:
        """Run every group once; packing is part of the time."""
        computed = 0
        begun = self.clock()
        for group in self.groups:
            feeds = self.feeds(group)
            computed += int(np.prod(feeds[self.runtime.signature.sequence].shape[:2]))
            self.runtime.run(feeds)
        seconds = self.clock() - begun
        return Turn(seconds, sum(row.shape[1] for group in self.groups for row in group), computed)

    def feeds(self, group: Sequence[Array]) -> dict[str, Array]:
        """Return the inputs of one run."""
        signature, rows = self.runtime.signature, len(group)
        steps = [row.shape[1] for row in group]
        batch = group[0]
        if rows > 1:
            batch = np.zeros((rows, max(steps), *batch.shape[2:]), batch.dtype)
            for place, row in enumerate(group):
                batch[place, : row.shape[1]] = row[0]
        feeds = {signature.sequence: batch, **self._states(rows)}
        if signature.lengths is not None:
            feeds[signature.lengths] = np.array(steps, dtype=np.int32)
        return feeds

    def _states(self, rows: int) -> dict[str, Array]:
        if rows not in self._zeros:
            takers = {pair.input for pair in self.runtime.signature.state}
            self._zeros[rows] = {
                spec.name: np.zeros([axis if isinstance(axis, int) else rows for axis in spec.shape], spec.dtype)
                for spec in self.runtime.signature.inputs
                if spec.name in takers
            }
        return self._zeros[rows]


class FloorWay:
    """Runs one full batch again and again: all rows equally long, nothing packed.

    Args:
        runtime: open.
        row: [1, T, I] or [1, T].
        rows: of the batch.
        clock: in seconds.
    """

    def __init__(self, runtime: Runtime, row: Array, rows: int, clock: Clock = time.perf_counter) -> None:
        self._runtime, self._clock = runtime, clock
        self._feeds = BatchWay(runtime, ()).feeds([row] * rows)
        self._steps = rows * row.shape[1]

    def turn(self) -> Turn:
        """Run for some hundredths of a second."""
        begun, runs = self._clock(), 0
        while True:
            self._runtime.run(self._feeds)
            runs += 1
            seconds = self._clock() - begun
            if seconds >= _FLOOR_S:
                return Turn(seconds, runs * self._steps, runs * self._steps)


class LanesWay:
    """Keeps the engine at a number of outstanding sequences: the next is submitted when one ends.

    What is on its way at the end of a turn goes on in the next, so that lanes neither fill nor drain in measured time;
    a turn ends when as many real steps were run as the sequences have altogether.

    Args:
        engine: of the model, over the counting runtime.
        runtime: that counts.
        works: one for each sequence, gone round.
        clock: in seconds.
    """

    def __init__(
        self, engine: Lanes, runtime: CountingRuntime, works: Sequence[Work], clock: Clock = time.perf_counter
    ) -> None:
        self._engine, self._runtime, self._works, self._clock = engine, runtime, works, clock
        self._steps = sum(work.steps for work in works)
        self._next = 0
        self._ended = 0

    def turn(self) -> Turn:
        """Run as many real steps as there are; the first turn fills the lanes before it is timed."""
        while self._next < OUTSTANDING:
            self._submit()
        while self._ended < OUTSTANDING:
            self._advance()
        useful, computed = self._runtime.useful, self._runtime.computed
        begun = self._clock()
        while self._runtime.useful - useful < self._steps:
            self._advance()
        seconds = self._clock() - begun
        return Turn(seconds, self._runtime.useful - useful, self._runtime.computed - computed)

    def _advance(self) -> None:
        ended = self._engine.run_once()
        for _, outcome in ended:
            if isinstance(outcome, ServeError):
                raise outcome
            self._ended += 1
            self._submit()
        if not ended and (wait_s := self._engine.wait_s()):
            time.sleep(wait_s)  # the engine waits for more, which here never comes by itself

    def _submit(self) -> None:
        self._engine.submit(self._next, self._works[self._next % len(self._works)])
        self._next += 1
