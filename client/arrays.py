"""Arrays of a caller and of the wire: NumPy, torch or lists in; padded rows, lengths, and the same kind out.

Rules of this file: pure, and no torch: a tensor is known by what it can do, and torch is looked for only where a tensor
came from it, so that it is loaded already.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .model_facts import ModelFacts

Array = NDArray[Any]

DTYPES: Final = {"FP16": "<f2", "FP32": "<f4", "INT32": "<i4", "INT64": "<i8"}


@dataclass(frozen=True, slots=True)
class Rows:
    """Sequences as they are sent.

    Attributes:
        values: [B, T, I] or tokens [B, T], zero in the padding.
        lengths: int32 [B], each row's real steps, or None where all are T.
    """

    values: Array
    lengths: Array | None


def to_rows(sequence: Any, lengths: Any, facts: ModelFacts) -> Rows:
    """Return what a caller gave as rows.

    Args:
        sequence: [B, T, I] or tokens [B, T], NumPy or torch; or a list of rows of unequal length, [T, I] or [T] each.
        lengths: [B] real steps of each row; None for all T. Not beside a list, whose rows have their own.
        facts: of the model.

    Raises:
        InputError: the values are no such thing; names expected and found.
    """
    axes = 3 if facts.vocabulary_size is None else 2
    if isinstance(sequence, list | tuple):
        if lengths is not None:
            raise InputError("lengths", "none beside a list of rows, which have their own", "both")
        return _pad(sequence, axes, facts)
    values = _as_values(facts.sequence, sequence, facts)
    if values.ndim != axes:
        raise InputError(facts.sequence, _wanted(axes), f"shape {list(values.shape)}", "add the axis of rows: x[None]")
    if lengths is None:
        return Rows(values, None)
    return Rows(values, _as_lengths(to_array("lengths", lengths)))


def to_array(name: str, given: Any) -> Array:
    """Return a NumPy array, a torch tensor or nested numbers as a NumPy array.

    Raises:
        InputError: no array of numbers.
    """
    if hasattr(given, "detach") and hasattr(given, "cpu"):  # a torch tensor, wherever it lies
        given = given.detach().cpu()
    try:
        array = given.numpy() if hasattr(given, "numpy") else np.asarray(given)
    except (ValueError, TypeError) as err:  # TypeError: a tensor that NumPy has no kind for, bfloat16 or a sparse one
        raise InputError(name, "an array of numbers", str(err)) from err
    if array.dtype.kind not in "fiu":
        raise InputError(name, "an array of numbers", f"the dtype {array.dtype}")
    return array


def like(example: Any, array: Array) -> Any:
    """Return the array as the kind of thing that the example is: a tensor on its device, or NumPy."""
    if isinstance(example, list | tuple) and example:
        example = example[0]
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(example, torch.Tensor):
        return array
    return torch.from_numpy(array.copy()).to(example.device)


def _pad(rows: Sequence[Any], axes: int, facts: ModelFacts) -> Rows:
    """Lay rows of unequal length side by side.

    >>> facts = ModelFacts(name="m", sequence="x", features=1, vocabulary_size=None, lengths="lengths", answer="y",
    ...                    states=(), streamable=True, extensions=frozenset())
    >>> found = _pad([np.ones((2, 1)), np.ones((1, 1))], 3, facts)
    >>> found.values[:, :, 0].tolist(), found.lengths.tolist()
    ([[1.0, 1.0], [1.0, 0.0]], [2, 1])
    """
    if not rows:
        raise InputError(facts.sequence, "at least one row", "an empty list")
    found = [_as_values(f"{facts.sequence}[{place}]", row, facts) for place, row in enumerate(rows)]
    for place, row in enumerate(found):
        if row.ndim != axes - 1 or row.shape[1:] != found[0].shape[1:] or not len(row):
            expected = f"{_wanted(axes - 1)} of one width, at least one step"
            raise InputError(f"{facts.sequence}[{place}]", expected, f"shape {list(row.shape)}")
    lengths = np.array([len(row) for row in found], dtype="<i4")
    if facts.lengths is None and len(set(lengths.tolist())) > 1:
        raise InputError("lengths", "rows of equal length, for this network takes no lengths", str(lengths.tolist()))
    values = np.zeros((len(found), int(lengths.max()), *found[0].shape[1:]), dtype=found[0].dtype)
    for place, row in enumerate(found):
        values[place, : len(row)] = row
    return Rows(values, lengths if facts.lengths is not None else None)


def _as_values(name: str, given: Any, facts: ModelFacts) -> Array:
    """Return real numbers as float32 and tokens as int64; a double is rounded, for the network takes float32."""
    array = to_array(name, given)
    if facts.vocabulary_size is None:
        return np.ascontiguousarray(array, dtype="<f4")
    if array.dtype.kind == "f":
        raise InputError(name, "tokens, which are integers", f"the dtype {array.dtype}")
    return np.ascontiguousarray(array, dtype="<i8")


def _as_lengths(array: Array) -> Array:
    """Return lengths as int32, none of them changed by it."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError("lengths", "whole numbers", "NaN or infinity")
    found = np.ascontiguousarray(array, dtype="<i8").astype("<i4")
    if not np.array_equal(found, array):
        raise InputError("lengths", "whole numbers of 32 bits", str(array.tolist()))
    return found


def _wanted(axes: int) -> str:
    return {3: "[B, T, I]", 2: "[B, T] or [T, I]", 1: "[T]"}[axes]
