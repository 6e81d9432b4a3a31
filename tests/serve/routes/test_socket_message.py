"""Messages of a live connection, byte by byte."""

import json

import pytest

from cellgate.serve.errors import BadInput, EngineError
from cellgate.serve.infer.infer_answer import InferAnswer
from cellgate.serve.routes.socket_message import answer_message, error_message, split_message


def test_text_is_json_altogether():
    assert split_message('{"a": "ü"}') == ('{"a": "ü"}'.encode(), None)


def test_a_lone_surrogate_is_left_for_the_parser_to_refuse():
    assert split_message("\ud800")[0] == b"\xed\xa0\x80"


def test_binary_begins_with_the_length_of_the_json():
    assert split_message(b"\x02\0\0\0{}tensors") == (b"{}tensors", 2)


def test_a_length_of_zero_is_a_raw_request():
    assert split_message(b"\0\0\0\0tensor") == (b"tensor", 0)


@pytest.mark.parametrize("message", [b"", b"\1\0\0", b"\x03\0\0\0{}", b"\xff\xff\xff\xff{}"])
def test_a_message_shorter_than_it_says_is_refused(message):
    with pytest.raises(BadInput, match=f"as many, found {len(message)} bytes in all"):
        split_message(message)


def test_an_answer_is_text_where_it_is_json_and_bytes_where_tensors_follow():
    assert answer_message(InferAnswer([b"{", b"}"], None, 2)) == "{}"
    assert answer_message(InferAnswer([b"{}", b"\1"], 2, 3)) == b"\x02\0\0\0{}\x01"


def test_an_error_is_the_object_that_http_answers_with():
    found = json.loads(error_message(BadInput("x", "much", "little")))

    assert found == {"error": "x: expected much, found little", "code": "bad_input"}


@pytest.mark.parametrize(
    ("fault", "code"), [(EngineError("engine: broke"), "engine"), (KeyError("secret"), "internal")]
)
def test_a_fault_of_ours_gives_an_id_and_no_internals(fault, code):
    found = json.loads(error_message(fault))

    assert found["code"] == code
    assert found["request_id"] in found["error"]
    assert "secret" not in found["error"]
