"""Whether the values of named tensors fit a graph signature, and the feeds that the runtime gets from them.

Rules of this file: pure, and apart from every protocol, as `input_check`, whose pass over the heads comes first: a
shape, an axis, a size is right by now. Wherever a value is refused, the first bad one is told, with its place.
"""

from dataclasses import dataclass, replace

import numpy as np

from ...bundle.columns import ColumnSpec, expected_of, nearest_allowed
from ...bundle.manifest import GraphSignature
from ..arrays import Array, Arrays
from ..errors import BadInput
from .input_check import LENGTHS, NO_SHORTER, BatchSize, sized


@dataclass(frozen=True, kw_only=True, slots=True)
class ValueRule:
    """What the values of one input must be, and the dtype that the engine wants them in.

    Attributes:
        name: of the input, for messages.
        dtype: of the graph's input.
        low: least value of an integer; None: real numbers, which must be finite.
        high: greatest value of an integer.
        remedy: end of the message.
        columns: what the columns of the sequence take; empty where they take any number.
        row_axis: of the rows, for messages.
        first_row: number of the first row, for messages.
    """

    name: str
    dtype: str
    low: int | None = None
    high: int = 0
    remedy: str = ""
    columns: tuple[ColumnSpec, ...] = ()
    row_axis: int = 0
    first_row: int = 0

    def apply(self, array: Array) -> Array:
        """Return the array in the dtype and C-contiguous; the same one where it is that already.

        Raises:
            BadInput: a value is not finite or outside the range; gives the first one and its place.
        """
        if self.low is None:
            if not is_finite(array):
                found = self._place(array, ~np.isfinite(array))
                raise BadInput(f"inputs.{self.name}", "finite values", found, self.remedy)
            if self.columns:
                self._check_columns(array)
        elif array.min() < self.low or array.max() > self.high:
            found = self._place(array, (array < self.low) | (array > self.high))
            raise BadInput(f"inputs.{self.name}", f"values in {self.low} .. {self.high}", found, self.remedy)
        return np.ascontiguousarray(array, dtype=self.dtype)

    def _check_columns(self, array: Array) -> None:
        bad = array != nearest_allowed(self.columns, array)
        if bad.any():
            column = int(np.unravel_index(int(bad.argmax()), bad.shape)[-1])
            expected = expected_of(self.columns, column)
            raise BadInput(f"inputs.{self.name}", expected, self._place(array, bad), self.remedy)

    def _place(self, array: Array, bad: Array) -> str:
        """Say the first bad value and where it is."""
        place = [int(axis) for axis in np.unravel_index(int(bad.argmax()), bad.shape)]
        value = array[tuple(place)]
        place[self.row_axis] += self.first_row
        return f"{value} at {place}"


def value_rule(signature: GraphSignature, name: str, size: BatchSize) -> ValueRule:
    """Return what the values of one input must be.

    Args:
        signature: of the graph.
        name: one that `check_heads` let pass.
        size: what `check_heads` returned.
    """
    if name == (signature.lengths or LENGTHS):
        least = signature.least_steps if signature.lengths else size.steps
        remedy = "" if signature.lengths else "this network takes no lengths: send rows of equal length together"
        remedy = NO_SHORTER if signature.lengths and least > 1 else remedy
        return ValueRule(name=name, dtype="int32", low=least, high=size.steps, remedy=remedy)
    spec = next(spec for spec in signature.inputs if spec.name == name)
    if spec.dtype not in ("int32", "int64"):
        columns = signature.columns if name == signature.sequence else ()
        return ValueRule(name=name, dtype=spec.dtype, remedy="fill padding with 0", columns=columns)
    info = np.iinfo(spec.dtype)
    low, high = int(info.min), int(info.max)
    if name == signature.sequence and signature.vocabulary_size is not None:
        low, high = 0, signature.vocabulary_size - 1
    return ValueRule(name=name, dtype=spec.dtype, low=low, high=high)


def complete_feeds(
    signature: GraphSignature, arrays: Arrays, size: BatchSize, *, first_row: int = 0
) -> dict[str, Array]:
    """Check the values and return the runtime's feeds: every input, in its dtype, C-contiguous.

    Args:
        signature: of the graph.
        arrays: of the shapes that `check_heads` saw.
        size: what `check_heads` returned.
        first_row: number of the first row where these are some of many, for messages.

    Returns:
        Feeds; absent lengths are all T, absent states zero.

    Raises:
        BadInput: a value is not finite, a length below the least or above T, a token outside the vocabulary; gives its
            place.
    """
    axes = {spec.name: spec.shape.index("B") for spec in signature.inputs}
    checked = {
        name: replace(value_rule(signature, name, size), row_axis=axes.get(name, 0), first_row=first_row).apply(array)
        for name, array in arrays.items()
    }
    feeds: dict[str, Array] = {}
    for spec in signature.inputs:
        if spec.name in checked:
            feeds[spec.name] = checked[spec.name]
        else:
            fill = size.steps if spec.name == signature.lengths else 0
            feeds[spec.name] = np.full(sized(spec, size), fill, dtype=spec.dtype)
    return feeds


def is_finite(array: Array) -> bool:
    """Whether no value is NaN or infinite. A third of the time of `isfinite(...).all()` on small arrays."""
    return 0 not in np.isfinite(array).tobytes()
