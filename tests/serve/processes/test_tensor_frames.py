"""WORK and ANSWER frames: what goes in comes out, bit for bit, and a frame of another size is refused."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellgate.bundle.manifest import GraphSignature, StatePair, TensorSpec
from cellgate.serve.engine.work import StreamAnswer, StreamRef, Work
from cellgate.serve.errors import EngineError
from cellgate.serve.processes.frames import FrameDecoder, FrameError, Kind
from cellgate.serve.processes.stream_block import stream_answer
from cellgate.serve.processes.tensor_frames import ModelCodec, WorkFrame, join, model_of
from cellgate.serve.start_errors import ServerStartError

KINDS = ("steps", "last", "tokens")


def only_frame(pieces):
    (frame,) = FrameDecoder(2**24).feed(join(pieces))
    return frame


@pytest.fixture(scope="session")
def codecs(make_network):
    return {kind: ModelCodec(index, kind, make_network(kind).signature) for index, kind in enumerate(KINDS)}


NUMBERS = st.integers(0, 2**64 - 1)
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=64)
STREAMS = st.builds(
    StreamRef, id=NUMBERS | TEXTS, is_start=st.booleans(), is_end=st.booleans(), step=st.none() | NUMBERS
)


@st.composite
def works(draw):
    kind, rows, steps = draw(st.sampled_from(KINDS)), draw(st.integers(1, 5)), draw(st.integers(1, 6))
    values = np.random.default_rng(draw(st.integers(0, 99)))
    sequence = values.normal(size=(rows, steps, 2)).astype(np.float32)
    if kind == "tokens":
        sequence = values.integers(0, 5, size=(rows, steps))
    state = values.normal(size=(1, rows, 3)).astype(np.float32)
    return Work(
        model=kind,
        sequence=sequence,
        lengths=values.integers(1, steps + 1, size=rows).astype(np.int32),
        states=tuple(draw(st.sampled_from([None, state, -state])) for _ in range(2)),
        outputs=tuple(draw(st.permutations(["y", "h_n", "c_n"]))[: draw(st.integers(1, 3))]),
        priority=draw(st.integers(-(2**15), 2**15 - 1)),
        deadline_s=draw(st.none() | st.floats(-1e9, 1e9)),
        stream=draw(st.none() | STREAMS),
    )


@given(works(), st.integers(0, 2**64 - 1))
def test_work_survives_the_way_in_bits(codecs, work, request_id):
    pieces, size = codecs[work.model].pack_work(request_id, work)
    frame = only_frame(pieces)
    found = codecs[work.model].unpack_work(frame)

    assert (found.request_id, model_of(frame), len(frame)) == (request_id, KINDS.index(work.model), size)
    assert found.work.outputs == tuple(name for name in ("y", "h_n", "c_n") if name in work.outputs)
    for name in ("model", "priority", "deadline_s", "stream"):
        assert getattr(found.work, name) == getattr(work, name)
    arrays = zip((found.work.sequence, found.work.lengths), (work.sequence, work.lengths), strict=True)
    states = zip(found.work.states, work.states, strict=True)
    for given_back, sent in (*arrays, *states):
        assert (given_back is None) == (sent is None)
        if sent is not None:
            assert (given_back.dtype, given_back.shape) == (sent.dtype, sent.shape)
            assert given_back.tobytes() == sent.tobytes()
            assert given_back.flags.aligned
            assert given_back.flags.c_contiguous


@given(works(), st.none() | st.tuples(NUMBERS, st.booleans()))
def test_an_answer_survives_the_way_in_bits(codecs, work, told):
    y = (work.rows, 4) if work.model == "last" else (work.rows, work.steps, 4)
    shapes = {"y": y, "h_n": (1, work.rows, 3), "c_n": (1, work.rows, 3)}
    answer = {name: np.random.default_rng(1).normal(size=shapes[name]).astype(np.float32) for name in work.outputs}
    codec = codecs[work.model]
    asked = codec.unpack_work(only_frame(codec.pack_work(5, work)[0]))

    reply = answer if told is None else StreamAnswer(outputs=answer, step=told[0], is_replayed=told[1])
    frame = only_frame(codec.pack_reply(asked, reply))
    found = codec.unpack_answer(frame)

    assert bool(frame[1]) == (told is not None)
    if told is not None:
        back = stream_answer(frame, found)
        assert (back.step, back.is_replayed, back.outputs) == (*told, found)
    assert found.keys() == answer.keys()
    for name, array in answer.items():
        assert found[name].tobytes() == array.tobytes()
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)


def test_every_cut_or_lengthened_frame_is_refused(codec, make_work):
    work = make_work(rows=3, states=(None, np.ones((1, 3, 3), np.float32)))
    frame = only_frame(codec.pack_work(1, work)[0])
    answer = only_frame(codec.pack_answer(WorkFrame(1, 1, work), {"y": np.ones((3, 2, 4), np.float32)}))

    for size in range(len(frame)):
        with pytest.raises(FrameError):
            codec.unpack_work(frame[:size])
    for size in range(len(answer)):
        with pytest.raises(FrameError):
            codec.unpack_answer(answer[:size])
    with pytest.raises(FrameError, match="size"):
        codec.unpack_work(frame + b"\0")
    with pytest.raises(FrameError, match="size"):
        codec.unpack_answer(answer + b"\0")


@pytest.mark.parametrize(
    ("stream", "flags", "place", "value", "words"),
    [
        (StreamRef(id=7), 2, 0, b"", "stream: expected odd flags below 32, found 2"),
        (StreamRef(id=7), 33, 0, b"", "stream: expected odd flags below 32, found 33"),
        (StreamRef(id=7), None, None, b"", "stream: expected 16 bytes, found 15"),
        (StreamRef(id="abc"), None, 56, b"\0", "stream: expected a text of 1 .. 1024 bytes, found 0"),
        (StreamRef(id="abc"), None, 56, b"\xff\xff", "stream: expected a text of 1 .. 1024 bytes, found 65535"),
        (StreamRef(id="abc"), None, 56, b"\xff\3", "stream: expected a text of 1 .. 1024 bytes, found 1023"),
        (StreamRef(id="abc"), None, 64, b"\xff", "stream: expected UTF-8"),
    ],
)
def test_a_block_that_is_none_is_refused(codec, make_work, stream, flags, place, value, words):
    frame = bytearray(only_frame(codec.pack_work(1, make_work(stream=stream))[0]))
    frame[1] = frame[1] if flags is None else flags
    if place is None:
        frame = frame[: 48 + 15]
    else:
        frame[place : place + len(value)] = value

    with pytest.raises(FrameError, match=words):
        codec.unpack_work(frame)


def test_every_cut_frame_of_a_stream_is_refused(codec, make_work):
    work = make_work(rows=3, stream=StreamRef(id="abc", step=5))
    frame = only_frame(codec.pack_work(1, work)[0])
    reply = StreamAnswer(outputs={"y": np.ones((3, 2, 4), np.float32)}, step=5)
    answer = only_frame(codec.pack_reply(WorkFrame(1, 1, work), reply))

    for size in range(len(frame)):
        with pytest.raises(FrameError):
            codec.unpack_work(frame[:size])
    for size in range(len(answer)):
        with pytest.raises(FrameError):
            codec.unpack_answer(answer[:size])


def test_what_belongs_to_no_stream_costs_no_byte_more(codec, make_work):
    pieces, size = codec.pack_work(1, make_work())

    assert len(only_frame(pieces)) == size == 48 + 8 + 16


@pytest.mark.parametrize("place", [40, 44], ids=["B", "T"])
@pytest.mark.parametrize("value", [0, 2**32 - 1])
def test_an_axis_of_zero_or_beyond_all_is_refused(codec, make_work, place, value):
    frame = bytearray(only_frame(codec.pack_work(1, make_work())[0]))
    struct.pack_into("<I", frame, place, value)

    with pytest.raises(FrameError):
        codec.unpack_work(frame)


@pytest.mark.parametrize("place", [24, 32], ids=["outputs", "states"])
def test_tensors_that_the_signature_has_not_are_refused(codec, make_work, place):
    frame = bytearray(only_frame(codec.pack_work(1, make_work())[0]))
    struct.pack_into("<Q", frame, place, 1 << 60)

    with pytest.raises(FrameError, match="those of the signature"):
        codec.unpack_work(frame)


def test_a_head_too_short_for_a_model_is_refused():
    with pytest.raises(FrameError, match="head: expected 4 bytes, found 3"):
        model_of(bytes([Kind.WORK, 0, 0]))


@pytest.mark.parametrize("wrong", [np.ones((1, 2, 4)), np.ones((1, 3, 4), np.float32)], ids=["dtype", "shape"])
def test_an_answer_that_the_signature_does_not_allow_is_our_own_fault(codec, make_work, wrong):
    with pytest.raises(EngineError, match=r"y: expected float32 \(1, 2, 4\), found float"):
        codec.pack_answer(WorkFrame(1, 1, make_work()), {"y": wrong})


def test_shapes_of_any_form_are_told_by_their_axes():
    specs = {"x": ("B", "T", 2), "s": ("B",), "o": (3, "T", 2, "B"), "p": ("B", "T")}
    tensors = {name: TensorSpec(name=name, dtype="float32", shape=shape) for name, shape in specs.items()}
    pair = StatePair(input="s", output="s")
    outputs = (tensors["o"], tensors["p"], tensors["s"])
    graph = GraphSignature(
        inputs=(tensors["x"], tensors["s"]), outputs=outputs, sequence="x", lengths=None, state=(pair,)
    )
    codec = ModelCodec(0, "odd", graph)
    state = np.arange(4, dtype=np.float32)
    work = Work(
        model="odd",
        sequence=np.ones((4, 5, 2), np.float32),
        lengths=np.full(4, 5, np.int32),
        states=(state,),
        outputs=("o", "p", "s"),
    )
    answer = {"o": np.ones((3, 5, 2, 4), np.float32), "p": np.ones((4, 5), np.float32), "s": state}
    asked = codec.unpack_work(only_frame(codec.pack_work(1, work)[0]))

    found = codec.unpack_answer(only_frame(codec.pack_answer(asked, answer)))

    assert asked.work.states[0].tolist() == [0, 1, 2, 3]
    assert {name: array.shape for name, array in found.items()} == {"o": (3, 5, 2, 4), "p": (4, 5), "s": (4,)}


def test_more_outputs_than_a_frame_can_name_are_refused_at_the_start():
    x = TensorSpec(name="x", dtype="float32", shape=("B", "T", 2))
    many = tuple(TensorSpec(name=f"y{number}", dtype="float32", shape=("B", 1)) for number in range(65))

    with pytest.raises(
        ServerStartError, match="model many: expected at most 64 of each in a frame, found 0 states and 65"
    ):
        ModelCodec(0, "many", GraphSignature(inputs=(x,), outputs=many, sequence="x", lengths=None))
