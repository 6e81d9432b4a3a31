"""Live connections over real sockets, with another's client."""

import json
import logging

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as connect_socket

from cellgate.serve.models.served_model import BundlePlace

from ..listening import listening

PATIENCE_S = 30


@pytest.fixture(params=[True, False], ids=["hot", "asgi"])
def address(request, bundle_paths, open_served):
    with listening(*open_served(BundlePlace(bundle_paths["steps"], "demo")), hot_route=request.param) as host:
        yield f"ws://{host}/v2/models"


def test_json_and_binary_messages_are_answered_over_a_real_socket(address, make_network, make_request, pack_binary):
    network = make_network("steps")
    x = network.feeds(2, 3)["x"]
    zeros = {name: np.zeros((1, 2, 3), np.float32) for name in ("h0", "c0")}
    expected = network.compute({"x": x, **zeros})["y"]
    body, head_bytes = pack_binary({"x": x}, parameters={"binary_data_output": True})

    with connect_socket(f"{address}/demo/stream", open_timeout=PATIENCE_S) as socket:
        socket.send(json.dumps(make_request({"x": x})))
        socket.send(head_bytes.to_bytes(4, "little") + body)
        text, binary = socket.recv(PATIENCE_S), socket.recv(PATIENCE_S)

    split = 4 + int.from_bytes(binary[:4], "little")
    assert json.loads(binary[4:split])["outputs"][0]["shape"] == [2, 3, 4]
    for found in (json.loads(text)["outputs"][0]["data"], np.frombuffer(binary[split:], "<f4")):
        np.testing.assert_allclose(np.reshape(found, expected.shape), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("path", "status", "code"), [("other", 404, "unknown_model"), ("demo/versions/9", 404, None)])
def test_an_unknown_model_is_refused_as_http(address, path, status, code):
    with pytest.raises(InvalidStatus) as found, connect_socket(f"{address}/{path}/stream", open_timeout=PATIENCE_S):
        pass

    assert found.value.response.status_code == status
    assert json.loads(found.value.response.body)["code"] == (code or "unknown_model")


def test_a_version_may_be_named(address):
    with connect_socket(f"{address}/demo/versions/3/stream", open_timeout=PATIENCE_S) as socket:
        socket.send("{}")

        assert "the field inputs" in json.loads(socket.recv(PATIENCE_S))["error"]


def test_a_message_above_the_limit_closes_the_connection(bundle_paths, open_served):
    served = open_served(BundlePlace(bundle_paths["steps"], "demo"))
    with (
        listening(*served, max_body_bytes=2048) as host,
        connect_socket(f"ws://{host}/v2/models/demo/stream", open_timeout=PATIENCE_S) as socket,
    ):
        socket.send("x" * 4096)
        with pytest.raises(ConnectionClosed) as found:
            socket.recv(PATIENCE_S)

    assert found.value.rcvd.code == 1009


def test_a_server_that_is_not_ready_refuses_as_http(served_models, make_manual_port):
    port = make_manual_port()
    with listening(list(served_models.values()), port) as host:
        port.is_ready = False
        url = f"ws://{host}/v2/models/steps/stream"
        with pytest.raises(InvalidStatus) as found, connect_socket(url, open_timeout=PATIENCE_S):
            pass

    assert found.value.response.status_code == 503
    assert found.value.response.headers["retry-after"] == "1"


@pytest.fixture
def lines(caplog):
    """Return the lines of the access log that were written so far."""
    caplog.set_level(logging.INFO, logger="cellgate.access")
    return lambda: [json.loads(record.getMessage()) for record in caplog.records if record.name == "cellgate.access"]


def test_each_answered_message_is_a_line_named_by_the_connection_and_its_number(
    bundle_paths, open_served, message, lines
):
    served = open_served(BundlePlace(bundle_paths["steps"], "demo"))
    headers = {"X-Request-Id": "client-7"}
    with listening(*served, access_log=True) as address:
        with connect_socket(f"ws://{address}/v2/models/demo/stream", additional_headers=headers) as socket:
            sizes = []
            for text in (message(), "{"):
                socket.send(text)
                sizes.append(len(socket.recv(PATIENCE_S)))
            named = socket.response.headers["x-request-id"]
        with (
            pytest.raises(InvalidStatus),
            connect_socket(f"ws://{address}/v2/models/other/stream", additional_headers=headers),
        ):
            pass

    found = lines()
    assert named == "client-7"
    assert all(line.pop("duration_s") >= 0 for line in found)
    common = {"protocol": "websocket", "method": "GET", "path": "/v2/models/demo/stream", "model": "demo"}
    first, second, refused = found
    assert first == {**common, "status": 200, "answer_bytes": sizes[0], "request_id": "client-7/1"}
    assert second == {**common, "status": 400, "answer_bytes": sizes[1], "request_id": "client-7/2"}
    assert (refused["status"], refused["request_id"]) == (404, "client-7")
    assert (refused["protocol"], refused["model"], refused["path"]) == ("websocket", "", "/v2/models/other/stream")


def test_a_traced_message_is_a_span_with_its_parts(bundle_paths, open_served, message):
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from cellgate.serve.observe.otel_tracing import OtelTracer

    exporter = InMemorySpanExporter()
    served = open_served(BundlePlace(bundle_paths["steps"], "demo"))
    with (
        listening(*served, OtelTracer(SimpleSpanProcessor(exporter))) as address,
        connect_socket(f"ws://{address}/v2/models/demo/stream") as socket,
    ):
        for text in (message(), "{"):
            socket.send(text)
            socket.recv(PATIENCE_S)

    spans = exporter.get_finished_spans()
    answered, refused = (span for span in spans if span.name == "infer demo")
    assert [span.name for span in spans if span.parent] == ["accept", "answer"]  # this engine notes no runs
    assert answered.attributes["cellgate.protocol"] == "websocket"
    assert answered.attributes["http.request.method"] == "GET"
    assert refused.attributes["error.type"] == "bad_input"
