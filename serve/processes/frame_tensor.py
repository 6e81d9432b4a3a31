"""A tensor in a WORK or ANSWER frame: its shape, where it begins and where it ends.

Lengths are int32 and filled up to 8 bytes, so that what follows them lies on a multiple of 8.

Rules of this file: pure, and on the way of every request. Nothing is copied: what is taken is a view of the frame. The
values were checked by the frontend, which is a process of this server; whether they fit into the frame is checked here.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from struct import Struct
from typing import Final

import numpy as np

from ...bundle.axes import sizes_of
from ...bundle.manifest import TensorSpec
from ..arrays import Array
from .frames import FrameError

Shape = Callable[[int, int], tuple[int, ...]]

FILL: Final = (b"", b"\0\0\0\0")  # after an even number of lengths, and after an odd one
_INT32: Final = np.dtype("<i4")
_ONE_LENGTH: Final = Struct("<i4x")
_MOST_LENGTHS: Final = 4096


@dataclass(frozen=True, slots=True)
class FrameTensor:
    """One tensor of the signature: its bit in the head, and its shape for B and T."""

    name: str
    bit: int
    dtype: np.dtype[np.generic]
    shape: Shape


def tensor_of(spec: TensorSpec, place: int) -> FrameTensor:
    """Return the tensor of a spec.

    Args:
        spec: of an input or output of the graph.
        place: its number among the states or the outputs.
    """
    return FrameTensor(spec.name, 1 << place, np.dtype(spec.dtype).newbyteorder("<"), _shape_of(spec))


def _shape_of(spec: TensorSpec) -> Shape:
    """Return the function from B and T to the shape; the shapes of every network here have one without a loop."""
    match spec.shape:
        case ("B", "T"):
            return lambda rows, steps: (rows, steps)
        case ("B", "T", int(size)):
            return lambda rows, steps: (rows, steps, size)
        case ("B", int(size)):
            return lambda rows, _steps: (rows, size)
        case (int(size), "B", int(other)):
            return lambda rows, _steps: (size, rows, other)
    return partial(sizes_of, spec.shape)


def take(
    frame: bytes | bytearray, place: int, dtype: np.dtype[np.generic], shape: tuple[int, ...]
) -> tuple[Array, int]:
    """Return the tensor that begins at a place of the frame, a view, and where it ends.

    Raises:
        FrameError: the frame ends before.
    """
    try:
        array: Array = np.ndarray(shape, dtype, frame, place)
    except (TypeError, ValueError) as err:  # the buffer is too small, or the size is beyond all
        raise FrameError("tensor", f"{dtype} {shape} from byte {place}", f"{len(frame)} bytes") from err
    return array, place + array.nbytes


def take_lengths(frame: bytes | bytearray, place: int, rows: int) -> tuple[Array, int]:
    """Return the lengths that begin at a place of the frame, and where they and what fills them up end.

    Returns:
        int32 (B,), a view, or one that is shared where B = 1; and the place of what follows.

    Raises:
        FrameError: the frame ends before.
    """
    if rows > 1:
        lengths, place = take(frame, place, _INT32, (rows,))
        return lengths, place + len(FILL[rows & 1])
    try:
        (length,) = _ONE_LENGTH.unpack_from(frame, place)
    except struct.error as err:
        raise FrameError("lengths", f"{_ONE_LENGTH.size} bytes", len(frame) - place) from err
    return _one_length(length), place + _ONE_LENGTH.size


@lru_cache(_MOST_LENGTHS)
def _one_length(length: int) -> Array:
    lengths = np.array([length], dtype=_INT32)
    lengths.flags.writeable = False  # many requests share it
    return lengths


def check_end(frame: bytes | bytearray, place: int) -> None:
    """Check that nothing is left.

    Raises:
        FrameError: the frame does not end at this place.
    """
    if place != len(frame):
        raise FrameError("size", f"{place} bytes", len(frame))
