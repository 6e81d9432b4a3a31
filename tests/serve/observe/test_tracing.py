"""Traces of requests, taken by the SDK's own exporter into memory."""

import pytest

pytest.importorskip("opentelemetry.sdk")

import anyio
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from cellgate.serve.connection.hot_protocol import HotProtocol
from cellgate.serve.connection.hot_surface import http_protocol
from cellgate.serve.errors import EngineError, QueueFull
from cellgate.serve.observe.otel_tracing import OtelTracer, make_otel_tracer
from cellgate.serve.settings import Settings

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter):
    return OtelTracer(SimpleSpanProcessor(exporter))


@pytest.fixture
def ask(make_request, make_network):
    feeds = make_network("steps").feeds(3, 50, [50, 1, 3])
    return make_request({name: feeds[name] for name in ("x", "lengths")})


def by_name(exporter):
    return {span.name: span for span in exporter.get_finished_spans()}


async def test_a_request_is_a_span_with_its_parts_in_order(connect, post, ask, tracer, exporter):
    async with connect(tracer=tracer) as client:
        response = await post(client, ask, headers={"X-Request-Id": "client-7"})
        statistics = await client.engine.statistics()

    spans = by_name(exporter)
    whole = spans["infer steps"]
    assert response.status_code == 200
    assert set(spans) == {"infer steps", "accept", "queue", "runs", "answer"}
    assert whole.kind is SpanKind.SERVER
    assert whole.parent is None
    assert dict(whole.attributes) == {
        "cellgate.model": "steps",
        "cellgate.model.version": "3",
        "cellgate.protocol": "http",
        "cellgate.request_id": "client-7",
        "cellgate.runs": statistics["models"]["steps"]["runs"],
        "http.request.method": "POST",
        "http.response.status_code": 200,
    }
    parts = [spans[name] for name in ("accept", "queue", "runs", "answer")]
    assert [part.parent.span_id for part in parts] == [whole.context.span_id] * 4
    moments = [moment for part in parts for moment in (part.start_time, part.end_time)]
    assert moments == sorted(moments)
    # Each moment is turned into a time of day by itself, and rounded to a nanosecond from a float64 of seconds.
    assert moments[0] - whole.start_time == pytest.approx(0, abs=1000)
    assert whole.end_time - moments[-1] == pytest.approx(0, abs=1000)


async def test_the_caller_s_trace_is_taken_over(connect, post, ask, tracer, exporter):
    async with connect(tracer=tracer) as client:
        await post(client, ask, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})

    whole = by_name(exporter)["infer steps"]
    assert f"{whole.context.trace_id:032x}" == TRACE
    assert f"{whole.parent.span_id:016x}" == PARENT


@pytest.mark.parametrize("header", ["", "00", f"00-{'0' * 32}-{PARENT}-01", "ff-x-y-z", "é" * 500])
async def test_a_parent_that_is_none_begins_a_trace_of_its_own(connect, post, ask, tracer, exporter, header):
    async with connect(tracer=tracer) as client:
        response = await post(client, ask, headers={"traceparent": header.encode("latin-1")})

    assert response.status_code == 200
    assert by_name(exporter)["infer steps"].parent is None


async def test_a_caller_that_does_not_sample_is_obeyed(connect, post, ask, tracer, exporter):
    async with connect(tracer=tracer) as client:
        await post(client, ask, headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})

    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize(
    ("error", "status", "code", "is_fault"),
    [
        (QueueFull(1), 503, "queue_full", True),
        (EngineError("broken"), 500, "engine", True),
        (ValueError("x"), 500, "internal", True),
    ],
)
async def test_what_fails_says_how(
    connect, served_models, make_manual_port, post, ask, tracer, exporter, error, status, code, is_fault
):
    async with connect([served_models["steps"]], make_manual_port(error), tracer=tracer) as client:
        assert (await post(client, ask)).status_code == status

    spans = by_name(exporter)
    attributes = spans["infer steps"].attributes
    assert set(spans) == {"infer steps", "accept"}
    assert (attributes["http.response.status_code"], attributes["error.type"]) == (status, code)
    assert (spans["infer steps"].status.status_code is StatusCode.ERROR) is is_fault


async def test_a_bad_request_is_no_fault_of_the_server(connect, post, tracer, exporter):
    async with connect(tracer=tracer) as client:
        await post(client, b"{")

    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes["error.type"] == "bad_input"


async def test_a_client_that_went_away_is_told_as_such(
    connect, served_models, make_manual_port, post, ask, tracer, exporter
):
    port = make_manual_port()
    async with connect([served_models["steps"]], port, tracer=tracer) as client, anyio.create_task_group() as group:
        group.start_soon(post, client, ask)
        await port.next_work()
        group.cancel_scope.cancel()

    assert by_name(exporter)["infer steps"].attributes["error.type"] == "client_gone"


async def test_what_is_no_inference_leaves_no_trace(connect, tracer, exporter):
    async with connect(tracer=tracer) as client:
        await client.get("/v2/health/ready")
        await client.post("/v2/models/nope/infer", content=b"{}")

    assert exporter.get_finished_spans() == ()


async def test_a_traced_server_answers_by_the_route_that_notes_the_moments(connect, tracer):
    async with connect(tracer=tracer) as traced, connect() as plain:
        assert not issubclass(http_protocol(traced.app, Settings()), HotProtocol)
        assert issubclass(http_protocol(plain.app, Settings()), HotProtocol)


def test_a_tracer_of_an_endpoint_sends_nothing_before_there_is_something_to_send():
    make_otel_tracer("http://127.0.0.1:9/v1/traces").close()
