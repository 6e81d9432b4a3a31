"""Run sequences of any count and any lengths through a runtime, with the server's own checks.

Rules of this file: rows run together only where the network honours lengths or they are equally long; the order of the
sequences is the order of the answers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..bundle.axes import StepAxis, over_time
from ..bundle.manifest import GraphSignature
from ..serve.errors import BadInput
from ..serve.infer.inference import infer_arrays
from ..serve.infer.input_check import NO_LONGER, NO_SHORTER
from ..serve.infer.request_limits import RequestLimits
from ..serve.runtime.runtime import Runtime
from .sequence_file import Sequences

Array = NDArray[Any]

# The command's own: nobody else waits, so only memory bounds a run. A sequence longer than that runs alone.
_BATCH_ROWS: Final = 256
_BATCH_ROW_STEPS: Final = 2**17
_LIMITS: Final = RequestLimits(
    max_batch_rows=_BATCH_ROWS, max_steps=2**24, max_row_steps=2**28, max_answer_elements=2**30, max_json_elements=0
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """Outputs of all sequences.

    Attributes:
        outputs: by name; y [B, O], or [B, T, O] zero from a row's answer length on; states [rows, B, width]. O may be
            several sizes.
        per_step: whether y is [B, T, O].
        lengths: steps of each sequence.
        answer_lengths: steps of each sequence's y, which are fewer for some networks; the same where y is [B, O].
    """

    outputs: dict[str, Array]
    per_step: bool
    lengths: tuple[int, ...]
    answer_lengths: tuple[int, ...]


def predict(runtime: Runtime, sequences: Sequences, outputs: Sequence[str]) -> Prediction:
    """Run every sequence.

    Args:
        runtime: open.
        sequences: at least one.
        outputs: names; none means all but the states.

    Raises:
        BadInput: a sequence does not fit the signature or holds what it refuses, whose place is given.
        EngineError: the runtime refused, or gave a value that is not finite.
    """
    signature = runtime.signature
    _check_steps(sequences, signature)
    parts = [
        infer_arrays(runtime, _feeds(sequences, places, signature), _LIMITS, outputs, first_row=places[0])
        for places in batches([len(row) for row in sequences.rows], ragged=signature.lengths is not None)
    ]
    axes = {spec.name: spec.shape for spec in signature.outputs}
    steps = max(len(row) for row in sequences.rows)
    joined = {
        name: np.concatenate([_pad(part[name], axes[name], steps) for part in parts], axis=axes[name].index("B"))
        for name in parts[0]
    }
    lengths = tuple(len(row) for row in sequences.rows)
    axis = over_time(signature.outputs[0].shape)
    left = tuple(map((axis or StepAxis()).size, lengths))
    return Prediction(outputs=joined, per_step=axis is not None, lengths=lengths, answer_lengths=left)


def _check_steps(sequences: Sequences, signature: GraphSignature) -> None:
    """Raise BadInput where a row is too short or too long, with its number, which no check of a batch knows."""
    for place, row in enumerate(sequences.rows):
        if len(row) < signature.least_steps:
            found = f"{len(row)} in row {place}"
            raise BadInput(f"inputs.{signature.sequence}", f"at least {signature.least_steps} steps", found, NO_SHORTER)
        if len(row) > signature.at_most(len(row)):
            found = f"{len(row)} in row {place}"
            raise BadInput(f"inputs.{signature.sequence}", f"at most {signature.most_steps} steps", found, NO_LONGER)


def batches(lengths: Sequence[int], *, ragged: bool) -> Iterator[list[int]]:
    """Yield runs of neighbouring rows that go together: few enough, and equally long unless ``ragged``."""
    batch: list[int] = []
    longest = 0
    for place, length in enumerate(lengths):
        full = len(batch) >= _BATCH_ROWS or (len(batch) + 1) * max(longest, length) > _BATCH_ROW_STEPS
        if batch and (full or (not ragged and length != longest)):
            yield batch
            batch, longest = [], 0
        batch.append(place)
        longest = max(longest, length)
    yield batch


def _feeds(sequences: Sequences, places: list[int], signature: GraphSignature) -> Mapping[str, Array]:
    rows = [sequences.rows[place] for place in places]
    lengths = np.array([len(row) for row in rows], dtype=np.int32)
    batch = np.zeros((len(rows), int(lengths.max()), *rows[0].shape[1:]), dtype=rows[0].dtype)
    for place, row in enumerate(rows):
        batch[place, : len(row)] = row
    feeds = {signature.sequence: batch}
    if signature.lengths is not None:
        feeds[signature.lengths] = lengths
    shapes = {spec.name: spec.shape for spec in signature.inputs}
    return feeds | {name: state.take(places, shapes[name].index("B")) for name, state in sequences.states.items()}


def _pad(array: Array, shape: tuple[int | str, ...], steps: int) -> Array:
    axis = over_time(shape)
    if axis is None:
        return array
    widths = [(0, axis.size(steps) - count) if place == 1 else (0, 0) for place, count in enumerate(array.shape)]
    return np.pad(array, widths)
