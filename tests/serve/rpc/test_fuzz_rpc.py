"""Generated messages: whatever the bytes are, they are work for the engine or the client's fault, never ours."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellgate.serve.engine.work import Work
from cellgate.serve.errors import BadInput
from cellgate.serve.infer.infer_request import RequestReader
from cellgate.serve.rpc.infer_message import parse_message, request_parts
from cellgate.serve.rpc.inference_pb2 import InferTensorContents, ModelInferRequest
from cellgate.serve.rpc.wire_scan import scan_request
from cellgate.serve.settings import Settings

WORDS = st.sampled_from(
    ["x", "lengths", "h0", "c0", "y", "h_n", "", "FP32", "INT32", "INT64", "FP16", "BOOL", "BYTES", "\0"]
)
SIZES = st.one_of(st.integers(-2, 4), st.sampled_from([2**31, 2**62, -(2**63)]))
FLOATS = st.lists(st.floats(width=32), max_size=13)
INTEGERS = st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5)
NAMES = st.sampled_from(["priority", "timeout", "sequence_id", "sequence_start", "triton_x", "mine"])


@st.composite
def parameters(draw, into):
    for name in draw(st.lists(NAMES, max_size=2)):
        kind = draw(
            st.sampled_from(["bool_param", "int64_param", "string_param", "double_param", "uint64_param", None])
        )
        values = {
            "bool_param": st.booleans(),
            "int64_param": st.integers(-(2**63), 2**63 - 1),
            "string_param": st.text(max_size=3),
            "double_param": st.floats(),
            "uint64_param": st.integers(0, 2**64 - 1),
        }
        into[name].SetInParent() if kind is None else setattr(into[name], kind, draw(values[kind]))


@st.composite
def messages(draw):
    message = ModelInferRequest(model_name="steps", id=draw(st.text(max_size=3)))
    draw(parameters(message.parameters))
    for _ in range(draw(st.integers(0, 3))):
        contents = InferTensorContents(fp32_contents=draw(FLOATS), int_contents=draw(INTEGERS))
        tensor = message.inputs.add(
            name=draw(WORDS), datatype=draw(WORDS), shape=draw(st.lists(SIZES, max_size=4)), contents=contents
        )
        draw(parameters(tensor.parameters))
    for _ in range(draw(st.integers(0, 2))):
        message.outputs.add(name=draw(WORDS))
    message.raw_input_contents.extend(draw(st.lists(st.binary(max_size=24), max_size=3)))
    return message.SerializeToString()


@st.composite
def almost_right(draw):
    """A right message with some of its bytes changed, cut off, or repeated."""
    message = ModelInferRequest(model_name="steps", raw_input_contents=[np.ones(4, "<f4").tobytes(), b"\2\0\0\0"])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 2, 2])
    message.inputs.add(name="lengths", datatype="INT32", shape=[1])
    body = bytearray(message.SerializeToString())
    for _ in range(draw(st.integers(0, 3))):
        body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    start, end = sorted((draw(st.integers(0, len(body))), draw(st.integers(0, len(body)))))
    return bytes(body) if draw(st.booleans()) else bytes(body[:end] + body[start:])


@pytest.fixture(scope="session")
def read(served_models):
    reader = RequestReader(served_models["steps"], Settings().limits)

    def read(body):
        scan_request(body)
        return reader.read_parts(*request_parts(parse_message(body), None))[0]

    return read


@settings(max_examples=400, deadline=None)
@given(body=st.one_of(messages(), almost_right(), st.binary(max_size=60)))
def test_any_bytes_are_work_or_the_clients_fault(read, body):
    work, sentence = None, ""
    try:
        work = read(body)
    except BadInput as err:
        sentence = str(err)
    if work is None:
        assert "expected" in sentence
        assert sentence.isprintable()
    else:
        assert isinstance(work, Work)
        assert np.isfinite(work.sequence).all()
        assert 1 <= work.lengths.min() <= work.lengths.max() <= work.steps
        assert work.outputs


def test_a_right_message_is_work(read):
    message = ModelInferRequest(model_name="steps", raw_input_contents=[np.ones(4, "<f4").tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 2, 2])

    assert read(message.SerializeToString()).sequence.tolist() == [[[1, 1], [1, 1]]]
