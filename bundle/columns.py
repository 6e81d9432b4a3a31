"""What the columns of a sequence hold where they are several inputs of the network, and which values those take.

The graph itself brings every value to the nearest that is allowed (export/foreign/columns.py); a server refuses what
is not allowed before it gets there, and says where it stands.

Rules of this file: pure NumPy; a value that is allowed is left as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
COLUMN_NAME: Final = r"[^\W\d]\w{0,127}"  # of an argument in Python
Values = Literal["any", "not negative", "whole", "mark"]
VALUES: Final[tuple[Values, ...]] = ("any", "not negative", "whole", "mark")


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnSpec:
    """Some columns of the sequence x [B, T, I], side by side, that are one input of the network.

    Attributes:
        name: of the input.
        width: how many columns.
        values: "any", "not negative", "whole" numbers, or a "mark" of 0 or 1.
        counts: of whole numbers, how many there are from 0 on: one for all columns, or one for each; else empty.
    """

    name: str
    width: int
    values: Values = "any"
    counts: tuple[int, ...] = ()

    def expected(self, column: int) -> str:
        """Say which values one of the columns takes, counted from 0."""
        if self.values != "whole":
            return {"any": "any number", "not negative": "numbers of 0 or more", "mark": "0 or 1"}[self.values]
        count = self.counts[column if len(self.counts) > 1 else 0]
        return f"whole numbers in 0 .. {count - 1}"

    def nearest(self, part: Array) -> Array:
        """Return the nearest allowed values to those of [..., width]."""
        if self.values == "whole":
            highest = np.asarray(self.counts, dtype=np.float64) - 1
            return (np.clip(np.round(part), 0, highest) + 0.0).astype(part.dtype)  # no -0.0
        if self.values == "mark":
            return (part > 0.5).astype(part.dtype)  # noqa: PLR2004 - halfway
        return np.abs(part) if self.values == "not negative" else part


def nearest_allowed(columns: Sequence[ColumnSpec], x: Array) -> Array:
    """Return x [..., I] with each value the nearest that its column takes; x itself where there are no columns."""
    if not columns:
        return x
    ends = np.cumsum([column.width for column in columns])
    parts = [column.nearest(x[..., end - column.width : end]) for column, end in zip(columns, ends, strict=True)]
    return np.concatenate(parts, axis=-1)


def expected_of(columns: Sequence[ColumnSpec], index: int) -> str:
    """Say which values column ``index`` of x takes, and of which input it is."""
    for column in columns:
        if index < column.width:
            return f"{column.expected(index)} in the columns of {column.name}"
        index -= column.width
    raise IndexError(index)
