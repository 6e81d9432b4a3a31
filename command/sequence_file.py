"""Sequences from a file: .npy, .npz, .csv, .json, .parquet to named arrays by a bundle's signature.

Rules of this file: it reads and shapes, and leaves shapes, ranges and finiteness to the server's own checks; real
numbers become float32 here, for files of float64 are what people have; whatever is wrong is a UsageError naming file
and place.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..bundle.manifest import GraphSignature
from ..serve.errors import BadInput
from ..serve.infer.json_data import array_from_json
from ..serve.infer.json_request import parse_request
from .csv_file import read_csv
from .errors import UsageError
from .numpy_file import read_array, read_arrays
from .parquet_file import read_parquet

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sequences:
    """What a file holds.

    Attributes:
        rows: one array [T, I] or, for tokens, [T] for each sequence, of unequal T.
        states: given initial states by input name, [rows, B, width]; empty for zeros.
        names: of the sequences, for people.
        outputs: asked for by name, in a request; empty for all but the states.
    """

    rows: tuple[Array, ...]
    states: Mapping[str, Array]
    names: tuple[str, ...]
    outputs: tuple[str, ...] = ()


def read_sequences(path: Path, signature: GraphSignature) -> Sequences:
    """Read a file of sequences.

    Args:
        path: its suffix says the form.
        signature: of the bundle; says whether a step is I numbers or one token.

    Raises:
        UsageError: no such file, another suffix, or content of another form.
    """
    if path.suffix not in _READERS:
        raise UsageError(
            f"{path}: expected a file of sequences ({', '.join(_READERS)}), found "
            f"{f'the suffix {path.suffix!r}' if path.suffix else 'no suffix'}"
        )
    if not path.is_file():
        raise UsageError(
            f"{path}: expected a file of sequences, found {'no file' if path.exists() else 'nothing'} there"
        )
    return _READERS[path.suffix](path, signature)


def _read_npy(path: Path, signature: GraphSignature) -> Sequences:
    return _from_arrays(path, signature, {signature.sequence: read_array(path)})


def _read_npz(path: Path, signature: GraphSignature) -> Sequences:
    return _from_arrays(path, signature, read_arrays(path))


def _from_arrays(path: Path, signature: GraphSignature, arrays: Mapping[str, Array]) -> Sequences:
    """Take the sequence, lengths and states out of named arrays; the sequence may be one, without its batch axis."""
    states = {pair.input for pair in signature.state}
    lengths_name = signature.lengths or "lengths"
    known = (signature.sequence, lengths_name, *sorted(states))
    unknown = sorted(arrays.keys() - set(known))
    if unknown or signature.sequence not in arrays:
        found = ", ".join(arrays) or "nothing"
        raise UsageError(
            f"{path}: expected {signature.sequence}, and at most {', '.join(known[1:])} beside, found {found}"
        )
    sequence = arrays[signature.sequence]
    rank = _rank(signature)
    if sequence.ndim == rank:
        sequence = sequence[np.newaxis]
    if sequence.ndim != rank + 1 or 0 in sequence.shape:
        form = "[T] or [B, T] tokens" if rank == 1 else "[T, I] or [B, T, I]"
        raise UsageError(
            f"{path}: {signature.sequence}: expected {form}, none of them 0, "
            f"found {list(arrays[signature.sequence].shape)}"
        )
    lengths = _lengths(path, arrays.get(lengths_name), sequence)
    rows = tuple(
        _numbers(f"{path}: {signature.sequence}", row[:n], signature) for row, n in zip(sequence, lengths, strict=True)
    )
    given = {name: _state(path, name, arrays[name], len(rows), signature) for name in arrays if name in states}
    return Sequences(rows=rows, states=given, names=_numbered(len(rows)))


def _lengths(path: Path, lengths: Array | None, sequence: Array) -> list[int]:
    rows, steps = sequence.shape[:2]
    if lengths is None:
        return [steps] * rows
    if lengths.shape != (rows,) or lengths.dtype.kind not in "iu" or lengths.min() < 1 or lengths.max() > steps:
        raise UsageError(
            f"{path}: lengths: expected {rows} integers in 1 .. {steps}, "
            f"found {lengths.dtype} {lengths.tolist()!s:.100}"
        )
    return [int(length) for length in lengths]


def _state(path: Path, name: str, array: Array, rows: int, signature: GraphSignature) -> Array:
    spec = next(spec for spec in signature.inputs if spec.name == name)
    expected = tuple(rows if axis == "B" else axis for axis in spec.shape)
    if array.shape != expected or array.dtype.kind not in "fiu":
        raise UsageError(f"{path}: {name}: expected numbers {list(expected)}, found {array.dtype} {list(array.shape)}")
    return array.astype(spec.dtype)


def _read_csv(path: Path, signature: GraphSignature) -> Sequences:
    return _from_table(path, signature, {"": read_csv(path, integers=signature.vocabulary_size is not None)})


def _from_table(path: Path, signature: GraphSignature, tables: Mapping[str, Array]) -> Sequences:
    """Take tables [T, columns], one for each sequence by its name."""
    rows = []
    for table in tables.values():
        if signature.vocabulary_size is not None and table.shape[1] != 1:
            raise UsageError(f"{path}: expected one column of tokens, found {table.shape[1]} columns")
        row = table[:, 0] if signature.vocabulary_size is not None else table
        rows.append(_numbers(str(path), row, signature))
    names = tuple(tables) if len(tables) > 1 or "" not in tables else _numbered(1)
    return Sequences(rows=tuple(rows), states={}, names=names)


def _read_json(path: Path, signature: GraphSignature) -> Sequences:
    data = path.read_bytes()
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as err:
        raise UsageError(f"{path}: expected JSON, found: {err}") from err
    if isinstance(content, dict):
        try:
            request = parse_request(data)
            arrays = {t.name: array_from_json(t.name, t.datatype, t.shape, t.data) for t in request.inputs}
        except BadInput as err:
            raise UsageError(f"{path}: {err}") from err
        found = _from_arrays(path, signature, arrays)
        return Sequences(rows=found.rows, states=found.states, names=found.names, outputs=request.outputs)
    rank = _rank(signature)
    depth = _depth(content)
    if depth not in (rank, rank + 1):
        form = (
            "[token, ...] or a list of those" if rank == 1 else "[[number, ...], ...] (steps of I) or a list of those"
        )
        raise UsageError(f"{path}: expected {form}, or a request, found lists nested {depth} deep")
    rows = tuple(
        _numbers(f"{path}: sequence {place}", _nested(path, place, sequence), signature)
        for place, sequence in enumerate([content] if depth == rank else content)
    )
    for place, row in enumerate(rows):
        if row.ndim != rank or 0 in row.shape:
            raise UsageError(f"{path}: sequence {place}: expected {rank} axes, none of them 0, found {list(row.shape)}")
        if row.shape[1:] != rows[0].shape[1:]:
            raise UsageError(
                f"{path}: sequence {place}: expected steps of {rows[0].shape[1]} numbers as in sequence 0, "
                f"found {row.shape[1]}"
            )
    return Sequences(rows=rows, states={}, names=_numbered(len(rows)))


def _nested(path: Path, place: int, sequence: Any) -> Array:
    try:
        return np.array(sequence)
    except ValueError as err:  # steps of unequal width
        raise UsageError(f"{path}: sequence {place}: expected steps of equal width, found unequal ones") from err


def _read_parquet(path: Path, signature: GraphSignature) -> Sequences:
    return _from_table(path, signature, read_parquet(path))


def _numbers(place: str, array: Array, signature: GraphSignature) -> Array:
    """Return the sequence in the graph's dtype. What is too large becomes infinite, which is refused later."""
    if signature.vocabulary_size is not None:
        if array.dtype.kind not in "iu":
            raise UsageError(f"{place}: expected tokens (integers), found {array.dtype}; convert them")
        return array.astype(np.int64)
    if array.dtype.kind not in "fiu":
        raise UsageError(f"{place}: expected numbers, found {array.dtype}; convert them")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _rank(signature: GraphSignature) -> int:
    return 2 if signature.vocabulary_size is None else 1


def _depth(content: Any) -> int:
    depth = 0
    while isinstance(content, list):
        depth += 1
        content = content[0] if content else None
    return depth


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(count))


_READERS: Final[Mapping[str, Callable[[Path, GraphSignature], Sequences]]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".json": _read_json,
    ".parquet": _read_parquet,
}
