"""Lengths from a file: one a line, or a column of a table with a header.

Rules of this file: nothing is guessed; a line that is no length is an error that names the line.
"""

import csv
import re
from pathlib import Path
from typing import Final

from .errors import LengthsError

_MAX_BYTES: Final = 2**26
_SHOWN: Final = 40


def read_lengths(text: str, place: str, max_steps: int) -> tuple[int, ...]:
    """Read lengths.

    Args:
        text: the whole description, for messages.
        place: PATH (one length a line; a first line without a number is a header), or PATH:COLUMN (comma-separated
            with a header that names the column).
        max_steps: longest length taken.

    Returns:
        At least one length, in the order of the file.

    Raises:
        LengthsError: no such file or column, too large, or a value outside 1 .. max_steps.
    """
    path, column = _split(place)
    cells = _cells(text, path, column)
    found = []
    for number, cell in cells:
        if not re.fullmatch(r"[0-9]{1,9}", cell) or not 1 <= int(cell) <= max_steps:
            raise LengthsError(text, f"a length in 1 .. {max_steps} in line {number}", repr(cell[:_SHOWN]))
        found.append(int(cell))
    if not found:
        raise LengthsError(text, "at least one length in the file", "none")
    return tuple(found)


def _split(place: str) -> tuple[Path, str | None]:
    """A file of exactly this name comes first, so that a colon in a name is no trap."""
    path, colon, column = place.rpartition(":")
    if not colon or not path or Path(place).is_file():
        return Path(place), None
    return Path(path), column


def _cells(text: str, path: Path, column: str | None) -> list[tuple[int, str]]:
    lines = _lines(text, path)
    if column is None:
        cells = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
        return cells[1:] if cells and not any(c.isdigit() for c in cells[0][1]) else cells
    try:
        table = csv.reader(lines)
        header = [name.strip() for name in next(table, [])]
        rows = [(table.line_num, row) for row in table if row]
    except csv.Error as err:
        raise LengthsError(text, "comma-separated values in the file", str(err)) from err
    if column not in header:
        raise LengthsError(text, f"a column {column!r} in the first line", ", ".join(header)[:_SHOWN] or "no columns")
    place = header.index(column)
    return [(number, row[place].strip() if place < len(row) else "") for number, row in rows]


def _lines(text: str, path: Path) -> list[str]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise LengthsError(text, f"a file of at most {_MAX_BYTES} bytes", f"{path.stat().st_size}")
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as err:
        raise LengthsError(text, f"to read {path}", (err.strerror or type(err).__name__).lower()) from err
    except UnicodeDecodeError as err:
        raise LengthsError(text, "UTF-8 text in the file", "other bytes") from err
