"""WORK and ANSWER: a head of fixed numbers, then the raw values of tensors.

    WORK     u8 kind, u8 stream, u16 model, i16 priority, u64 id, f64 deadline (NaN: none), u64 outputs, u64 states,
             u32 B, u32 T, then the stream's block where `stream` is not 0 (see `stream_block`), the lengths (int32,
             filled up to 8 bytes), the sequence, and each state whose bit is set
    ANSWER   u8 kind, u8 stream, u16 model, u64 id, u64 outputs, u32 B, u32 T,
             then the stream's block where `stream` is not 0, and each output whose bit is set

`model` is the number in the hello. Bit k of `outputs` and `states` is the signature's k-th output and state pair.
Dtypes and shapes follow from the signature, B and T, and are never sent; values are little-endian, in C order. The
deadline is a moment of the monotonic clock, which all processes of a machine share.

Rules of this file: pure. A frame whose size is not exactly what its head says is refused; where a tensor lies, and in
which shape, is `frame_tensor`'s.
"""

import math
import struct
from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple, cast

from ...bundle.manifest import GraphSignature
from ..arrays import Array
from ..engine.work import Answer, Reply, StreamAnswer, Work
from ..errors import EngineError
from ..start_errors import ServerStartError
from .frame_tensor import FILL, FrameTensor, check_end, take, take_lengths, tensor_of
from .frames import FrameError, Kind
from .stream_block import ANSWER_BYTES, answer_block, pack_block, unpack_block

Frame = bytes | bytearray
Piece = bytes | Array

_WORK: Final = Struct("<BBHhxxQdQQII")
_WHOLE_WORK: Final = Struct("<QBBHhxxQdQQII")
_ANSWER: Final = Struct("<BBHxxxxQQII")
_WHOLE_ANSWER: Final = Struct("<QBBHxxxxQQII")
_MODEL: Final = Struct("<BxH")
_ANSWERED: Final = Struct("<BxHxxxxQ")
_NONE: Final = math.nan
_KIND_WORK: Final = int(Kind.WORK)
_KIND_ANSWER: Final = int(Kind.ANSWER)
_MAX_TENSORS: Final = 64
_MOST_SETS: Final = 64  # of outputs that are remembered


class WorkFrame(NamedTuple):
    """A request as it came: its id, which outputs it wants, and the work."""

    request_id: int
    outputs: int
    work: Work


def join(pieces: list[Piece]) -> bytes:
    """Return the pieces of frames as one row of bytes, ready for the stream."""
    return b"".join(cast("list[bytes]", pieces))  # arrays are buffers too, as numpy's types say only from 3.12 on


def model_of(frame: Frame) -> int:
    """Return the number of the model that a WORK or ANSWER frame is about.

    Raises:
        FrameError: the frame is shorter than that.
    """
    try:
        return int(_MODEL.unpack_from(frame)[1])
    except struct.error as err:
        raise FrameError("head", f"{_MODEL.size} bytes", len(frame)) from err


def answered_of(frame: Frame) -> tuple[int, int]:
    """Return the number of the model and the id that an ANSWER frame is about.

    Raises:
        FrameError: the frame is shorter than that.
    """
    try:
        _, model, request_id = _ANSWERED.unpack_from(frame)
    except struct.error as err:
        raise FrameError("head", f"{_ANSWERED.size} bytes", len(frame)) from err
    return model, request_id


