"""A record as bytes, and back: a fixed layout with a version and a checksum.

    head     4s magic, u16 layout, u8 ended (0: lives), u8 flags, u64 revision, u64 step, f64 touched,
             u32 B, u16 states, u16 outputs of the answer, 32s digest, 32s payload hash, zero where there is none
    arrays   the states, then the answer's: u8 dtype, u8 rank, u16 bytes of the name, u32 for each axis, the name,
             the values, little-endian, in C order; a state has no name
    end      u32 CRC-32 of everything before

Rules of this file: pure, never pickle. Whatever the bytes are, the answer is a record or a `RecordError`, and no array
is made that is larger than the bytes.
"""

import math
import zlib
from struct import Struct
from typing import Final

import numpy as np

from ..arrays import Array
from ..engine.work import Answer
from .record import REASONS, StreamRecord

LAYOUT: Final = 1
_MAGIC: Final = b"CGSR"
_HEAD: Final = Struct("<4sHBBQQdIHH32s32s")
_ARRAY: Final = Struct("<BBH")
_CHECK: Final = Struct("<I")
_HAS_HASH: Final = 1
_HAS_ANSWER: Final = 2
_NO_HASH: Final = bytes(32)
_MAX_RANK: Final = 8
_MAX_ARRAYS: Final = 64
_DTYPES: Final = tuple(np.dtype(name) for name in ("<f4", "<f2", "<f8", "<i4", "<i8", "|b1"))
_CODES: Final = {dtype.newbyteorder("="): code for code, dtype in enumerate(_DTYPES)}


class RecordError(ValueError):
    """The bytes are no record of a stream: names the part, expected and found."""

    def __init__(self, what: str, expected: str, found: object) -> None:
        super().__init__(f"record of a stream: {what}: expected {expected}, found {found}")


def pack_record(record: StreamRecord) -> bytes:
    """Return the record as bytes."""
    answer = record.answer
    flags = (_HAS_HASH if record.payload_hash is not None else 0) | (_HAS_ANSWER if answer is not None else 0)
    head = _HEAD.pack(
        _MAGIC,
        LAYOUT,
        0 if record.ended is None else 1 + REASONS.index(record.ended),
        flags,
        record.revision,
        record.step,
        record.touched_s,
        record.rows,
        len(record.states),
        0 if answer is None else len(answer),
        bytes.fromhex(record.digest),
        record.payload_hash or _NO_HASH,
    )
    pieces = [head]
    for state in record.states:
        _pack_array("", state, pieces)
    for name, array in (answer or {}).items():
        _pack_array(name, array, pieces)
    data = b"".join(pieces)
    return data + _CHECK.pack(zlib.crc32(data))


def unpack_record(data: bytes) -> StreamRecord:
    """Return the record that the bytes are; its arrays are views of them.

    Raises:
        RecordError: they are none.
    """
    if len(data) < _HEAD.size + _CHECK.size:
        raise RecordError("size", f"at least {_HEAD.size + _CHECK.size} bytes", len(data))
    magic, layout, ended, flags, revision, step, touched_s, rows, states, outputs, digest, payload = _HEAD.unpack_from(
        data
    )
    if (magic, layout) != (_MAGIC, LAYOUT):
        raise RecordError("layout", f"{_MAGIC!r} {LAYOUT}", f"{magic!r} {layout}")
    end = len(data) - _CHECK.size
    (check,) = _CHECK.unpack_from(data, end)
    if check != zlib.crc32(memoryview(data)[:end]):
        raise RecordError("checksum", f"{zlib.crc32(memoryview(data)[:end]):08x}", f"{check:08x}")
    _check_head(ended, flags, rows, states, outputs, touched_s)
    place = _HEAD.size
    kept: list[Array] = []
    answer: Answer = {}
    for _ in range(states):
        name, array, place = _unpack_array(data, place, end)
        if name:
            raise RecordError("state", "no name", name)
        kept.append(array)
    for _ in range(outputs):
        name, array, place = _unpack_array(data, place, end)
        if not name or name in answer:
            raise RecordError("answer", "a name, each once", repr(name))
        answer[name] = array
    if place != end:
        raise RecordError("size", f"{place + _CHECK.size} bytes", len(data))
    return StreamRecord(
        revision=revision,
        step=step,
        digest=digest.hex(),
        rows=rows,
        states=tuple(kept),
        payload_hash=payload if flags & _HAS_HASH else None,
        answer=answer if flags & _HAS_ANSWER else None,
        ended=None if ended == 0 else REASONS[ended - 1],
        touched_s=touched_s,
    )


def _check_head(ended: int, flags: int, rows: int, states: int, outputs: int, touched_s: float) -> None:
    if ended > len(REASONS):
        raise RecordError("ended", f"0 .. {len(REASONS)}", ended)
    if flags not in (0, _HAS_HASH | _HAS_ANSWER):
        raise RecordError("flags", "hash and answer, or neither", flags)
    if bool(flags) != bool(outputs):
        raise RecordError("answer", "outputs where there is one, and none elsewhere", outputs)
    if not rows:
        raise RecordError("rows", "at least 1", rows)
    if max(states, outputs) > _MAX_ARRAYS:
        raise RecordError("arrays", f"at most {_MAX_ARRAYS} states and outputs", (states, outputs))
    if not math.isfinite(touched_s):
        raise RecordError("touched", "a moment", touched_s)


def _pack_array(name: str, array: Array, pieces: list[bytes]) -> None:
    text = name.encode()
    pieces.append(_ARRAY.pack(_CODES[array.dtype], array.ndim, len(text)))
    pieces.append(np.array(array.shape, "<u4").tobytes())
    pieces.append(text)
    pieces.append(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def _unpack_array(data: bytes, place: int, end: int) -> tuple[str, Array, int]:
    if end - place < _ARRAY.size:
        raise RecordError("array", f"{_ARRAY.size} bytes", end - place)
    code, rank, name_bytes = _ARRAY.unpack_from(data, place)
    place += _ARRAY.size
    if code >= len(_DTYPES) or not 1 <= rank <= _MAX_RANK:
        raise RecordError("array", f"a dtype below {len(_DTYPES)} and a rank in 1 .. {_MAX_RANK}", (code, rank))
    if end - place < rank * 4 + name_bytes:
        raise RecordError("array", f"{rank * 4 + name_bytes} bytes of shape and name", end - place)
    shape = tuple(int(axis) for axis in np.frombuffer(data, "<u4", rank, place))
    place += rank * 4
    try:
        name = data[place : place + name_bytes].decode()
    except UnicodeDecodeError as err:
        raise RecordError("name", "UTF-8", "other bytes") from err
    place += name_bytes
    count = math.prod(shape)
    dtype = _DTYPES[code]
    if not count or count * dtype.itemsize > end - place:
        raise RecordError("array", f"at most {end - place} bytes, and no axis of zero", shape)
    values = np.frombuffer(data, dtype, count, place)
    array: Array = values.astype(dtype.newbyteorder("="), copy=not values.flags.aligned).reshape(shape)
    return name, array, place + count * dtype.itemsize
