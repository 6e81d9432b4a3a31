"""Frames between a frontend and the engine's process: a length, a kind, an id, and what belongs to the kind.

Every frame on the stream is `u64 length | frame`, little-endian; every frame begins with `u8 kind`, has its id (u64,
the frontend's, or 0) at byte 8, and is one of

    kind            direction   after the head of 16 bytes
    HELLO           engine      JSON: what is served; the first frame of a connection, and again whenever that changes
    WORK            frontend    see `tensor_frames`
    ANSWER          engine      see `tensor_frames`
    ERROR           engine      JSON: [code, message], or [code, message, facts]
    CANCEL          frontend    nothing
    ASK_STATISTICS  frontend    nothing
    STATISTICS      engine      JSON: what the engine counts
    TIMES           engine      when a traced request was in the engine; comes before its ANSWER
    ORDER           frontend    u64 bytes of JSON, JSON: [kind, model, id], then the record that is brought
    REPORT          engine      u64 bytes of JSON, JSON: facts, then the record that was asked for
    TAKEN           frontend    nothing; the id is the generation of the hello that was taken
    CONTROL         frontend    JSON: [action, name, version]: load or unload a model
    DONE            engine      JSON: what came of it

Rules of this file: pure, no sockets, no arrays, never pickle. Numbers and JSON only: nothing in a frame is code, and a
frame that is none is refused with a `FrameError`.
"""

import json
from enum import IntEnum
from struct import Struct, error
from typing import Any, Final

PROTOCOL: Final = 3

PREFIX: Final = Struct("<Q")
_HEAD: Final = Struct("<B7xQ")
_WHOLE: Final = Struct("<QB7xQ")
HEAD_BYTES: Final = _HEAD.size
_TIMES: Final = Struct("<dddQ")


class Kind(IntEnum):
    """What a frame is."""

    HELLO = 1
    WORK = 2
    ANSWER = 3
    ERROR = 4
    CANCEL = 5
    ASK_STATISTICS = 6
    STATISTICS = 7
    TIMES = 8
    ORDER = 9
    REPORT = 10
    TAKEN = 11
    CONTROL = 12
    DONE = 13


class FrameError(Exception):
    """The other side of the stream sent what is no frame, or no frame that belongs there; the stream is of no use."""

    def __init__(self, what: str, expected: str, found: object) -> None:
        super().__init__(f"frame: {what}: expected {expected}, found {found}")


def pack_bare(kind: Kind, request_id: int) -> bytes:
    """Return a whole frame that is a head only, as it goes on the stream."""
    return _WHOLE.pack(HEAD_BYTES, kind, request_id)


def pack_json(kind: Kind, request_id: int, value: Any) -> bytes:
    """Return a whole frame with a JSON value, as it goes on the stream."""
    data = json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    return _WHOLE.pack(HEAD_BYTES + len(data), kind, request_id) + data


def pack_times(request_id: int, arrived_s: float, first_run_s: float, last_run_s: float, runs: int) -> bytes:
    """Return a whole TIMES frame, as it goes on the stream; moments are of the monotonic clock, in seconds."""
    moments = _TIMES.pack(arrived_s, first_run_s, last_run_s, runs)
    return _WHOLE.pack(HEAD_BYTES + _TIMES.size, Kind.TIMES, request_id) + moments


def times_of(frame: bytes | bytearray) -> tuple[float, float, float, int]:
    """Return what `pack_times` put into a frame.

    Raises:
        FrameError: the frame has another size.
    """
    try:
        arrived_s, first_run_s, last_run_s, runs = _TIMES.unpack(frame[HEAD_BYTES:])
    except error as err:
        raise FrameError("size", f"{HEAD_BYTES + _TIMES.size} bytes", len(frame)) from err
    return arrived_s, first_run_s, last_run_s, runs


