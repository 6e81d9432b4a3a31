"""Live connections: over an engine that does what the test says, and over real sockets with another's client."""

import asyncio
import json
import logging
from contextlib import asynccontextmanager

import anyio
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as connect_socket

from cellgate.serve import live_connection
from cellgate.serve.admission import Admission, AdmissionRules
from cellgate.serve.counter_layout import CODES, PROTOCOLS, REQUESTS
from cellgate.serve.counter_page import Counters
from cellgate.serve.errors import EngineLost, QueueFull
from cellgate.serve.live_connection import LiveConnection
from cellgate.serve.model_table import ModelTable
from cellgate.serve.request_meter import RequestMeters
from cellgate.serve.request_watch import watch_requests
from cellgate.serve.served_model import BundlePlace
from cellgate.serve.serving_state import ServingState
from cellgate.serve.settings import Settings
from cellgate.serve.work_queue import WorkQueue

from .listening import listening

PATIENCE_S = 30


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Client:
    """The other end of a connection, in memory."""

    def __init__(self):
        self.sent, self.answers = asyncio.Queue(), asyncio.Queue()
        self.is_gone = False

    async def receive(self):
        return await self.sent.get()

    async def send(self, message):
        if self.is_gone:
            raise ConnectionError
        self.answers.put_nowait(message)


def parts_of(models, port):
    """The state of an application, and what reads and counts the requests for "steps"."""
    counters = Counters.alone([model.name for model in models.values()])
    serving = ServingState(
        table=ModelTable(list(models.values())),
        settings=Settings(),
        engine=port,
        admission=Admission(AdmissionRules()),
        counters=counters,
    )
    return serving, lambda: serving.reader_of(models["steps"]), RequestMeters(counters.own, "websocket").of("steps")


def counts_of(counters):
    """Return how many messages for "steps" ended with each status."""
    page, layout = counters.own, counters.own.layout
    number = PROTOCOLS.index("websocket")
    places = {code: layout.place(REQUESTS, layout.model("steps"), number, at) for at, code in enumerate(CODES)}
    return {code: page.cells[place] for code, place in places.items() if page.cells[place]}


@pytest.fixture
def live(served_models, make_manual_port):
    """A connection to the network "steps" that runs; yields its client and the engine behind it."""

    @asynccontextmanager
    async def open_one(refusal=None):
        port = make_manual_port(refusal)
        serving, reader, meter = parts_of(served_models, port)
        serving.queue = WorkQueue(1, 8)
        client = Client()
        client.counters = serving.counters
        connection = LiveConnection(serving, reader, meter, client.receive, client.send, (ConnectionError,))
        client.connection, client.serving = connection, serving
        task = client.task = asyncio.create_task(connection.run())
        with anyio.fail_after(PATIENCE_S):
            yield client, port
            client.sent.put_nowait(None)
            await task

    return open_one


@pytest.fixture
def message(make_request):
    return lambda T=2, **more: json.dumps(make_request({"x": np.zeros((1, T, 2), np.float32)}, **more))


async def test_answers_come_in_the_order_of_the_questions(live, message):
    async with live() as (client, port):
        for name in ("a", "b"):
            client.sent.put_nowait(message(id=name))
        while len(port.waiting) < 2:
            await anyio.wait_all_tasks_blocked()
        for ticket in sorted(port.waiting, reverse=True):
            port.answer(ticket)

        found = [json.loads(await client.answers.get())["id"] for _ in range(2)]

    assert found == ["a", "b"]


async def test_a_bad_message_gets_an_error_in_its_place_and_the_next_one_its_answer(live, message):
    async with live() as (client, port):
        client.sent.put_nowait("{")
        client.sent.put_nowait(message())
        ticket, _ = await port.next_work()
        port.answer(ticket)

        found = [json.loads(await client.answers.get()) for _ in range(2)]

    assert found[0]["code"] == "bad_input"
    assert found[1]["model_name"] == "steps"


@pytest.mark.parametrize("refusal", [QueueFull(3), EngineLost()], ids=lambda refusal: refusal.code)
async def test_what_the_engine_refuses_is_told_as_a_message(live, message, refusal):
    async with live(refusal) as (client, _):
        client.sent.put_nowait(message())

        found = json.loads(await client.answers.get())

    assert found == {"error": str(refusal), "code": refusal.code}


async def test_an_outcome_that_is_no_answer_is_a_fault_without_internals(live, message, caplog):
    async with live() as (client, port):
        client.sent.put_nowait(message())
        ticket, _ = await port.next_work()
        port.answer(ticket, {"y": "secret"})

        found = json.loads(await client.answers.get())

    assert found["code"] == "internal"
    assert "secret" not in found["error"]


