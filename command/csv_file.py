"""One sequence from a .csv file: a row for each step, with or without a header.

Rules of this file: it reads numbers and nothing else; a row that does not fit is named by its line.
"""

import csv
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .errors import UsageError

_MISSING: Final = ("", "na", "n/a", "<na>", "null", "none", "nan", "-")


def read_csv(path: Path, *, integers: bool) -> NDArray[Any]:
    """Return [T, columns], float64, or int64 where ``integers``: a float holds tokens only up to 2**53.

    Raises:
        UsageError: no rows, rows of unequal width, a cell that is missing or no number, or a first row 0,1,2,… that
            may be a header; gives the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, row) for row in reader if not _is_blank(row)]
    except (UnicodeDecodeError, csv.Error) as err:
        raise UsageError(f"{path}: expected a row of numbers for each step, joined by commas, found: {err}") from err
    if lines:
        _refuse_other_joint(path, lines[0][1])
    if lines and _is_header(lines[0][1]):
        del lines[0]
    if not lines:
        raise UsageError(f"{path}: expected a row of numbers for each step, found none")
    _refuse_counted(path, lines[0][1])
    width = len(lines[0][1])
    for number, row in lines:
        if len(row) != width or not all(map(_is_number, row)):
            found = f"{','.join(row)!r:.100}"
            raise UsageError(f"{path}: line {number}: expected {width} numbers joined by commas, found {found}")
    try:
        return np.array([[int(cell) if integers else float(cell) for cell in row] for _, row in lines])
    except (ValueError, OverflowError) as err:
        raise UsageError(f"{path}: expected one token (an integer) for each step, found: {err}") from err


def _refuse_counted(path: Path, first: list[str]) -> None:
    """Refuse what pandas writes above columns without names; above one it is 0, with which tokens may well begin."""
    if len(first) > 1 and [cell.strip() for cell in first] == [str(k) for k in range(len(first))]:
        raise UsageError(
            f"{path}: line 1: expected the numbers of a step, found {','.join(first)!r:.60}, which counts the columns "
            "as pandas' header does; write the file with header=False, or, if it is a step, its 0 as 0.0"
        )


def _refuse_other_joint(path: Path, first: list[str]) -> None:
    """Refuse numbers that are joined otherwise, before they are taken for the header of a single column."""
    for joint, name in ((";", "semicolons"), ("\t", "tabs")):
        parts = first[0].split(joint)
        if len(first) == 1 < len(parts) and any(map(_is_number, parts)):
            found = f"them joined by {name}: {first[0]!r:.60}"
            raise UsageError(f"{path}: line 1: expected numbers joined by commas, found {found}; write it with commas")


def _is_blank(row: list[str]) -> bool:
    """Whether a line is blank; not one of commas or "", which is how a step whose numbers are missing is written."""
    return not row or (len(row) == 1 and row[0].isspace())


def _is_header(first: list[str]) -> bool:
    """Whether a row names columns; one whose cells are all missing is a step, and one of 1_000 was meant as numbers."""
    is_missing = all(cell.strip().lower() in _MISSING for cell in first)
    return not is_missing and not any(_is_number(cell.replace("_", "")) for cell in first)


def _is_number(cell: str) -> bool:
    """Whether other programs read the cell as a number too, unlike Python's 1_000."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell
