"""Whether a runtime gives a row the same bits alone and among others, and in one pass and in two chunks.

The export asks the same of the CPU with many more comparisons (`export/proof/laws.py`); here the golden cases' own rows
are enough to tell whether another device keeps it at all. The answer is a fact to publish, not a condition.

Rules of this file: no zero dimension is ever sent; a difference is data, not an exception.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ...bundle.axes import over_time
from ...bundle.golden import GoldenCase
from ...bundle.manifest import GraphSignature
from ...bundle.reader import Bundle
from ..arrays import Array, Arrays
from .runtime import Runtime

_Pair = tuple[bool, float]
_MAX_ROWS = 64  # of one case: a row costs up to three runs, and 64 are as convincing as 720


@dataclass(frozen=True, kw_only=True, slots=True)
class BitsResult:
    """What was found.

    Attributes:
        rows: rows run alone and compared with themselves in their batch.
        rows_bitwise: no bit differed; None where nothing could be compared.
        chunks: rows run in two chunks and compared with one pass.
        chunks_bitwise: likewise; None also for a network that is not streamable.
        largest: the largest absolute difference of all; infinite where one side is not finite.
    """

    rows: int
    rows_bitwise: bool | None
    chunks: int
    chunks_bitwise: bool | None
    largest: float


def check_bits(runtime: Runtime, bundle: Bundle) -> BitsResult:
    """Run every row of the golden cases alone, and in two chunks where the bundle is streamable.

    Raises:
        EngineError: the runtime refused a run; `check_golden` tells of that, so ask it first.
    """
    signature = bundle.manifest.graph
    rows: list[_Pair] = []
    chunks: list[_Pair] = []
    for case in bundle.golden:
        batch: Arrays | None = None
        for row, alone in _rows(case, signature):
            whole = runtime.run(alone)
            if _count(case, signature) > 1:
                batch = runtime.run(case.inputs) if batch is None else batch
                rows.append(_difference(whole, _row_of(batch, row, signature, _steps(alone, signature))))
            if bundle.manifest.streamable and _steps(alone, signature) > 1:
                chunks.append(_difference(whole, _in_two(runtime, alone, signature)))
    return BitsResult(
        rows=len(rows),
        rows_bitwise=all(same for same, _ in rows) if rows else None,
        chunks=len(chunks),
        chunks_bitwise=all(same for same, _ in chunks) if chunks else None,
        largest=max((difference for _, difference in (*rows, *chunks)), default=0.0),
    )


def _rows(case: GoldenCase, signature: GraphSignature) -> Iterator[tuple[int, dict[str, Array]]]:
    """Yield each row alone, without its padding."""
    lengths = None if signature.lengths is None else case.inputs[signature.lengths]
    steps = int(case.inputs[signature.sequence].shape[1])
    for row in range(min(_count(case, signature), _MAX_ROWS)):
        length = steps if lengths is None else int(lengths[row])
        yield row, _row_of(case.inputs, row, signature, length)


def _row_of(arrays: Mapping[str, Array], row: int, signature: GraphSignature, steps: int) -> dict[str, Array]:
    found = {}
    for spec in (*signature.inputs, *signature.outputs):
        if spec.name in arrays:
            alone = arrays[spec.name].take([row], axis=spec.shape.index("B"))
            axis = over_time(spec.shape)
            found[spec.name] = np.ascontiguousarray(alone if axis is None else alone[:, : axis.size(steps)])
    return found


def _in_two(runtime: Runtime, inputs: Mapping[str, Array], signature: GraphSignature) -> dict[str, Array]:
    """Run a row in two chunks with carried state; y over time is joined, y of the last step is the second chunk's."""
    steps = _steps(inputs, signature)
    first = runtime.run(_part(inputs, slice(0, steps // 2), signature))
    carried = {pair.input: first[pair.output] for pair in signature.state}
    second = runtime.run({**_part(inputs, slice(steps // 2, steps), signature), **carried})
    names = [spec.name for spec in signature.outputs if over_time(spec.shape)]
    return {**second, **{name: np.concatenate([first[name], second[name]], axis=1) for name in names}}


def _part(inputs: Mapping[str, Array], steps: slice, signature: GraphSignature) -> dict[str, Array]:
    found = dict(inputs)
    found[signature.sequence] = np.ascontiguousarray(inputs[signature.sequence][:, steps])
    if signature.lengths is not None:
        found[signature.lengths] = np.full_like(inputs[signature.lengths], steps.stop - steps.start)
    return found


def _difference(one: Arrays, other: Arrays) -> _Pair:
    """Compare every output: whether the bits are the same, and how far apart the values are."""
    same, largest = True, 0.0
    for name, array in one.items():
        if array.shape == other[name].shape and array.tobytes() == other[name].tobytes():
            continue
        same = False
        with np.errstate(invalid="ignore"):
            difference = np.abs(array.astype(np.float64) - other[name].astype(np.float64))
        largest = max(largest, float(np.where(np.isfinite(difference), difference, np.inf).max()))
    return same, largest


def _count(case: GoldenCase, signature: GraphSignature) -> int:
    return int(case.inputs[signature.sequence].shape[0])


def _steps(inputs: Mapping[str, Array], signature: GraphSignature) -> int:
    return int(inputs[signature.sequence].shape[1])
