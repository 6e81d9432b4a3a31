"""Sequences from a Parquet file: a column for each feature, and optionally which sequence and which step a row is.

Rules of this file: the only one that knows pyarrow, which comes with the extra parquet and is imported when needed.
"""

import math
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .errors import UsageError
from .extras import load

SEQUENCE: Final = "sequence"
STEP: Final = "step"

Array = NDArray[Any]


def read_parquet(path: Path) -> dict[str, Array]:
    """Return [T, columns] by the sequence's name; one sequence under "" where no column says which.

    Sequences keep the order of their first rows; steps are sorted where a column numbers them, and else in file order.

    Raises:
        MissingExtraError: pyarrow is not installed.
        UsageError: damaged, a column of no numbers, a row of no sequence, or one step twice.
    """
    parquet = load("pyarrow.parquet", "reading .parquet")
    arrow = load("pyarrow", "reading .parquet")
    try:
        table = parquet.read_table(path)
        columns = {name: table.column(name).to_pylist() for name in table.column_names if name in (SEQUENCE, STEP)}
        features = [name for name in table.column_names if name not in columns]
        values = [table.column(name).to_numpy() for name in features]
    except (arrow.ArrowException, OSError) as err:
        raise UsageError(f"{path}: expected a Parquet file, found: {' '.join(str(err).split())[:200]}") from err
    if not values or not len(values[0]):
        raise UsageError(f"{path}: expected a column for each feature and a row for each step, found none")
    for name, column in zip(features, values, strict=True):
        if column.dtype.kind not in "fiu":
            raise UsageError(
                f"{path}: column {name}: expected numbers, found {column.dtype}; leave it out or convert it"
            )
    for name, keys in columns.items():
        _check_keys(path, name, keys)
    rows = np.stack(values, axis=1)
    return {
        name: rows[_in_order(path, name, places, columns.get(STEP))]
        for name, places in _group(columns.get(SEQUENCE), len(rows)).items()
    }


def _check_keys(path: Path, name: str, keys: list[Any]) -> None:
    """Refuse a column that cannot say which sequence or step a row is."""
    for key in keys:
        unnamed = key is None and name == SEQUENCE
        if unnamed or isinstance(key, list | dict) or (isinstance(key, float) and math.isnan(key)):
            raise UsageError(f"{path}: column {name}: expected a number or a text in every row, found {key!r:.100}")


def _group(names: list[Any] | None, count: int) -> dict[str, list[int]]:
    if names is None:
        return {"": list(range(count))}
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        groups.setdefault(str(name), []).append(place)
    return groups


def _in_order(path: Path, name: str, places: list[int], steps: list[Any] | None) -> list[int]:
    if steps is None:
        return places
    numbers = [steps[place] for place in places]
    if None in numbers or len(set(numbers)) != len(numbers):
        raise UsageError(
            f"{path}: sequence {name!r}: expected every row with a step of its own, found one missing or twice"
        )
    return sorted(places, key=lambda place: steps[place])
