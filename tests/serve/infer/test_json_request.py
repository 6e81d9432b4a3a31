import json

import pytest

from cellgate.serve.engine.work import StreamRef
from cellgate.serve.errors import BadInput
from cellgate.serve.infer.json_data import array_from_json
from cellgate.serve.infer.json_request import parse_request
from cellgate.serve.infer.request_record import RequestRecord, TensorRecord

X = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}


def parse(**fields):
    return parse_request(json.dumps({"inputs": [X], **fields}).encode())


def refuse(request, message):
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    with pytest.raises(BadInput, match=message):
        parse_request(body)


def test_request_is_parsed_whole():
    found = parse(id="7", parameters={"a": 1, "b": True, "c": "d", "e": 1.5}, outputs=[{"name": "h_n"}, {"name": "y"}])

    assert found == RequestRecord("7", (TensorRecord("x", "FP32", (1, 2), [1, 2]),), ("h_n", "y"))


@pytest.mark.parametrize("empty", [{}, {"id": None, "parameters": None, "outputs": None}, {"outputs": []}])
def test_null_and_nothing_stand_for_absent_fields(empty):
    assert parse(**empty) == RequestRecord(None, (TensorRecord("x", "FP32", (1, 2), [1, 2]),), ())


def test_name_of_the_model_is_taken_and_ignored_as_kserve_sends_it():
    assert parse(model_name="whatever").id is None


def test_extensions_that_clients_announce_without_using_them_are_fine():
    quiet = {"binary_data_output": False, "sequence_id": 0, "priority": 0, "timeout": 0, "sequence_start": False}

    assert parse(parameters=quiet, outputs=[{"name": "y", "parameters": {"classification": 0}}]) == parse(
        outputs=[{"name": "y"}]
    )


def test_binary_outputs_are_told_for_all_and_for_each():
    wanted = [{"name": "y", "parameters": {"binary_data": False}}, {"name": "h_n", "parameters": {"binary_data": True}}]

    found = parse(parameters={"binary_data_output": True}, outputs=[*wanted, {"name": "c_n"}])

    assert found.outputs == ("y", "h_n", "c_n")
    assert (found.binary_outputs, found.binary) == (True, {"y": False, "h_n": True})


def test_binary_input_has_a_size_and_no_data():
    head = {key: value for key, value in X.items() if key != "data"}

    for item in (
        {**head, "parameters": {"binary_data_size": 8}},
        {**head, "parameters": {"binary_data_size": 8}, "data": None},
    ):
        assert parse(inputs=[item]).inputs == (TensorRecord("x", "FP32", (1, 2), None, 8),)


@pytest.mark.parametrize(
    ("parameters", "priority", "timeout_s"),
    [
        ({}, 0, None),
        ({"priority": 1}, 4, None),
        ({"priority": 5}, 0, None),
        ({"priority": 9}, -4, None),
        ({"timeout": 1}, 0, 1e-6),
        ({"timeout": 2**53, "priority": False}, 0, 2**53 / 1e6),
    ],
)
def test_priority_one_is_the_highest_and_the_timeout_is_in_microseconds(parameters, priority, timeout_s):
    found = parse(parameters=parameters)

    assert (found.priority, found.timeout_s) == (priority, timeout_s)


