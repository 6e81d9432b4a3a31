"""Arguments of a forward that are cut out of one sequence: which columns of x, and in what shape and dtype.

A bundle has one sequence x [B, T, I]. What a module takes beside its sequence (time differences, masks of missing
values, tokens, what is constant over a sequence) are columns of it.

Rules of this file: pure shapes and words; which form an argument has, where it is not told, is found out on runs
(column_search.py).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from ...bundle.columns import COLUMN_NAME, ColumnSpec
from ..errors import SignatureError

_FORM: Final = "NAME=WIDTH[:AXES][:DTYPE][:COUNT or abs]"
_AXES: Final = ("BTI", "BT", "BI", "B")  # without I where an argument has no axis for its single column
_DTYPES: Final = {"float32": torch.float32, "int64": torch.int64, "bool": torch.bool}
_COLUMN: Final = re.compile(
    rf"(?P<name>{COLUMN_NAME})=(?P<width>[1-9]\d{{0,5}})(?::(?P<axes>{'|'.join(_AXES)}))?"
    rf"(?::(?P<dtype>{'|'.join(_DTYPES)}))?(?::(?:(?P<counts>[1-9]\d{{0,7}}(?:/[1-9]\d{{0,7}})*)|(?P<magnitude>abs)))?"
)
NARROWER: Final = (
    "where an argument is never negative, or 0 or 1 alone, say so, as --columns x=3:abs or x=3,mask=3:2 "
    "(docs/modules.md, several inputs)"
)
"""What helps where a module is not at home with any number."""
ANY_NUMBER: Final = 2**24
"""Of whole numbers that nothing limits: below it float32 tells each from the next."""


@dataclass(frozen=True, slots=True)
class Column:
    """What one argument is given.

    Attributes:
        name: of the argument.
        width: how many columns of x it is.
        axes: "BTI" [B, T, width], "BI" [B, width] of the first step, "BT" and "B" without an axis for a single column;
            None: not known yet.
        dtype: float32, int64 (x rounded) or bool (x above 0.5); None: not known yet.
        counts: how many whole numbers there are, from 0 on, to the nearest of which any other is brought: one for all
            columns, or one for each; None: of int64 not known, of float32 any number.
        magnitude: whether of float32 the sign is left out, for what is never negative.
    """

    name: str
    width: int
    axes: str | None = None
    dtype: torch.dtype | None = None
    counts: tuple[int, ...] | None = None
    magnitude: bool = False

    @property
    def words(self) -> str:
        """What it is given, for people."""
        shape = ", ".join(str(self.width) if axis == "I" else axis for axis in self.axes or "BTI")
        said = [str(self.width), *([f"[{shape}]"] if self.axes not in {None, "BTI"} else [])]
        said += ["of the first step"] if self.axes is not None and "T" not in self.axes else []
        if self.dtype == torch.bool:
            said.append("0 or 1")
        if self.magnitude:
            said.append("never negative")
        if self.dtype == torch.int64 or self.counts is not None:
            limits = [f"0 to {n - 1}" if n < ANY_NUMBER else "any" for n in self.counts or (ANY_NUMBER,)]
            said.append("whole numbers" + f" {', '.join(limits)}" * (limits != ["any"]))
        return f"{self.name} ({', '.join(said)})"

    @property
    def spec(self) -> ColumnSpec:
        """What a server is told of it; its form is known, and how many whole numbers there are."""
        if self.dtype == torch.bool:
            return ColumnSpec(name=self.name, width=self.width, values="mark")
        if self.dtype == torch.int64 or self.counts is not None:
            return ColumnSpec(name=self.name, width=self.width, values="whole", counts=self._known_counts)
        return ColumnSpec(name=self.name, width=self.width, values="not negative" if self.magnitude else "any")

    def forms(self) -> Iterator["Column"]:
        """Yield every form that it may have, as far as none is told, the most usual first."""
        dtypes = [*_DTYPES.values()] if self.dtype is None else [self.dtype]
        if self.dtype is None and self.magnitude:
            dtypes = [torch.float32]
        for dtype in dtypes[:2] if self.counts is not None else dtypes:
            for axes in _AXES if self.axes is None else (self.axes,):
                if "I" in axes or self.width == 1:
                    yield replace(self, axes=axes, dtype=dtype)

    def cut(self, x: Tensor, start: int, time_axis: int) -> Tensor:
        """Return the argument.

        Args:
            x: float32 [B, T, I], or [T, B, I] as ``time_axis`` says; a single step [B, I] only where no first is read.
            start: the first of its columns.
            time_axis: of the steps.
        """
        axes = self.axes or "BTI"
        part = x[..., start : start + self.width] if "I" in axes else x[..., start]
        if "T" not in axes:
            part = part.select(time_axis, 0)
        if self.dtype == torch.bool:
            return part > 0.5  # noqa: PLR2004 - halfway
        part = part.abs() if self.magnitude else part
        if self.dtype == torch.int64 or self.counts is not None:
            part = part.round()
            parts = [part if few is None else part[..., few : few + 1] for few in self._counted_apart]
            parts = [one.clamp(0, n - 1) for one, n in zip(parts, self._known_counts, strict=True)]
            part = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
        return part.long() if self.dtype == torch.int64 else part

    @property
    def _known_counts(self) -> tuple[int, ...]:
        assert self.counts is not None, f"how many whole numbers {self.name} has is not known"
        return self.counts

    @property
    def _counted_apart(self) -> list[int | None]:
        """Which columns have a count of their own; [None] where all have the same."""
        return [None] if self.counts is None or len(self.counts) == 1 else [*range(self.width)]

    def text(self, start: int, time_axis: int) -> str:
        """Return ``cut`` as TorchScript writes it, of a tensor called x."""
        axes = self.axes or "BTI"
        part = f"x[..., {start}:{start + self.width}]" if "I" in axes else f"x[..., {start}]"
        if "T" not in axes:
            part += f".select({time_axis}, 0)"
        if self.dtype == torch.bool:
            return f"({part} > 0.5)"
        part += ".abs()" * self.magnitude
        if self.dtype == torch.int64 or self.counts is not None:
            part += ".round()"
            parts = [part if few is None else f"{part}[..., {few}:{few + 1}]" for few in self._counted_apart]
            parts = [f"{one}.clamp(0, {n - 1})" for one, n in zip(parts, self._known_counts, strict=True)]
            part = parts[0] if len(parts) == 1 else f"torch.cat([{', '.join(parts)}], -1)"
        return part + ".long()" * (self.dtype == torch.int64)


def read_columns(text: str) -> tuple[Column, ...]:
    """Read what --columns says.

    Raises:
        SignatureError: it is of another form, or names an argument twice.
    """
    columns: list[Column] = []
    for part in text.split(","):
        found = _COLUMN.fullmatch(part.strip())
        if found is None or not _goes_together(found):
            raise SignatureError(
                f"--columns: expected {_FORM} for each argument, joined by commas, AXES one of {', '.join(_AXES)} and "
                f"DTYPE one of {', '.join(_DTYPES)}, as x=3,delta=1:BT:abs,kind=1:BT:int64:10, found {part.strip()!r}"
            )
        name, width, axes, dtype, counted, magnitude = found.groups()
        counts = None if counted is None else tuple(map(int, counted.split("/")))
        if axes is not None and "I" not in axes and width != "1":
            raise SignatureError(
                f"--columns: expected one column where an argument has no axis for them, found {part.strip()!r}; write "
                f"{name}={width}:{axes}I"
            )
        if counts is not None and len(counts) not in {1, int(width)}:
            raise SignatureError(
                f"--columns: expected one count for all columns of an argument or one for each, found {part.strip()!r}"
            )
        if any(column.name == name for column in columns):
            raise SignatureError(f"--columns: expected each argument once, found {name} twice; leave one out")
        columns.append(Column(name, int(width), axes, _DTYPES.get(dtype), counts, magnitude is not None))
    return tuple(columns)


def _goes_together(told: re.Match[str]) -> bool:
    """Whether dtype and what is told of its numbers go together: none of bool, of int64 no sign to leave out."""
    if told["dtype"] == "bool":
        return told["counts"] is None and told["magnitude"] is None
    return told["dtype"] != "int64" or told["magnitude"] is None


def said(columns: Sequence[Column]) -> str:
    """Return what x holds, for people: its columns in order."""
    return ", ".join(column.words for column in columns)