async def test_who_goes_away_leaves_no_work_behind(live, message):
    async with live() as (client, port):
        for _ in range(3):
            client.sent.put_nowait(message())
        while len(port.waiting) < 3:
            await anyio.wait_all_tasks_blocked()

    assert sorted(port.cancelled) == [1, 2, 3]


async def test_who_is_gone_when_the_answer_is_sent_ends_the_connection(live, message):
    async with live() as (client, port):
        client.is_gone = True
        client.sent.put_nowait(message())
        ticket, _ = await port.next_work()
        port.answer(ticket)
        await anyio.wait_all_tasks_blocked()

        assert client.answers.empty()


async def test_a_fault_of_the_connection_is_not_swallowed(served_models, make_manual_port):
    async def receive():
        raise KeyError

    with pytest.raises(KeyError):
        await LiveConnection(*parts_of(served_models, make_manual_port()), receive, receive).run()


async def test_every_message_is_counted_under_the_status_that_http_would_give(live, message):
    async with live() as (client, port):
        for text in ("{", message()):
            client.sent.put_nowait(text)
        ticket, _ = await port.next_work()
        port.answer(ticket)
        for _ in range(2):
            await client.answers.get()
        found = counts_of(client.counters)

    assert found == {"200": 1, "400": 1}


async def test_a_stop_answers_what_was_read_and_reads_no_more(live, message):
    async with live() as (client, port):
        for _ in range(2):
            client.sent.put_nowait(message())
        while len(port.waiting) < 2:
            await anyio.wait_all_tasks_blocked()
        for connection in client.serving.live:
            connection.stop()
        await anyio.wait_all_tasks_blocked()
        client.sent.put_nowait(message())
        for ticket in list(port.waiting):
            port.answer(ticket)
        await client.task

        assert client.answers.qsize() == 2
        assert client.sent.qsize() == 1
        assert client.serving.live == set()
        assert port.cancelled == []


async def test_a_connection_that_comes_while_the_server_stops_ends(live):
    async with live() as (client, _):
        client.serving.draining = True
        parts = client.serving, client.connection._find_reader, client.connection._meter
        await LiveConnection(*parts, client.receive, client.send).run()

        assert client.answers.empty()


async def test_a_client_that_goes_away_during_a_stop_ends_it(live, message):
    async with live() as (client, port):
        client.sent.put_nowait(message())
        ticket, _ = await port.next_work()
        client.connection.stop()
        client.is_gone = True
        port.answer(ticket)
        await client.task

        assert client.answers.empty()


async def test_only_so_many_are_under_way(live, message, monkeypatch):
    monkeypatch.setattr(live_connection, "MOST_UNDER_WAY", 2)
    async with live() as (client, port):
        for _ in range(5):
            client.sent.put_nowait(message())
        await anyio.wait_all_tasks_blocked()
        first = len(port.waiting)
        port.answer(min(port.waiting))
        await anyio.wait_all_tasks_blocked()

        assert (first, len(port.waiting), client.sent.qsize()) == (2, 2, 1)
        while port.waiting:
            port.answer(min(port.waiting))
            await anyio.wait_all_tasks_blocked()


async def test_a_long_message_is_read_and_answered_in_a_thread(live, make_request):
    x = np.random.default_rng(0).standard_normal((1, 20_000, 2)).astype(np.float32)
    async with live() as (client, port):
        client.sent.put_nowait(json.dumps(make_request({"x": x})))
        ticket, work = await port.next_work()
        port.answer(ticket)

        found = json.loads(await client.answers.get())

    assert work.steps == 20_000
    assert found["outputs"][0]["shape"] == [1, 20_000, 4]


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

    from cellgate.serve.otel_tracing import OtelTracer

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


async def test_a_fault_is_logged_under_the_message_s_own_name(served_models, make_manual_port, message, caplog):
    port, client = make_manual_port(), Client()
    serving, reader, meter = parts_of(served_models, port)
    serving.settings, serving.queue = Settings(access_log=True), WorkQueue(1, 8)
    watch = watch_requests(
        serving, protocol="websocket", method="GET", path="/", headers=[], model=served_models["steps"], request_id="c"
    )
    connection = LiveConnection(serving, reader, meter, client.receive, client.send, watch=watch)
    task = asyncio.create_task(connection.run())
    with anyio.fail_after(PATIENCE_S):
        client.sent.put_nowait(message())
        ticket, _ = await port.next_work()
        port.answer(ticket, {"y": "secret"})
        found = json.loads(await client.answers.get())
        client.sent.put_nowait(None)
        await task

    assert found["request_id"] == "c/1"
    assert "request c/1 failed" in caplog.text