@pytest.mark.parametrize(
    ("parameters", "stream"),
    [
        ({"sequence_id": 7}, StreamRef(id=7)),
        ({"sequence_id": "7", "sequence_start": False}, StreamRef(id="7")),
        (
            {"sequence_id": 2**64 - 1, "sequence_start": True, "sequence_end": True, "sequence_step": 0},
            StreamRef(id=2**64 - 1, is_start=True, is_end=True, step=0),
        ),
        ({"sequence_id": "ä" * 128, "sequence_step": 2**64 - 1}, StreamRef(id="ä" * 128, step=2**64 - 1)),
        ({"sequence_id": ""}, None),
        ({}, None),
    ],
)
def test_a_stream_has_an_id_two_flags_and_a_step(parameters, stream):
    assert parse(parameters=parameters).stream == stream


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[NaN]", b'{"inputs": [Infinity]}', b'{"id": "\\ud800"}', b"\xff", b"[" * 100_000, b"\x00"],
    ids=["empty", "cut", "nan", "infinity", "surrogate", "no-utf8", "deep", "nul"],
)
def test_what_is_no_json_is_refused(body):
    refuse(body, "body: expected a JSON inference request, found no JSON")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ([], r"body: expected an object, found \[\]"),
        ({}, "body: expected the field inputs, found only none"),
        ({"input": [X]}, "body: expected only the fields id, model_name, .*, found 'input'"),
        ({"inputs": X}, "inputs: expected an array"),
        ({"inputs": [X] * 257}, "inputs: expected at most 256 elements, found 257"),
        ({"inputs": [X], "outputs": [{"name": "y"}] * 257}, "outputs: expected at most 256 elements, found 257"),
        ({"inputs": [3]}, r"inputs\[0\]: expected an object, found 3"),
        ({"inputs": [X], "id": 3}, "id: expected a string of at most 1024 characters, found 3"),
        ({"inputs": [X], "id": "a" * 1025}, "id: expected a string"),
        ({"inputs": [X], "model_name": 1}, "model_name: expected a string"),
        ({"inputs": [X], "parameters": []}, "parameters: expected an object"),
        (
            {"inputs": [X], "parameters": {"a": None}},
            "parameters.'a': expected a string, number or boolean, found None",
        ),
        ({"inputs": [X], "parameters": {"a": {}}}, "parameters.'a': expected a string"),
        (
            {"inputs": [X], "parameters": {"sequence_id": -1}},
            "parameters.sequence_id: expected an integer in 0 .. 18446",
        ),
        ({"inputs": [X], "parameters": {"sequence_id": True}}, "parameters.sequence_id: .* found True"),
        ({"inputs": [X], "parameters": {"sequence_id": 7.0}}, "or text of at most 256 bytes, found 7.0"),
        ({"inputs": [X], "parameters": {"sequence_id": "ä" * 129}}, "text of at most 256 bytes"),
        ({"inputs": [X], "parameters": {"sequence_start": True}}, "parameters.sequence_id: expected it, beside a flag"),
        (
            {"inputs": [X], "parameters": {"sequence_id": "", "sequence_end": True}},
            "parameters.sequence_id: expected it, beside a flag or a step of a stream, found none, or an empty one",
        ),
        ({"inputs": [X], "parameters": {"sequence_step": 0}}, "parameters.sequence_id: expected it"),
        (
            {"inputs": [X], "parameters": {"sequence_id": 1, "sequence_step": -1}},
            "parameters.sequence_step: expected an integer in 0 .. 18446744073709551615, found -1",
        ),
        ({"inputs": [X], "parameters": {"sequence_id": 1, "sequence_step": True}}, "sequence_step: .* found True"),
        ({"inputs": [X], "parameters": {"sequence_id": 1, "sequence_start": 1}}, "expected true or false, found 1"),
        ({"inputs": [{**X, "parameters": {"sequence_id": 1}}]}, r"inputs\[0\].parameters.'sequence_id': expected no"),
        (
            {"inputs": [X], "parameters": {"priority": 10}},
            r"parameters.priority: expected an integer in 0 .. 9, found 10",
        ),
        ({"inputs": [X], "parameters": {"priority": -1}}, r"parameters.priority: expected an integer in 0 .. 9"),
        ({"inputs": [X], "parameters": {"priority": True}}, "found True"),
        ({"inputs": [X], "parameters": {"timeout": 0.5}}, r"parameters.timeout: expected an integer in 0 .. 9007"),
        ({"inputs": [X], "parameters": {"timeout": "1"}}, "parameters.timeout: expected an integer"),
        ({"inputs": [X], "parameters": {"timeout": 2**53 + 1}}, "parameters.timeout: expected an integer"),
        (
            {"inputs": [X], "parameters": {"binary_data_output": 1}},
            "parameters.binary_data_output: expected true or false",
        ),
        ({"inputs": [{**X, "parameters": {"priority": 1}}]}, r"inputs\[0\].parameters.'priority': expected no such"),
        (
            {"inputs": [{**X, "parameters": {"binary_data_size": -1}}]},
            "binary_data_size: expected a number of bytes, found -1",
        ),
        ({"inputs": [{**X, "parameters": {"binary_data_size": 8.0}}]}, r"expected a number of bytes, found 8.0"),
        ({"inputs": [{**X, "parameters": {"binary_data_size": True}}]}, r"expected a number of bytes, found True"),
        ({"inputs": [{**X, "parameters": {"shared_memory_region": "a"}}]}, "'shared_memory_region': expected no such"),
        (
            {"inputs": [X], "outputs": [{"name": "y", "parameters": {"binary_data": 1}}]},
            r"outputs\[0\].parameters.binary_data: expected true or false, found 1",
        ),
        ({"inputs": [X], "parameters": {"triton_x": "on"}}, "parameters.'triton_x': expected no such parameter"),
        ({"inputs": [X], "outputs": {}}, "outputs: expected an array"),
        ({"inputs": [X], "outputs": 1}, "outputs: expected an array, found 1"),
        ({"inputs": [X], "outputs": ["y"]}, r"outputs\[0\]: expected an object, found 'y'; its name is written"),
        ({"inputs": [X], "outputs": [{}]}, r"outputs\[0\]: expected the field name"),
        ({"inputs": [X], "outputs": [{"name": 1}]}, r"outputs\[0\].name: expected a string, found 1"),
        ({"inputs": [X], "outputs": [{"name": "y", "parameters": {"classification": 3}}]}, "'classification'"),
        ({"inputs": [{**X, "name": 1}]}, r"inputs\[0\].name: expected a string, found 1"),
        (
            {"inputs": [{**X, "datatype": "FLOAT"}]},
            r"inputs\[0\].datatype: expected one of BF16, .*, found 'FLOAT'; the model's",
        ),
        ({"inputs": [{**X, "datatype": ["FP32"]}]}, r"inputs\[0\].datatype: expected one of"),
        ({"inputs": [{**X, "extra": 1}]}, r"inputs\[0\]: expected only the fields .*, found 'extra'"),
        ({"inputs": [{**X, "shape": 3}]}, r"inputs\[0\].shape: expected an array, found 3"),
        ({"inputs": [{**X, "shape": []}]}, r"inputs\[0\].shape: expected at least one dimension, found none"),
        ({"inputs": [{**X, "shape": [1] * 9}]}, r"inputs\[0\].shape: expected at most 8 elements, found 9"),
        ({"inputs": [{**X, "shape": [0, 2]}]}, r"inputs\[0\].shape: expected integers in 1 .. 2147483647, found 0"),
        ({"inputs": [{**X, "shape": [-1, 2]}]}, "found -1"),
        ({"inputs": [{**X, "shape": [2**31, 2]}]}, "found 2147483648"),
        ({"inputs": [{**X, "shape": [2**63, 2]}]}, "found 9223372036854775808"),
        ({"inputs": [{**X, "shape": [True, 2]}]}, "found True"),
        ({"inputs": [{**X, "shape": [1.0, 2]}]}, r"found 1\.0"),
    ],
)
def test_wrong_form_is_refused_naming_field_expected_and_found(request_, message):
    refuse(request_, message)


