"""What is told of calls: lines of the access log, and traces taken by the SDK's own exporter into memory."""

import asyncio
import json
import logging

import grpc
import numpy as np
import pytest

from cellgate.serve.errors import EngineError, QueueFull
from cellgate.serve.rpc import inference_pb2 as messages
from cellgate.serve.rpc.calls import SERVICE

PATH = f"/{SERVICE}/ModelInfer"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
UNKNOWN = messages.ModelInferRequest(model_name="other")


@pytest.fixture
def lines(caplog):
    """Return the lines of the access log that were written so far."""
    caplog.set_level(logging.INFO, logger="cellgate.access")
    return lambda: [json.loads(record.getMessage()) for record in caplog.records if record.name == "cellgate.access"]


@pytest.fixture
def exporter():
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter):
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    from cellgate.serve.observe.otel_tracing import OtelTracer

    return OtelTracer(SimpleSpanProcessor(exporter))


def by_name(exporter):
    return {span.name: span for span in exporter.get_finished_spans()}


async def trailing_of(call):
    await call
    return dict(await call.trailing_metadata())


async def test_a_call_is_a_line_with_the_keys_of_http(open_asker, make_message, lines):
    async with open_asker(access_log=True) as asker:
        call = asker.call(make_message(), metadata=(("x-request-id", "client-7"),))
        trailing = await trailing_of(call)
        answer = await call

    (line,) = lines()
    assert line.pop("duration_s") > 0
    assert trailing == {"request-id": "client-7"}
    assert line == {
        "protocol": "grpc",
        "method": "ModelInfer",
        "path": PATH,
        "model": "steps",
        "status": 200,
        "answer_bytes": len(answer),
        "grpc_status": "OK",
        "request_id": "client-7",
    }


async def test_every_call_has_a_name_of_its_own_and_no_odd_one_is_taken(open_asker, make_message, lines):
    async with open_asker(access_log=True) as asker:
        for word in (None, "a b", None):
            metadata = () if word is None else (("x-request-id", word),)
            await asker.call(make_message(), metadata=metadata)

    assert len({line["request_id"] for line in lines()} - {"a b"}) == 3


async def test_a_server_that_tells_nothing_names_nothing(open_asker, make_message, lines):
    async with open_asker() as asker:
        trailing = await trailing_of(asker.call(make_message(), metadata=(("x-request-id", "client-7"),)))

    assert trailing == {}
    assert lines() == []


@pytest.mark.parametrize(
    ("method", "body", "model", "status", "code"),
    [
        ("ServerLive", b"", "", 200, "OK"),
        ("ModelInfer", UNKNOWN, "", 404, "NOT_FOUND"),
        ("ModelInfer", messages.ModelInferRequest(model_name="steps"), "steps", 400, "INVALID_ARGUMENT"),
        ("ModelInfer", b"\xff", "", 400, "INVALID_ARGUMENT"),
        ("RepositoryModelLoad", b"", "", 403, "PERMISSION_DENIED"),
        ("NoSuchCall", b"", "", 501, "UNIMPLEMENTED"),
    ],
)
async def test_whatever_the_end_it_is_told(open_asker, lines, method, body, model, status, code):
    async with open_asker(access_log=True) as asker:
        if code == "OK":
            await asker.call(body, method)
        else:
            refusal = await asker.refusal(body, method)
            assert dict(refusal.trailing_metadata())["request-id"] == lines()[0]["request_id"]

    (line,) = lines()
    found = tuple(line[name] for name in ("method", "model", "status", "grpc_status"))
    assert found == (method, model, status, code)


async def test_a_call_without_a_key_is_told_too(open_asker, make_message, lines, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("somebody:" + "k" * 32 + "\n")
    async with open_asker(access_log=True, api_keys_file=str(keys)) as asker:
        await asker.refusal(make_message())
        stream = asker.stream()
        await stream.code()

    found = [(line["method"], line["status"], line["grpc_status"]) for line in lines()]
    assert found == [("ModelInfer", 401, "UNAUTHENTICATED"), ("ModelStreamInfer", 401, "UNAUTHENTICATED")]


@pytest.mark.parametrize("access_log", [True, False])
async def test_a_fault_is_logged_under_the_name_that_the_client_gave(
    open_asker, make_message, make_manual_port, caplog, access_log
):
    async with open_asker(make_manual_port(EngineError("broken")), access_log=access_log) as asker:
        found = await asker.refusal(make_message(), metadata=(("x-request-id", "client-7"),))

    assert dict(found.trailing_metadata())["request-id"] == "client-7"
    assert [record.request_id for record in caplog.records if record.levelno == logging.ERROR] == ["client-7"]


async def test_a_client_that_went_away_is_told_as_such(
    open_asker, make_message, make_manual_port, lines, tracer, exporter
):
    port = make_manual_port()
    async with open_asker(port, tracer, access_log=True) as asker:
        call = asker.call(make_message())
        await port.next_work()
        call.cancel()
        async with asyncio.timeout(30):
            while not port.cancelled:
                await asker.call(b"", "ServerLive")

    (line,) = (line for line in lines() if line["method"] == "ModelInfer")
    assert (line["model"], line["status"], line["grpc_status"]) == ("steps", 499, "CANCELLED")
    attributes = by_name(exporter)["infer steps"].attributes
    assert (attributes["error.type"], attributes["rpc.grpc.status_code"]) == ("client_gone", 1)


async def test_each_answered_request_of_a_stream_is_a_line_named_by_its_number(open_asker, make_message, lines):
    async with open_asker(access_log=True) as asker:
        stream = asker.channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")(
            timeout=30, metadata=(("x-request-id", "client-7"),)
        )
        sizes = []
        for body in (make_message(), UNKNOWN, make_message({"x": np.ones((1, 2, 7), np.float32)})):
            await stream.write(body.SerializeToString())
            sizes.append(len(await stream.read()))
        await stream.done_writing()
        assert await stream.code() is grpc.StatusCode.OK

    keys = ("method", "request_id", "model", "status", "grpc_status")
    assert [tuple(line[key] for key in keys) for line in lines()] == [
        ("ModelStreamInfer", "client-7/1", "steps", 200, "OK"),
        ("ModelStreamInfer", "client-7/2", "", 404, "NOT_FOUND"),
        ("ModelStreamInfer", "client-7/3", "steps", 400, "INVALID_ARGUMENT"),
    ]
    assert [line["answer_bytes"] for line in lines()] == sizes


