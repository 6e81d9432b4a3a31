"""Requests as bytes, held against the protocol's page; answers from bytes that were written by hand."""

import json

import numpy as np
import pytest

from cellgate.client.errors import AnswerError, InferenceError, InputError
from cellgate.client.infer_message import Prediction, Reply, pack_infer, unpack_infer
from cellgate.client.model_facts import AnswerSteps


def reply(head, tail=b"", status=200, length=True):
    text = json.dumps(head).encode()
    headers = {"inference-header-content-length": str(len(text))} if length else {}
    return Reply(status=status, headers=headers, content=text + tail)


def test_a_request_is_a_head_and_then_the_tensors_in_its_order():
    x, lengths = np.array([[[1.5]]], "<f4"), np.array([1], "<i4")

    call = pack_infer("a b", {"x": x, "lengths": lengths}, ["y"], {"sequence_id": "s"})

    split = int(call.headers["Inference-Header-Content-Length"])
    assert (call.method, call.path) == ("POST", "/v2/models/a%20b/infer")
    assert call.content[split:] == x.tobytes() + lengths.tobytes()
    assert json.loads(call.content[:split]) == {
        "inputs": [
            {"name": "x", "shape": [1, 1, 1], "datatype": "FP32", "parameters": {"binary_data_size": 4}},
            {"name": "lengths", "shape": [1], "datatype": "INT32", "parameters": {"binary_data_size": 4}},
        ],
        "parameters": {"sequence_id": "s", "binary_data_output": True},
        "outputs": [{"name": "y"}],
    }


def test_binary_and_json_outputs_may_stand_side_by_side():
    head = {
        "model_version": "3",
        "parameters": {"replayed": True},
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}},
            {"name": "n", "datatype": "INT64", "shape": [1], "data": [5]},
        ],
    }

    found = unpack_infer(reply(head, np.array([1, 2], "<f4").tobytes()))

    assert {name: array.tolist() for name, array in found.items()} == {"y": [[1, 2]], "n": [5]}
    assert (found.model_version, found.parameters) == ("3", {"replayed": True})
    assert found["y"].flags.writeable


def test_an_answer_without_binary_outputs_is_all_json():
    found = unpack_infer(
        reply({"outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [2]}]}, length=False)
    )

    assert found["y"].tolist() == [2]


@pytest.mark.parametrize(
    "wrong",
    [
        reply({"nothing": 1}),
        reply([1]),
        reply({"outputs": [{"name": "y", "datatype": "FP32", "shape": [3], "parameters": {"binary_data_size": 4}}]}),
        reply({"outputs": [{"name": "y", "datatype": "BYTES", "shape": [1], "data": ["a"]}]}),
        Reply(status=200, headers={}, content=b"<html>"),
        Reply(status=200, headers={"inference-header-content-length": "many"}, content=b"{}"),
    ],
    ids=["no-outputs", "no-object", "short", "no-number", "html", "odd-length"],
)
def test_an_answer_that_is_none_is_told_as_such(wrong):
    with pytest.raises(AnswerError, match="expected an inference response"):
        unpack_infer(wrong)


def test_a_refusal_is_told_in_the_servers_words():
    with pytest.raises(InferenceError, match=r"no such step \(status 409\)") as found:
        unpack_infer(reply({"error": "no such step", "code": "step_gap", "expected_step": 4}, status=409, length=False))

    assert (found.value.status, found.value.code, found.value.facts) == (409, "step_gap", {"expected_step": 4})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"Bad Gateway", "Bad Gateway"),
        (b"[1]", r"\[1\]"),
        (b"", "the server said nothing"),
        (b'{"error": null, "code": null}', "null"),
    ],
)
def test_a_refusal_without_an_error_object_is_told_as_it_came(content, expected):
    with pytest.raises(InferenceError, match=expected) as found:
        unpack_infer(Reply(status=500, headers={}, content=content))

    assert found.value.code == ""


def test_a_prediction_is_a_mapping_that_shows_its_shapes():
    found = Prediction({"y": np.zeros((2, 3))}, np.array([3, 1]))

    assert (list(found), len(found), repr(found)) == (["y"], 1, "Prediction(y [2, 3])")


def test_rows_of_an_answer_are_as_long_as_their_sequences():
    per_step = {"y": np.arange(6).reshape(2, 3)}

    assert [row.tolist() for row in Prediction(per_step, np.array([3, 1])).rows("y")] == [[0, 1, 2], [3]]
    assert [row.tolist() for row in Prediction(per_step).rows("y")] == [[0, 1, 2], [3, 4, 5]]


def test_an_output_that_has_no_row_for_each_sequence_is_not_cut_into_any():
    state = Prediction({"h_n": np.zeros((1, 2, 3))}, np.array([3, 1]))

    with pytest.raises(InputError, match=r"h_n: expected an output with 2 rows, found shape \[1, 2, 3\]"):
        state.rows("h_n")


def test_rows_of_an_answer_for_fewer_steps_are_cut_to_what_is_left_of_each():
    found = Prediction({"y": np.arange(6).reshape(2, 3)}, np.array([7, 4]), answer_steps=AnswerSteps(add=-1, divide=2))

    assert [row.tolist() for row in found.rows("y")] == [[0, 1, 2], [3]]
