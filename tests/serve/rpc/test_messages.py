"""The messages: wire-compatible with those of other projects, generated from what is committed, apart from others'."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2

import cellgate
from cellgate.serve.engine.work import StreamAnswer
from cellgate.serve.errors import BadInput
from cellgate.serve.infer.answer_form import AnswerForm, OutputForm
from cellgate.serve.rpc import health_pb2, inference_pb2
from cellgate.serve.rpc.answer_message import answer_message, to_parameter
from cellgate.serve.rpc.infer_message import request_parts
from cellgate.serve.rpc.wire_scan import MAX_FIELDS, scan_request

FOLDER = Path(cellgate.__file__).parent / "serve" / "rpc"


@pytest.mark.parametrize("module", [inference_pb2, health_pb2])
def test_what_is_committed_is_what_the_definitions_generate(module, tmp_path):
    pytest.importorskip("grpc_tools")
    name = module.DESCRIPTOR.name
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"--proto_path={FOLDER}",
        f"--descriptor_set_out={tmp_path}/d",
    ]
    subprocess.run([*command, name], check=True)
    (made,) = descriptor_pb2.FileDescriptorSet.FromString((tmp_path / "d").read_bytes()).file
    committed = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)

    assert plain(made) == plain(committed)


def plain(file):
    """Return the definition without the names that one of the two writes down and the other leaves to the rule."""
    for message in file.message_type:
        forget_json_names(message)
    return file


def forget_json_names(message):
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        forget_json_names(nested)


def fields_of(descriptor):
    def kind(field):
        other = field.message_type or field.enum_type
        return other.full_name if other else field.type

    return {field.number: (field.name, kind(field), field.is_repeated) for field in descriptor.fields}


def messages_of(descriptor):
    yield descriptor
    for nested in descriptor.nested_types:
        yield from messages_of(nested)


def test_every_message_and_call_is_on_the_wire_what_tritons_is():
    """Ours lack messages and fields; what they have is the same, but for `properties`, which is the open protocol's."""
    service = pytest.importorskip("tritonclient.grpc.service_pb2")
    config = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    theirs = {}
    for module in (service, config):
        for top in module.DESCRIPTOR.message_types_by_name.values():
            theirs.update({one.full_name: fields_of(one) for one in messages_of(top)})
    theirs["inference.ModelMetadataResponse"][6] = (
        "properties",
        "inference.ModelMetadataResponse.PropertiesEntry",
        True,
    )
    for top in inference_pb2.DESCRIPTOR.message_types_by_name.values():
        for one in messages_of(top):
            if one.full_name != "inference.ModelMetadataResponse.PropertiesEntry":
                assert fields_of(one).items() <= theirs[one.full_name].items(), one.full_name
    ours = inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    calls = service.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
    for call in ours.methods:
        other = calls[call.name]
        assert call.full_name == other.full_name
        assert (call.input_type.full_name, call.output_type.full_name) == (
            other.input_type.full_name,
            other.output_type.full_name,
        )
        assert (call.client_streaming, call.server_streaming) == (other.client_streaming, other.server_streaming)


def test_one_process_may_hold_the_messages_of_others_too():
    pytest.importorskip("tritonclient.grpc")
    code = "import cellgate.serve.rpc.inference_pb2, tritonclient.grpc"

    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_a_scan_finds_the_id_and_the_bytes_that_nobody_parses(make_message):
    message = make_message({"x": np.ones((1, 3, 2), np.float32), "lengths": np.ones(1, np.int32)}, id="one")
    found = scan_request(message.SerializeToString())

    assert (found.id, found.raw_bytes) == ("one", 28)


@pytest.mark.parametrize("tail", [b"\x08\x96\x01", b"\x09" + b"1" * 8, b"\x0d" + b"1" * 4, b"\xfa\x01\x03abc"])
def test_a_scan_steps_over_fields_that_it_does_not_know(make_message, tail):
    body = make_message(id="one").SerializeToString()

    assert scan_request(body + tail) == scan_request(body)


def test_a_scan_stops_at_too_many_fields():
    scan_request(b"\x2a\x00" * MAX_FIELDS)
    with pytest.raises(BadInput, match="at most 1024 fields, found more"):
        scan_request(b"\x2a\x00" * (MAX_FIELDS + 1))


@pytest.mark.parametrize("body", [b"\x2a", b"\x2a\x05ab", b"\x80" * 11, b"\x0b\x0c", b"\x09123", b"\xff"])
def test_a_scan_refuses_what_is_cut_off(body):
    with pytest.raises(BadInput, match="expected a protobuf message"):
        scan_request(body)


@pytest.mark.parametrize(
    ("parameter", "limit", "expected"),
    [(None, None, None), (2_000_000, None, 2.0), (None, 3.0, 3.0), (2_000_000, 3.0, 2.0), (5_000_000, 3.0, 3.0)],
)
def test_the_shorter_of_timeout_and_deadline_holds(make_message, parameter, limit, expected):
    message = make_message()
    if parameter:
        message.parameters["timeout"].int64_param = parameter

    assert request_parts(message, limit)[0].timeout_s == expected


@pytest.mark.parametrize("value", [True, False, 0, -5, 2**63 - 1, 2**63, 2**64 - 1, 0.5, "", "text"])
def test_a_parameter_keeps_its_value_and_its_kind(value):
    parameter = to_parameter(value)
    found = getattr(parameter, parameter.WhichOneof("parameter_choice"))

    assert found == value
    assert type(found) is type(value)


def test_an_output_without_a_typed_field_makes_the_answer_raw():
    half = OutputForm("y", np.dtype("float16"), (2,), True, b"")
    whole = OutputForm("n", np.dtype("int64"), (1,), True, b"")
    start = b'{"model_name":"m","parameters":{"sequence_id":7},"outputs":['
    form = AnswerForm((half, whole), ("y", "n"), start, start, 0, 12)
    arrays = {"y": np.ones(2, np.float16), "n": np.array([7])}

    found = answer_message(form, StreamAnswer(outputs=arrays, step=0, is_replayed=True), raw=False)

    assert list(found.raw_output_contents) == [arrays["y"].tobytes(), arrays["n"].tobytes()]
    assert [output.datatype for output in found.outputs] == ["FP16", "INT64"]
    assert found.model_name == "m"
    assert found.parameters["sequence_id"].int64_param == 7
    assert found.parameters["replayed"].bool_param
