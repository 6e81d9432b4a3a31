"""What a network can reach on this machine without HTTP, and how near to it the engine comes.

Rules of this file: every way works through the same sequences, all take turns in one process, and medians over the
turns are compared, so that noise hits all alike. The floor is the least time per row and step over the batch sizes,
with nothing packed, times the sum of the lengths: nothing that runs this graph in this precision is faster.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...bundle.columns import nearest_allowed
from ...bundle.manifest import GraphSignature
from ..arrays import Array
from ..runtime.runtime import Runtime
from .limit_ways import BatchWay, Clock, FloorWay, LanesWay, Turn, Way
from .work import Work

BATCHES: Final = (4, 8, 16, 32)
FLOOR_ROWS: Final = (1, 2, 4, 8, 16, 32, 64)
_TRIES: Final = 8
_PASSES: Final = 14.0  # a turn of everything takes about as long as so many passes one at a time
_LEAST: Final = 128
_MOST: Final = 4096

Progress = Callable[[str, int, int], None]
Key = tuple[str, int | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitRow:
    """One way's result.

    Attributes:
        way: "alone", "padded", "sorted", "lanes" or "floor".
        batch: rows of a batch; None where there is no such number.
        floor_share: the floor's time over this way's, 1.0 is the floor.
        sequences_per_s: median over the turns.
        step_s: seconds a row and real step.
        padding_share: of the computed steps, those that were padding.
    """

    way: str
    batch: int | None
    floor_share: float
    sequences_per_s: float
    step_s: float
    padding_share: float


def make_sequences(signature: GraphSignature, lengths: NDArray[np.int64], seed: int) -> list[Array]:
    """Return a sequence for each length, [1, T, I] standard normal or [1, T] tokens, in the dtype of the graph."""
    spec = next(spec for spec in signature.inputs if spec.name == signature.sequence)
    inner = tuple(axis for axis in spec.shape[2:] if isinstance(axis, int))
    random = np.random.default_rng([seed, 1])
    if signature.vocabulary_size is not None:
        return [random.integers(0, signature.vocabulary_size, (1, int(T)), dtype=spec.dtype) for T in lengths]
    drawn = (random.standard_normal((1, int(T), *inner), dtype=np.float32) for T in lengths)
    return [nearest_allowed(signature.columns, x).astype(spec.dtype) for x in drawn]


def make_works(model: str, signature: GraphSignature, sequences: Sequence[Array]) -> list[Work]:
    """Return each sequence as work for the engine that asks for everything but the states."""
    states = {pair.output for pair in signature.state}
    outputs = tuple(spec.name for spec in signature.outputs if spec.name not in states)
    return [
        Work(
            model=model,
            sequence=sequence,
            lengths=np.array([sequence.shape[1]], dtype=np.int32),
            states=(None,) * len(signature.state),
            outputs=outputs,
        )
        for sequence in sequences
    ]


def choose_count(
    runtime: Runtime, lengths: NDArray[np.int64], budget_s: float, turns: int, clock: Clock = time.perf_counter
) -> int:
    """Return how many sequences fit into a time, 128 .. 4,096, and a multiple of 32, so that batches are full.

    Args:
        runtime: open.
        lengths: int64 [N], a few of which are tried.
        budget_s: seconds for all turns of all ways.
        turns: of each way.
        clock: in seconds.
    """
    tries = make_sequences(runtime.signature, np.sort(lengths)[:: -(-len(lengths) // _TRIES)], 0)
    way = BatchWay(runtime, [[row] for row in tries], clock)
    way.turn()
    turn = way.turn()
    alone_s = turn.seconds / turn.useful * float(lengths.mean())
    count = int(min(_MOST, max(_LEAST, budget_s / turns / _PASSES / max(alone_s, 1e-9))))
    return count - count % 32


def measure_limit(
    runtime: Runtime,
    sequences: Sequence[Array],
    lanes: LanesWay,
    *,
    turns: int = 5,
    progress: Progress = lambda _what, _done, _total: None,
    clock: Clock = time.perf_counter,
) -> tuple[LimitRow, ...]:
    """Measure every way.

    Args:
        runtime: open.
        sequences: [1, T, I] or [1, T] each.
        lanes: over the same sequences.
        turns: of each way, 1 or more; an odd number has a middle.
        progress: called as (what, done, total).
        clock: in seconds.

    Returns:
        Rows in the order alone, padded, sorted (its best batch size), lanes, floor. A graph that takes no lengths
        cannot pad: its batches are left out, unless all sequences are equally long.

    Raises:
        ServeError: a run failed.
    """
    ways = _make_ways(runtime, sequences, clock)
    ways["lanes", None] = lanes
    found: dict[Key, list[Turn]] = {key: [] for key in ways}
    order = list(ways)
    for turn in range(turns):
        progress("turns of every way", turn, turns)
        for key in order if turn % 2 == 0 else reversed(order):
            found[key].append(ways[key].turn())
    progress("turns of every way", turns, turns)
    return _rows(found, len(sequences), sum(row.shape[1] for row in sequences))


def _make_ways(runtime: Runtime, sequences: Sequence[Array], clock: Clock) -> dict[Key, Way]:
    ways: dict[Key, Way] = {("alone", None): BatchWay(runtime, [[row] for row in sequences], clock)}
    lengths = [row.shape[1] for row in sequences]
    if runtime.signature.lengths is not None or len(set(lengths)) == 1:
        ordered = sorted(sequences, key=lambda row: row.shape[1])
        ways |= {("padded", batch): BatchWay(runtime, _groups(sequences, batch), clock) for batch in BATCHES}
        ways |= {("sorted", batch): BatchWay(runtime, _groups(ordered, batch), clock) for batch in BATCHES}
    mean = round(statistics.fmean(lengths))
    row = make_sequences(runtime.signature, np.array([mean]), 0)[0]
    ways |= {("floor", rows): FloorWay(runtime, row, rows, clock) for rows in FLOOR_ROWS}
    return ways


def _groups(sequences: Sequence[Array], batch: int) -> list[Sequence[Array]]:
    return [sequences[begin : begin + batch] for begin in range(0, len(sequences), batch)]


def _rows(found: dict[Key, list[Turn]], count: int, steps: int) -> tuple[LimitRow, ...]:
    """Return one row for each way, of "sorted" and "floor" the quickest only."""
    medians = {key: statistics.median(turn.seconds / turn.useful for turn in turns) for key, turns in found.items()}
    kept: list[Key] = [key for key in medians if key[0] not in ("sorted", "floor", "lanes")]
    for way in ("sorted", "lanes", "floor"):
        kept += sorted((key for key in medians if key[0] == way), key=medians.__getitem__)[:1]
    floor_s = medians[kept[-1]]
    return tuple(
        LimitRow(
            way=key[0],
            batch=key[1],
            floor_share=floor_s / medians[key],
            sequences_per_s=count / (steps * medians[key]),
            step_s=medians[key],
            padding_share=1 - sum(turn.useful for turn in found[key]) / sum(turn.computed for turn in found[key]),
        )
        for key in kept
    )