def pack_mixed(kind: Kind, request_id: int, value: Any, data: bytes) -> bytes:
    """Return a whole frame with a JSON value and bytes behind it, as it goes on the stream."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    size = HEAD_BYTES + PREFIX.size + len(text) + len(data)
    return _WHOLE.pack(size, kind, request_id) + PREFIX.pack(len(text)) + text + data


def mixed_of(frame: bytes | bytearray) -> tuple[Any, bytes]:
    """Return the JSON value of a frame and the bytes behind it.

    Raises:
        FrameError: it holds no such.
    """
    start = HEAD_BYTES + PREFIX.size
    if len(frame) < start:
        raise FrameError("head", f"{start} bytes", len(frame))
    (size,) = PREFIX.unpack_from(frame, HEAD_BYTES)
    if start + size > len(frame):
        raise FrameError("text", f"at most {len(frame) - start} bytes", size)
    try:
        return json.loads(frame[start : start + size]), bytes(frame[start + size :])
    except ValueError as err:
        raise FrameError("text", "JSON", err) from err


def id_of(frame: bytes | bytearray) -> int:
    """Return the id in the head of a frame.

    Raises:
        FrameError: the frame is shorter than a head.
    """
    try:
        return int(_HEAD.unpack_from(frame)[1])
    except error as err:
        raise FrameError("head", f"{HEAD_BYTES} bytes", len(frame)) from err


def json_of(frame: bytes | bytearray) -> Any:
    """Return the JSON value of a frame.

    Raises:
        FrameError: what follows the head is no JSON.
    """
    try:
        return json.loads(frame[HEAD_BYTES:])
    except ValueError as err:
        raise FrameError("text", "JSON", err) from err


class FrameDecoder:
    """Cuts a stream into frames, however it comes in chunks.

    A frame costs one copy out of its chunks and holds no byte of its neighbours, so that a request which waits holds
    its own tensors and nothing else.

    Args:
        max_frame_bytes: a longer frame is refused as soon as its length is known.
    """

    def __init__(self, max_frame_bytes: int) -> None:
        self._max = max_frame_bytes
        self._prefix = b""  # less than a length
        self._frame = bytearray()  # of the length that was announced; not in use while nothing of it is missing
        self._missing = 0

    @property
    def held_bytes(self) -> int:
        """Bytes set aside for a frame whose end has not come yet."""
        return len(self._prefix) + len(self._frame)

    def feed(self, chunk: bytes) -> list[bytes | bytearray]:
        """Take what came and return the frames that are whole now, without their lengths.

        Raises:
            FrameError: a length is 0 or above the limit; the decoder is of no use afterwards.
        """
        frames: list[bytes | bytearray] = []
        start = 0
        if self._missing:
            start = self._fill(chunk)
            if self._missing:
                return frames
            frames.append(self._frame)
            self._frame = bytearray()
        elif self._prefix:
            chunk = self._prefix + chunk
            self._prefix = b""
        end, unpack, ahead = len(chunk), PREFIX.unpack_from, PREFIX.size
        while start + ahead <= end:
            (length,) = unpack(chunk, start)
            if not 0 < length <= self._max:
                raise FrameError("length", f"1 .. {self._max} bytes", length)
            start += ahead
            if start + length > end:
                self._begin(chunk, start, length)
                return frames
            frames.append(chunk[start : start + length])
            start += length
        self._prefix = chunk[start:]
        return frames

    def _begin(self, chunk: bytes, start: int, length: int) -> None:
        self._frame = bytearray(length)
        held = len(chunk) - start
        self._frame[:held] = memoryview(chunk)[start:]
        self._missing = length - held

    def _fill(self, chunk: bytes) -> int:
        """Add to the frame that began in an earlier chunk; return where the rest of this one starts."""
        used = min(self._missing, len(chunk))
        place = len(self._frame) - self._missing
        self._frame[place : place + used] = memoryview(chunk)[:used]
        self._missing -= used
        return used
