"""Requests to work, without HTTP: JSON, binary tensors, and both."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cellgate.serve.errors import BadInput
from cellgate.serve.infer import binary_request
from cellgate.serve.infer.infer_request import RequestReader, is_large_answer, is_large_body
from cellgate.serve.settings import Settings
from cellgate.serve.stream_errors import ModelChanged
from cellgate.serve.streams.state_carrier import StateCarrier

from .request_reader import HEAD, LIMITS, make_reader


@pytest.fixture
def reader(served_models):
    return make_reader(served_models)


def test_json_request_becomes_work(reader, make_network, make_request):
    feeds = make_network("steps").feeds(2, 3, [3, 1])

    work, form = reader.read(json.dumps(make_request(feeds, ["h_n", "y"], id="a")).encode(), None)

    assert (work.model, work.rows, work.steps, work.outputs) == ("steps/3", 2, 3, ("h_n", "y"))
    np.testing.assert_array_equal(work.sequence, feeds["x"])
    np.testing.assert_array_equal(work.lengths, [3, 1])
    np.testing.assert_array_equal(work.states[0], feeds["h0"])
    np.testing.assert_array_equal(work.states[1], feeds["c0"])
    assert (work.priority, work.deadline_s) == (0, None)
    assert form.start == b'{"model_name":"steps","model_version":"3","id":"a","outputs":['


def test_a_state_that_the_answer_carries_counts_as_a_part_of_it(served_models, make_network, make_request):
    model, feeds = served_models["steps"], {"x": make_network("steps").feeds(1, 2)["x"]}
    carrier = StateCarrier(model=model, keys=(b"k" * 32,))
    reader = RequestReader(model, replace(LIMITS, max_answer_elements=1 * 2 * 4 + 2 * 3 - 1), carrier=carrier)

    reader.read(json.dumps(make_request(feeds, ["y"])).encode(), None)
    with pytest.raises(BadInput, match="at most 13 elements in the answer, found 14"):
        reader.read(json.dumps(make_request(feeds, ["y"], parameters={"sequence_state": ""})).encode(), None)


def test_a_carried_state_of_other_tensors_is_told_its_version(served_models, make_network, make_request):
    model, other = served_models["steps"], replace(served_models["last"], name="steps", version="4")
    carriers = [StateCarrier(model=each, keys=(b"k" * 32,)) for each in (model, other)]
    old = RequestReader(model, LIMITS, carrier=carriers[0])
    reader = RequestReader(other, LIMITS, carrier=carriers[1], elsewhere={model.digest: old}.get)
    zeros = dict.fromkeys(carriers[0].streams.states, np.zeros((1, 1, 3), np.float32))
    parameters = {"sequence_state": carriers[0].sign(zeros, 1, 0)}
    feeds = {"x": make_network("steps").feeds(1, 2)["x"]}

    with pytest.raises(ModelChanged, match=r"sequence_state: expected it to go on .*; name its version: /versions/3"):
        reader.read(json.dumps(make_request(feeds, ["y"], parameters=parameters)).encode(), None)


def test_what_is_left_out_is_all_steps_and_no_state(reader, pack_binary, make_network):
    body, head_bytes = pack_binary({"x": make_network("steps").feeds(3, 4)["x"]})

    work, _ = reader.read(body, head_bytes)

    assert (work.lengths.dtype, work.lengths.tolist(), work.states) == ("int32", [4, 4, 4], (None, None))
    assert work.outputs == ("y",)


@pytest.mark.parametrize("kind", ["steps", "last", "tokens"])
def test_binary_request_is_the_same_work_as_the_json_one(served_models, make_network, make_request, pack_binary, kind):
    feeds = make_network(kind).feeds(2, 5)
    reader = make_reader(served_models, kind)

    from_json, _ = reader.read(json.dumps(make_request(feeds)).encode(), None)
    from_binary, _ = reader.read(*pack_binary(feeds))

    for name in ("sequence", "lengths"):
        np.testing.assert_array_equal(getattr(from_binary, name), getattr(from_json, name))
        assert getattr(from_binary, name).dtype == getattr(from_json, name).dtype
    for one, other in zip(from_binary.states, from_json.states, strict=True):
        np.testing.assert_array_equal(one, other)


def test_binary_tensors_come_in_the_order_of_the_head_and_others_may_stay_in_it(reader, make_network, pack_binary):
    feeds = make_network("steps").feeds(2, 3, [2, 3])
    shuffled = {name: feeds[name] for name in ("c0", "x", "lengths", "h0")}

    work, _ = reader.read(*pack_binary(shuffled, in_json=("lengths",)))

    np.testing.assert_array_equal(work.sequence, feeds["x"])
    np.testing.assert_array_equal(work.lengths, [2, 3])
    np.testing.assert_array_equal(work.states[1], feeds["c0"])


@pytest.mark.parametrize("extra", range(8))
def test_tensor_is_a_view_of_the_body_unless_it_lies_at_an_odd_place(reader, make_network, pack_binary, extra):
    feeds = {"x": make_network("steps").feeds(1, 3)["x"]}
    body, head_bytes = pack_binary(feeds, id="a" * extra)

    work, _ = reader.read(body, head_bytes)

    place = np.frombuffer(body, np.uint8)
    even = (place.ctypes.data + head_bytes) % 4 == 0
    assert np.shares_memory(work.sequence, place) is even
    assert work.sequence.flags.aligned
    assert work.sequence.flags.c_contiguous
    np.testing.assert_array_equal(work.sequence, feeds["x"])


def test_integers_are_widened_and_narrowed_to_what_the_graph_takes(served_models, pack_binary):
    tokens = make_reader(served_models, "tokens").read(*pack_binary({"tokens": np.array([[1, 4]], np.int32)}))[0]
    lengths = make_reader(served_models).read(
        *pack_binary({"x": np.zeros((1, 2, 2), np.float32), "lengths": np.array([1], np.int64)})
    )[0]

    assert (tokens.sequence.dtype, tokens.sequence.tolist()) == ("int64", [[1, 4]])
    assert (lengths.lengths.dtype, lengths.lengths.tolist()) == ("int32", [1])


def test_raw_body_is_one_row_of_the_sequence_and_all_outputs_are_binary(reader, make_network):
    x = make_network("steps").feeds(1, 5)["x"]

    work, form = reader.read(x.tobytes(), 0)

    np.testing.assert_array_equal(work.sequence, x)
    assert work.outputs == ("y",)
    assert [output.binary for output in form.outputs] == [True]


def test_raw_tokens_are_wide_integers(served_models):
    work, _ = make_reader(served_models, "tokens").read(np.array([3, 1, 2]).tobytes(), 0)

    assert work.sequence.tolist() == [[3, 1, 2]]


@pytest.mark.parametrize("size", [0, 1, 7, 9, 12])
def test_raw_body_of_no_whole_number_of_steps_is_refused(reader, size):
    with pytest.raises(BadInput, match=rf"body: expected steps of 8 bytes each, FP32, .* found {size} bytes"):
        reader.read(bytes(size), 0)


def test_raw_body_keeps_the_limits(reader):
    with pytest.raises(BadInput, match="at most 64 steps, found 65"):
        reader.read(bytes(65 * 8), 0)


@pytest.mark.parametrize(
    ("changes", "blob", "message"),
    [
        ({}, bytes(15), r"body: expected \d+ bytes of JSON and 16 of binary tensors, found \d+ bytes"),
        ({}, bytes(17), "is the length of the JSON alone"),
        ({}, b"", "and 16 of binary tensors"),
        ({"parameters": {"binary_data_size": 15}}, bytes(15), r"expected 16 bytes for FP32 \[1, 2, 2\], found 15"),
        ({"parameters": {"binary_data_size": 0}}, bytes(16), "expected 16 bytes"),
        ({"parameters": {"binary_data_size": -16}}, bytes(16), "expected a number of bytes, found -16"),
        ({"parameters": {"binary_data_size": 2**64 + 16}}, bytes(16), "expected a number of bytes, found 1.8"),
        ({"parameters": {"binary_data_size": 2**63}}, bytes(16), "expected 16 bytes"),
        ({"shape": [1, 2**31 - 1, 2]}, bytes(16), "at most 64 steps"),
        ({"shape": [16, 2**60 + 2, 2]}, bytes(16), "found 1152921504606846978"),
        ({"shape": [1, 0, 2]}, b"", "found 0"),
        ({"datatype": "BYTES"}, bytes(16), "expected FP32, found 'BYTES'"),
        ({"datatype": "BF16"}, bytes(16), "expected FP32, found 'BF16'"),
        ({"datatype": "FP64"}, bytes(16), "expected FP32, found 'FP64'"),
        ({}, np.array([0, 1, np.nan, 0], "<f4").tobytes(), r"expected finite values, found nan at \[0, 1, 0\]"),
        ({}, np.array([np.inf, 1, 0, 0], "<f4").tobytes(), r"found inf at \[0, 0, 0\]"),
    ],
)
def test_binary_tensor_that_does_not_fit_is_refused(reader, changes, blob, message):
    text = json.dumps({"inputs": [{**HEAD, **changes}]}).encode()

    with pytest.raises(BadInput, match=message):
        reader.read(text + blob, len(text))


def test_sizes_of_two_tensors_are_held_to_each_shape_not_only_to_the_sum(reader):
    state = {"name": "h0", "shape": [1, 1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    text = json.dumps({"inputs": [{**HEAD, "parameters": {"binary_data_size": 12}}, state]}).encode()

    with pytest.raises(BadInput, match=r"inputs\.x\.parameters\.binary_data_size: expected 16 bytes"):
        reader.read(text + bytes(28), len(text))


def test_no_array_is_made_before_every_size_is_right(reader, monkeypatch):
    monkeypatch.setattr(binary_request.np, "ndarray", lambda *_args: pytest.fail("an array was made"))

    for tensor, blob in (({**HEAD, "parameters": {"binary_data_size": 12}}, 12), (HEAD, 15), (HEAD, 10**6)):
        text = json.dumps({"inputs": [tensor]}).encode()
        with pytest.raises(BadInput):
            reader.read(text + bytes(blob), len(text))


@pytest.mark.parametrize("beyond", [1, 10**17])
def test_head_beyond_the_body_is_refused(reader, beyond):
    with pytest.raises(BadInput, match="Inference-Header-Content-Length: expected at most the 2 bytes of the body"):
        reader.read(b"{}", 2 + beyond)


def test_binary_tensors_without_the_header_are_told_what_is_missing(reader, pack_binary):
    text = json.dumps({"inputs": [HEAD]}).encode()

    with pytest.raises(BadInput, match="Inference-Header-Content-Length: expected it, for there are binary tensors"):
        reader.read(text, None)


def test_header_may_name_the_whole_body(reader, make_network, make_request):
    body = json.dumps(make_request({"x": make_network("steps").feeds(1, 2)["x"]})).encode()

    assert reader.read(body, len(body))[0].steps == 2


@pytest.mark.parametrize(
    ("body_bytes", "head_bytes", "large"),
    [(2**18, None, False), (2**18 + 1, None, True), (2**18 + 1, 100, False), (2**22 + 1, 100, True), (2**22, 0, False)],
)
def test_large_is_what_takes_long_to_read(body_bytes, head_bytes, large):
    assert is_large_body(body_bytes, head_bytes) is large


@pytest.mark.parametrize(("binary", "large"), [(False, True), (True, False)])
def test_large_answer_is_one_that_takes_long_to_write(served_models, pack_binary, binary, large):
    reader = RequestReader(served_models["steps"], Settings().limits)
    x = {"x": np.zeros((1, 5000, 2), np.float32)}

    form = reader.read(*pack_binary(x, parameters={"binary_data_output": binary}))[1]

    assert is_large_answer(form) is large
