"""What only a message of gRPC can say wrongly, and what a stream of them promises."""

import grpc
import numpy as np
import pytest

from cellgate.serve.rpc import inference_pb2 as messages

from .request import Tensor
from .rpc_wire import PATIENCE_S, SERVICE, call, message_of, read_answer


@pytest.fixture
def facts(models):
    return models[0]


@pytest.fixture
def raw(facts):
    return message_of(facts.request(), raw=True)


@pytest.fixture
def refuse(channel):
    """Send what must be refused as invalid, and return the sentence."""

    def send(message):
        body = message if isinstance(message, bytes) else message.SerializeToString()
        found, status = call(channel, "ModelInfer", body)
        assert found is None
        assert status.status == "INVALID_ARGUMENT", status
        return status.error

    return send


def test_more_blobs_than_inputs_are_refused(raw, refuse):
    raw.raw_input_contents.append(b"1234")

    assert "raw_input_contents" in refuse(raw)


def test_fewer_blobs_than_inputs_are_refused(facts, refuse):
    message = message_of(facts.request().with_more(Tensor.of("more", "FP32", np.ones(1, np.float32))), raw=True)
    del message.raw_input_contents[-1]

    assert "raw_input_contents" in refuse(message)


def test_an_input_with_a_blob_and_with_elements_is_refused(facts, raw, refuse):
    raw.inputs[0].contents.CopyFrom(message_of(facts.request(), raw=False).inputs[0].contents)

    assert "contents" in refuse(raw)


def test_elements_in_the_field_of_another_datatype_are_refused(facts, refuse):
    message = message_of(facts.request(), raw=False)
    message.inputs[0].contents.Clear()
    message.inputs[0].contents.fp64_contents.extend([1.0] * 4)

    assert "fp64_contents" in refuse(message)


def test_elements_in_two_fields_are_refused(facts, refuse):
    message = message_of(facts.request(), raw=False)
    message.inputs[0].contents.bool_contents.append(True)

    assert "bool_contents" in refuse(message)


def test_a_half_precision_input_has_no_typed_field(facts, refuse):
    message = message_of(facts.request(), raw=False)
    message.inputs[0].datatype = "FP16"

    assert "FP16" in refuse(message)


def test_a_parameter_without_a_value_is_refused(raw, refuse):
    raw.parameters["mine"].SetInParent()

    assert "mine" in refuse(raw)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\xff" * 20, id="an endless varint"),
        pytest.param(b"\x0a\x05abc", id="less than it says"),
        pytest.param(b"\x0b", id="a group"),
        pytest.param(b"\x0a\x02\xff\xfe", id="text that is not UTF-8"),
        pytest.param(b"\x2a\x02\xff\xff", id="an input that is none"),
        pytest.param(b"\x2a\x00" * 5000, id="five thousand empty inputs"),
        pytest.param(b"\x2a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", id="a length of 2**63"),
    ],
)
def test_bytes_that_are_no_request_are_the_clients_fault(refuse, body):
    assert refuse(body)


def test_an_empty_message_asks_for_a_model_without_a_name(channel):
    _, status = call(channel, "ModelInfer", b"")

    assert status.status == "NOT_FOUND"


@pytest.mark.parametrize(
    ("service", "method"),
    [
        (SERVICE, "SystemSharedMemoryRegister"),
        (SERVICE, "CudaSharedMemoryRegister"),
        (SERVICE, "TraceSetting"),
        (SERVICE, "LogSettings"),
        (SERVICE, "modelinfer"),
        ("/inference.Other", "ModelInfer"),
        ("", "ModelInfer"),
        (f"/{SERVICE}", "ModelInfer"),
    ],
)
def test_a_call_that_is_not_served_is_unimplemented(channel, service, method):
    _, status = call(channel, method, b"", service=service)

    assert status.status == "UNIMPLEMENTED"


def test_a_compressed_message_is_refused_before_it_is_inflated(channel, raw):
    _, status = call(channel, "ModelInfer", raw.SerializeToString(), compression=grpc.Compression.Gzip)

    assert status.status == "UNIMPLEMENTED"


def test_the_id_and_its_error_come_back_and_the_stream_goes_on(channel, facts):
    good, wrong = facts.request(id="good"), facts.request(id="wrong", outputs=("nothing",))
    sent = [message_of(request, raw=True).SerializeToString() for request in (good, wrong, good)]
    answers = ask_stream(channel, [sent[0], b"\xff", sent[1], sent[2]])
    failed = [answer for answer in answers if answer.error_message]

    assert len(answers) == 4
    assert sorted(answer.infer_response.id for answer in failed) == ["", "wrong"]
    assert all(one.infer_response.parameters["grpc_status"].string_param == "INVALID_ARGUMENT" for one in failed)
    for answer in answers:
        if not answer.error_message:
            assert read_answer(answer.infer_response).fields["id"] == "good"


def test_a_stream_answers_each_of_a_thousand_requests_once(channel, facts):
    def requests():
        for number in range(1000):
            yield message_of(
                facts.request(rows=1, steps=facts.least + number % 7, id=f"n{number}"), raw=True
            ).SerializeToString()

    answers = ask_stream(channel, requests())
    steps = {answer.infer_response.id: answer.infer_response.outputs[0].shape[1] for answer in answers}

    assert not any(answer.error_message for answer in answers)
    assert sorted(steps) == sorted(f"n{number}" for number in range(1000))
    if len(facts.outputs[next(iter(facts.outputs))]["shape"]) == 3:
        assert all(found == 1 + int(name[1:]) % 7 for name, found in steps.items())


def test_a_stream_without_requests_ends(channel):
    assert ask_stream(channel, []) == []


def ask_stream(channel, sent):
    stream = channel.stream_stream(f"{SERVICE}/ModelStreamInfer")
    return [messages.ModelStreamInferResponse.FromString(found) for found in stream(iter(sent), timeout=PATIENCE_S)]
