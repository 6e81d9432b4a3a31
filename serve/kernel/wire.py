"""Protobuf's wire format, as much of it as ONNX graphs need: serving has no onnx package, and needs none for this.

Rules of this file: pure; it knows fields and numbers, and no message. Source: protobuf's encoding specification.
"""

from collections.abc import Iterator
from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5
_WIDTHS: Final = {FIXED64: 8, FIXED32: 4}


class WireError(ValueError):
    """The bytes are no message."""


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (number, value) of a message's fields in order: int of a varint, the bytes of anything else.

    Raises:
        WireError: the message ends within a field, or has one of a kind that nobody writes any more.
    """
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        kind = key & 7
        if kind == VARINT:
            number, at = _read_varint(message, at)
            yield key >> 3, number
            continue
        if kind == BYTES:
            size, at = _read_varint(message, at)
        elif kind in _WIDTHS:
            size = _WIDTHS[kind]
        else:
            raise WireError(f"expected a field of kind 0, 1, 2 or 5, found {kind}")
        if at + size > len(message):
            raise WireError(f"expected {size} bytes of field {key >> 3}, found {len(message) - at}")
        yield key >> 3, message[at : at + size]
        at += size


def varints(packed: bytes) -> Iterator[int]:
    """Yield the numbers of a packed field; a negative one is written in ten bytes, as two's complement of 64 bits."""
    at = 0
    while at < len(packed):
        number, at = _read_varint(packed, at)
        yield signed(number)


def signed(number: int) -> int:
    """Return a varint as the int64 that was meant."""
    return number - (1 << 64) if number >> 63 else number


def text(number: int, value: str) -> bytes:
    """Return a field that holds a string."""
    return field(number, value.encode())


def field(number: int, content: bytes) -> bytes:
    """Return a field that holds bytes: a message, or a string."""
    return _varint(number << 3 | BYTES) + _varint(len(content)) + content


def integer(number: int, value: int) -> bytes:
    """Return a field that holds an integer of at least 0."""
    return _varint(number << 3 | VARINT) + _varint(value)


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    found = shift = 0
    while True:
        if at >= len(message):
            raise WireError("expected the rest of a number, found the end")
        byte = message[at]
        found |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return found, at


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:  # noqa: PLR2004
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