class ModelCodec:
    """Packs and unpacks the frames of one model.

    Args:
        index: number of the model in the hello.
        name: of the model, as its work names it.
        signature: of its graph.

    Raises:
        ServerStartError: the signature has more states or outputs than a frame can name.
    """

    def __init__(self, index: int, name: str, signature: GraphSignature) -> None:
        self._index = index
        self._name = name
        inputs = {spec.name: spec for spec in signature.inputs}
        self._sequence = tensor_of(inputs[signature.sequence], 0)
        self._states = [tensor_of(inputs[pair.input], place) for place, pair in enumerate(signature.state)]
        self._no_states: tuple[Array | None, ...] = (None,) * len(self._states)
        self._outputs = [tensor_of(spec, place) for place, spec in enumerate(signature.outputs)]
        self._bits = {tensor.name: tensor.bit for tensor in self._outputs}
        self._all = sum(self._bits.values()), sum(tensor.bit for tensor in self._states)
        self._names = lru_cache(_MOST_SETS)(self._named)
        self._mask = lru_cache(_MOST_SETS)(self._masked)
        self._wanted = lru_cache(_MOST_SETS)(self._tensors_of)
        if max(len(self._states), len(self._outputs)) > _MAX_TENSORS:
            found = f"{len(self._states)} states and {len(self._outputs)} outputs"
            raise ServerStartError(f"model {name}: expected at most {_MAX_TENSORS} of each in a frame, found {found}")

    def pack_work(self, request_id: int, work: Work) -> tuple[list[Piece], int]:
        """Return a whole WORK frame in pieces, and its bytes.

        Args:
            request_id: of the frontend, 0 .. 2**64 - 1.
            work: for this model. Its arrays are not copied: join the pieces before anybody may write to them.
        """
        sequence = work.sequence
        rows, steps = sequence.shape[:2]
        pieces: list[Piece] = [b"", sequence]
        size = _WORK.size + (rows + (rows & 1)) * 4 + sequence.nbytes
        states = 0
        for place, state in enumerate(work.states):
            if state is not None:
                states |= 1 << place
                size += state.nbytes
                pieces.append(state)
        deadline = _NONE if work.deadline_s is None else work.deadline_s
        stream, block = 0, b""
        if work.stream is not None:
            stream, block = pack_block(work.stream)
            size += len(block)
        fields = (work.priority, request_id, deadline, self._mask(work.outputs), states, rows, steps)
        head = _WHOLE_WORK.pack(size, _KIND_WORK, stream, self._index, *fields)
        pieces[0] = head + block + work.lengths.tobytes() + FILL[rows & 1]
        return pieces, size

    def unpack_work(self, frame: Frame) -> WorkFrame:
        """Return the request of a WORK frame; its arrays are views of the frame.

        Raises:
            FrameError: the head names what the signature has not, or the frame has another size.
        """
        try:
            _, flags, _, priority, request_id, deadline, outputs, states, rows, steps = _WORK.unpack_from(frame)
        except struct.error as err:
            raise FrameError("head", f"{_WORK.size} bytes", len(frame)) from err
        self._check(rows, steps, outputs, states)
        stream, place = unpack_block(frame, flags, _WORK.size) if flags else (None, _WORK.size)
        lengths, place = take_lengths(frame, place, rows)
        sequence, place = take(frame, place, self._sequence.dtype, self._sequence.shape(rows, steps))
        given = self._no_states
        if states:
            given, place = self._take_states(frame, place, states, (rows, steps))
        check_end(frame, place)
        work = Work(
            model=self._name,
            sequence=sequence,
            lengths=lengths,
            states=given,
            outputs=self._names(outputs),
            priority=priority,
            deadline_s=None if math.isnan(deadline) else deadline,
            stream=stream,
        )
        return WorkFrame(request_id, outputs, work)

    def _take_states(
        self, frame: Frame, place: int, states: int, size: tuple[int, int]
    ) -> tuple[tuple[Array | None, ...], int]:
        given: list[Array | None] = []
        for tensor in self._states:
            state = None
            if states & tensor.bit:
                state, place = take(frame, place, tensor.dtype, tensor.shape(*size))
            given.append(state)
        return tuple(given), place

    # These three are remembered, for clients ask for the same outputs again and again.

    def _masked(self, outputs: tuple[str, ...]) -> int:
        return sum(self._bits[name] for name in outputs)

    def _tensors_of(self, outputs: int) -> tuple[FrameTensor, ...]:
        return tuple(tensor for tensor in self._outputs if outputs & tensor.bit)

    def _named(self, outputs: int) -> tuple[str, ...]:
        return tuple(tensor.name for tensor in self._tensors_of(outputs))

    def pack_reply(self, asked: WorkFrame, reply: Reply) -> list[Piece]:
        """Return a whole ANSWER frame in pieces; see `pack_answer`."""
        if isinstance(reply, StreamAnswer):
            return self.pack_answer(asked, reply.outputs, *answer_block(reply))
        return self.pack_answer(asked, reply)

    def pack_answer(self, asked: WorkFrame, answer: Answer, stream: int = 0, block: bytes = b"") -> list[Piece]:
        """Return a whole ANSWER frame in pieces.

        Args:
            asked: the request that it answers.
            answer: every output that was asked for, in the dtype and shape of the signature.
            stream: flags of a stream's answer.
            block: of a stream's answer.

        Raises:
            EngineError: the answer has another size than the signature says.
        """
        rows, steps = asked.work.sequence.shape[:2]
        pieces: list[Piece] = [b""]
        size = _ANSWER.size + len(block)
        for tensor in self._wanted(asked.outputs):
            array = answer[tensor.name]
            shape = tensor.shape(rows, steps)
            if array.shape != shape or array.dtype != tensor.dtype:
                found = f"{array.dtype} {array.shape}"
                raise EngineError(f"{tensor.name}: expected {tensor.dtype} {shape}, found {found}")
            size += array.nbytes
            pieces.append(array)
        fields = (asked.request_id, asked.outputs, rows, steps)
        pieces[0] = _WHOLE_ANSWER.pack(size, _KIND_ANSWER, stream, self._index, *fields) + block
        return pieces

    def unpack_answer(self, frame: Frame) -> Answer:
        """Return the outputs of an ANSWER frame, in the order of the signature; its arrays are views of the frame.

        Raises:
            FrameError: the head names what the signature has not, or the frame has another size.
        """
        try:
            _, stream, _, _, outputs, rows, steps = _ANSWER.unpack_from(frame)
        except struct.error as err:
            raise FrameError("head", f"{_ANSWER.size} bytes", len(frame)) from err
        self._check(rows, steps, outputs, 0)
        answer, place = {}, _ANSWER.size + ANSWER_BYTES if stream else _ANSWER.size
        for tensor in self._wanted(outputs):
            answer[tensor.name], place = take(frame, place, tensor.dtype, tensor.shape(rows, steps))
        check_end(frame, place)
        return answer

    def _check(self, rows: int, steps: int, outputs: int, states: int) -> None:
        if not rows or not steps:  # no dimension may be zero: the runtime itself aborts at B = 0
            raise FrameError("B and T", "at least 1 each", (rows, steps))
        if (outputs | self._all[0], states | self._all[1]) != self._all:
            raise FrameError("outputs and states", "those of the signature", (outputs, states))
