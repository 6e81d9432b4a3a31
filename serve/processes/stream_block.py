"""The part of WORK and ANSWER frames that is about a stream.

    WORK     flags: 1 it is of a stream, 2 starts it, 4 ends it, 8 says its step, 16 the id is text
             block: u64 step (0 where it is not said), then u64 id, or u64 bytes of the text, the text, filled up to 8
    ANSWER   flags: 1 it is of a stream, 2 it was replayed
             block: u64 step, u64 version that it goes on with (0: the one that was asked for)

Rules of this file: pure; a frame without flags has no block and costs nothing here.
"""

import struct
from struct import Struct
from typing import Final

from ..engine.work import Answer, StreamAnswer, StreamRef
from .frames import FrameError

_STREAM: Final = 1
_START: Final = 2
_END: Final = 4
_STEP: Final = 8
_TEXT: Final = 16
_REPLAYED: Final = 2
_BLOCK: Final = Struct("<QQ")
_ANSWER: Final = Struct("<QQ")
_ANSWER_HEAD_BYTES: Final = 32
ANSWER_BYTES: Final = _ANSWER.size
_MAX_TEXT_BYTES: Final = 1024


def pack_block(stream: StreamRef) -> tuple[int, bytes]:
    """Return the flags and the block of a request."""
    flags = _STREAM | (stream.is_start and _START) | (stream.is_end and _END)
    step = 0
    if stream.step is not None:
        flags |= _STEP
        step = stream.step
    if isinstance(stream.id, int):
        return flags, _BLOCK.pack(step, stream.id)
    text = stream.id.encode()
    return flags | _TEXT, _BLOCK.pack(step, len(text)) + text + bytes(-len(text) % 8)


def unpack_block(frame: bytes | bytearray, flags: int, place: int) -> tuple[StreamRef, int]:
    """Return the stream of a request, and where its block ends.

    Raises:
        FrameError: the block is none.
    """
    if not flags & _STREAM or flags >= 2 * _TEXT:
        raise FrameError("stream", f"odd flags below {2 * _TEXT}", flags)
    try:
        step, name = _BLOCK.unpack_from(frame, place)
    except struct.error as err:
        raise FrameError("stream", f"{_BLOCK.size} bytes", len(frame) - place) from err
    place += _BLOCK.size
    found: int | str = int(name)
    if flags & _TEXT:
        end = place + name
        if not 0 < name <= _MAX_TEXT_BYTES or end > len(frame):
            raise FrameError("stream", f"a text of 1 .. {_MAX_TEXT_BYTES} bytes", name)
        try:
            found = bytes(frame[place:end]).decode()
        except UnicodeDecodeError as err:
            raise FrameError("stream", "UTF-8", "other bytes") from err
        place = end + -name % 8
    ref = StreamRef(
        id=found,
        is_start=bool(flags & _START),
        is_end=bool(flags & _END),
        step=int(step) if flags & _STEP else None,
    )
    return ref, place


def answer_block(answer: StreamAnswer) -> tuple[int, bytes]:
    """Return the flags and the block of an answer."""
    return _STREAM | (answer.is_replayed and _REPLAYED), _ANSWER.pack(answer.step, int(answer.version or 0))


def stream_answer(frame: bytes | bytearray, outputs: Answer) -> StreamAnswer:
    """Return the answer of a frame with flags, whose outputs were read: so it is long enough."""
    step, version = _ANSWER.unpack_from(frame, _ANSWER_HEAD_BYTES)
    is_replayed = bool(frame[1] & _REPLAYED)
    return StreamAnswer(outputs=outputs, step=step, is_replayed=is_replayed, version=str(version) if version else None)