@pytest.mark.parametrize("tensor", [b"\0\0\0\0", b"\xff\xff\x7f\x7f"])
def test_tensors_behind_the_json_without_the_header_are_told_what_is_missing(tensor):
    with pytest.raises(BadInput, match=r"no JSON \(.*\); where tensors follow it, the header Inference-Header-"):
        parse_request(json.dumps({"inputs": [X]}).encode() + tensor)


def test_json_that_is_cut_off_is_told_nothing_of_tensors():
    with pytest.raises(BadInput, match=r"no JSON \(.*\)$"):
        parse_request(json.dumps({"inputs": [X]})[:-1].encode())


@pytest.mark.parametrize("field", ["name", "shape", "datatype"])
def test_input_without_a_required_field_is_refused(field):
    refuse({"inputs": [{key: value for key, value in X.items() if key != field}]}, f"expected the field {field}")


def test_input_without_data_is_refused_and_so_is_one_with_data_twice():
    head = {key: value for key, value in X.items() if key != "data"}

    refuse({"inputs": [head]}, r"inputs\[0\].data: expected it, or the parameter binary_data_size, found neither$")
    refuse({"inputs": [{**head, "data": None}]}, "found neither")
    refuse(
        {"inputs": [{**X, "parameters": {"binary_data_size": 8}}]}, "expected either it or the parameter .* found both"
    )


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs": [], "id": "a", "id": "b"}',
        b'{"inputs": [{"name": "x", "shape": [1], "shape": [2], "datatype": "FP32", "data": [1]}]}',
        b'{"inputs": [], "parameters": {"a": 1, "b:c": 2, "a": 3}}',
        b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [{"a": 1, "a": 2}]}]}',
        b'{"inputs": [], "id": "a", "\\u0069d": "b"}',
    ],
    ids=["top", "input", "parameters", "in-data", "escaped"],
)
def test_field_given_twice_is_refused(body):
    refuse(body, "body: expected every field of an object once, found .* twice")


def test_colons_and_quotes_inside_strings_do_not_count_as_fields():
    assert parse(id='a:"b":\\":', parameters={'":': ":", "\\": "::"}).id == 'a:"b":\\":'


def test_object_among_the_data_is_left_for_whoever_reads_the_data():
    body = json.dumps({"inputs": [{**X, "data": [{"a": 1}]}]}).encode()

    assert parse_request(body).inputs[0].data == [{"a": 1}]


def test_deeply_nested_objects_among_the_data_are_refused():
    nest = b'{"a":' * 1000 + b"1" + b"}" * 1000
    body = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [' + nest + b"]}]}"

    with pytest.raises(BadInput):  # by the slow parser, or where that goes deeper, by whoever reads the data
        array_from_json("x", "FP32", (1,), parse_request(body).inputs[0].data)