async def test_a_fault_in_a_stream_is_logged_under_the_request_s_own_name(
    open_asker, make_message, make_manual_port, caplog
):
    async with open_asker(make_manual_port(EngineError("broken")), access_log=True) as asker:
        stream = asker.stream()
        await stream.write(make_message().SerializeToString())
        failed = messages.ModelStreamInferResponse.FromString(await stream.read())
        stream.cancel()

    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert record.request_id.endswith("/1")
    assert failed.infer_response.parameters["request_id"].string_param == record.request_id


@pytest.mark.parametrize("way", ["ModelInfer", "ModelStreamInfer"])
async def test_a_request_is_a_span_with_its_parts_under_the_caller_s(
    open_asker, make_message, make_network, tracer, exporter, way
):
    feeds = {name: make_network("steps").feeds(3, 50, [50, 1, 3])[name] for name in ("x", "lengths")}
    metadata = (("traceparent", f"00-{TRACE}-{PARENT}-01"), ("x-request-id", "client-7"))
    async with open_asker(tracer=tracer) as asker:
        if way == "ModelInfer":
            await asker.call(make_message(feeds), metadata=metadata)
        else:
            stream = asker.channel.stream_stream(f"/{SERVICE}/{way}")(timeout=30, metadata=metadata)
            await stream.write(make_message(feeds).SerializeToString())
            await stream.read()
            stream.cancel()

    spans = by_name(exporter)
    whole = spans["infer steps"]
    parts = [spans[name] for name in ("accept", "queue", "runs", "answer")]
    moments = [moment for part in parts for moment in (part.start_time, part.end_time)]
    assert len(spans) == 5
    assert f"{whole.context.trace_id:032x}" == TRACE
    assert f"{whole.parent.span_id:016x}" == PARENT
    assert [part.parent.span_id for part in parts] == [whole.context.span_id] * 4
    assert moments == sorted(moments)
    assert whole.attributes["cellgate.runs"] > 0
    assert {name: value for name, value in whole.attributes.items() if name != "cellgate.runs"} == {
        "cellgate.model": "steps",
        "cellgate.model.version": "3",
        "cellgate.protocol": "grpc",
        "cellgate.request_id": "client-7" if way == "ModelInfer" else "client-7/1",
        "http.response.status_code": 200,
        "rpc.system": "grpc",
        "rpc.service": SERVICE,
        "rpc.method": way,
        "rpc.grpc.status_code": 0,
    }


@pytest.mark.parametrize(
    ("error", "status", "code", "number"),
    [(QueueFull(1), 503, "queue_full", 8), (ValueError("x"), 500, "internal", 13)],
)
async def test_what_fails_says_how(
    open_asker, make_message, make_manual_port, tracer, exporter, error, status, code, number
):
    async with open_asker(make_manual_port(error), tracer) as asker:
        await asker.refusal(make_message())

    spans = by_name(exporter)
    attributes = spans["infer steps"].attributes
    assert set(spans) == {"infer steps", "accept"}
    found = tuple(attributes[name] for name in ("http.response.status_code", "error.type", "rpc.grpc.status_code"))
    assert found == (status, code, number)


async def test_the_numbers_of_grpc_codes_are_those_of_its_library():
    pytest.importorskip("opentelemetry.sdk")
    from cellgate.serve.observe.otel_tracing import _RPC_CODES

    assert {name: number for number, name in enumerate(_RPC_CODES)} == {
        code.name: code.value[0] for code in grpc.StatusCode
    }


async def test_what_is_no_inference_on_a_served_model_leaves_no_trace(open_asker, tracer, exporter):
    async with open_asker(tracer=tracer) as asker:
        await asker.call(b"", "ServerReady")
        await asker.refusal(UNKNOWN)

    assert exporter.get_finished_spans() == ()
