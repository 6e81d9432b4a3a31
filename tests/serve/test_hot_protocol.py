"""The hot route against the route that it stands for, byte by byte, and what a connection goes through."""

import asyncio
import json
import logging
import random
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace

import anyio
import numpy as np
import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from cellgate.serve import connection_end, fault_report, hot_surface, refused_connections
from cellgate.serve.app import create_app
from cellgate.serve.counter_layout import FAILED_S, READ_S, RENDER_S, REQUEST_S, REQUESTS, STATUSES
from cellgate.serve.errors import DeadlineExceeded, EngineError, EngineLost, QueueFull, QueueTooLong
from cellgate.serve.guarded_protocol import GuardedProtocol
from cellgate.serve.hot_protocol import HotProtocol
from cellgate.serve.hot_surface import http_protocol, surface_gaps
from cellgate.serve.settings import Settings
from cellgate.serve.socket_queues import has_unread

PATIENCE_S = 20
DATE = [(b"date", b"Thu, 01 Jan 2026 00:00:00 GMT")]
INFER = "/v2/models/steps/infer"


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


@asynccontextmanager
async def listen(models, engine, tls=None, **changes):
    """Serve on a free port of this event loop; yield the port, the application and the connections."""
    keep_alive_s = changes.pop("keep_alive_s", 15)
    settings = Settings(**changes)
    app = create_app(models, settings, engine)
    app.state.serving.ids.make = lambda: b"made"  # else each route would name a request in its own way
    config = uvicorn.Config(
        app, http=http_protocol(app, settings), ws="none", log_config=None, timeout_keep_alive=keep_alive_s
    )
    config.load()
    state = ServerState()
    state.default_headers = DATE
    loop = asyncio.get_running_loop()

    def make():
        return config.http_protocol_class(config=config, server_state=state, app_state={}, _loop=loop)

    async with app.router.lifespan_context(app):
        server = await loop.create_server(make, "127.0.0.1", 0, ssl=tls)
        try:
            with anyio.fail_after(PATIENCE_S):
                yield SimpleNamespace(
                    port=server.sockets[0].getsockname()[1], app=app, state=state, engine=engine, make=make
                )
        finally:
            server.close()
            for connection in list(state.connections):
                connection.transport.abort()


class Wire:
    """A client that sees every byte."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    @asynccontextmanager
    async def open(cls, served, tls=None):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=tls)
        try:
            yield cls(reader, writer)
        finally:
            writer.transport.abort()

    def send(self, data):
        self.writer.write(data)

    async def response(self):
        """Return the bytes of one response."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        while head.startswith(b"HTTP/1.1 100"):
            head += await self.reader.readuntil(b"\r\n\r\n")
            if head.count(b"HTTP/1.1 ") > 1:
                break
        lines = head.lower().split(b"\r\n")
        (length,) = [int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")]
        return head + await self.reader.readexactly(length)

    async def rest(self):
        """Return what comes until the server closes."""
        return await self.reader.read()


def raw(body=b"", *headers, path=INFER, method="POST", version="1.1", length=True):
    lines = [f"{method} {path} HTTP/{version}", "Host: test", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def status_of(response):
    return int(response.split(b" ", 2)[1])


def body_of(response):
    return response.partition(b"\r\n\r\n")[2]


X = {"name": "x", "shape": [1, 2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}
JSON = json.dumps({"inputs": [X], "id": "a"}).encode()
STATES = json.dumps({"inputs": [X], "outputs": [{"name": "h_n"}, {"name": "y"}]}).encode()
BAD = json.dumps({"inputs": [{**X, "shape": [1, 2, 7]}]}).encode()
BLOB = np.arange(4, dtype="<f4").tobytes()
HEAD = {key: value for key, value in X.items() if key != "data"} | {"parameters": {"binary_data_size": 16}}


def binary(blob=BLOB, **more):
    text = json.dumps({"inputs": [HEAD], **more}).encode()
    return raw(text + blob, f"Inference-Header-Content-Length: {len(text)}")


MIXED = [{"name": "y", "parameters": {"binary_data": True}}, {"name": "c_n", "parameters": {"binary_data": False}}]
ALL_BINARY = {"binary_data_output": True}


def chunked(body, *headers):
    return raw(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body), "Transfer-Encoding: chunked", *headers, length=False)


def large_json():
    return json.dumps({"inputs": [{**X, "shape": [1000, 40, 2], "data": [0.5] * 80_000}]}).encode()


def large_answer():
    text = json.dumps(
        {"inputs": [{**HEAD, "shape": [500, 10, 2], "parameters": {"binary_data_size": 40_000}}]}
    ).encode()
    return raw(text + bytes(40_000), f"Inference-Header-Content-Length: {len(text)}")


# id: the request, its status, and whether the hot route answers it
TABLE = {
    "json": (raw(JSON), 200, True),
    "json-typed": (raw(JSON, "Content-Type: application/json"), 200, True),
    "json-states": (raw(STATES, "Accept: */*", "User-Agent: test"), 200, True),
    "json-as-octets": (raw(JSON, "content-type: application/octet-stream"), 200, True),
    "json-charset": (raw(JSON, "Content-Type: application/json; charset=utf-8"), 200, False),
    "json-large": (raw(large_json()), 200, False),
    "versioned": (raw(JSON, path="/v2/models/steps/versions/3/infer"), 200, True),
    "binary": (binary(), 200, True),
    "binary-id": (binary(id="b"), 200, True),
    "binary-out": (binary(parameters=ALL_BINARY), 200, True),
    "binary-mixed": (binary(outputs=MIXED), 200, True),
    "binary-large-answer": (large_answer(), 200, False),
    "raw": (raw(BLOB, "INFERENCE-HEADER-CONTENT-LENGTH: 0"), 200, True),
    "json-out-binary": (raw(json.dumps({"inputs": [X], "parameters": ALL_BINARY}).encode()), 200, True),
    "no-json": (raw(b"{"), 400, True),
    "empty": (raw(b""), 400, True),
    "bad-shape": (raw(BAD), 400, True),
    "nan": (binary(np.full(4, np.nan, "<f4").tobytes()), 400, True),
    "trailing": (binary(BLOB + b"\0"), 400, True),
    "missing": (binary(BLOB[:-1]), 400, True),
    "no-header": (raw(json.dumps({"inputs": [HEAD]}).encode()), 400, True),
    "header-beyond": (raw(JSON, "Inference-Header-Content-Length: 9999"), 400, True),
    "header-odd": (raw(JSON, "Inference-Header-Content-Length: -1"), 400, False),
    "header-empty": (raw(JSON, "Inference-Header-Content-Length:"), 400, False),
    "header-twice": (raw(JSON, *["Inference-Header-Content-Length: 5"] * 2), 400, False),
    "type-twice": (raw(JSON, *["Content-Type: application/json"] * 2), 415, False),
    "type-csv": (raw(JSON, "Content-Type: text/csv"), 415, False),
    "gzip": (raw(JSON, "Content-Encoding: gzip"), 415, False),
    "chunked": (chunked(JSON), 200, False),
    "chunked-too-long": (chunked(b" " * 3000), 413, False),
    "declared-too-long": (raw(b"", "Content-Length: 2049", length=False), 413, False),
    "expect": (raw(JSON, "Expect: 100-continue"), 200, False),
    "named": (raw(JSON, "X-Request-Id: a-client's.word/1"), 200, True),
    "named-well": (raw(JSON, "X-Request-Id: client-7.a/b:c+d=e@f"), 200, True),
    "named-bad": (raw(BAD, "x-request-id: client-7"), 400, True),
    "named-at-length": (raw(JSON, f"X-Request-Id: {'a' * 129}"), 200, True),
    "named-by-nothing": (raw(JSON, "X-Request-Id:"), 200, True),
    "named-oddly": (raw(JSON, 'X-Request-Id: <\xe9>\t"\\'), 200, True),
    "named-twice": (raw(JSON, *["X-Request-Id: a"] * 2), 200, False),
    "close": (raw(JSON, "Connection: close"), 200, True),
    "close-bad": (raw(BAD, "Connection: close"), 400, True),
    "old": (raw(JSON, version="1.0"), 200, False),
    "old-kept": (raw(JSON, "Connection: keep-alive", version="1.0"), 200, False),
    "upgrade": (raw(JSON, "Connection: upgrade", "Upgrade: h2c"), 400, False),
    "query": (raw(JSON, path=INFER + "?a=1"), 200, False),
    "escaped": (raw(JSON, path="/v2/models/%73teps/infer"), 404, False),  # a path has one spelling
    "no-host": (raw(JSON).replace(b"Host: test\r\n", b""), 400, False),
    "two-hosts": (raw(JSON, "Host: test"), 400, False),
    "odd-host": (raw(JSON).replace(b"Host: test", b"Host: a/b?"), 400, False),
    "named-host": (raw(JSON).replace(b"Host: test", b"Host: evil.example"), 421, False),
    "own-page": (raw(JSON, "Origin: http://test"), 200, False),
    "foreign-page": (raw(JSON, "Origin: http://evil.example"), 403, False),
    "gzip-chunked": (chunked(JSON).replace(b": chunked", b": gzip, chunked"), 400, False),
    "version-2": (raw(JSON, version="2.0"), 400, False),
    "absolute": (raw(JSON, path="http://test" + INFER), 200, False),
    "unknown": (raw(JSON, path="/v2/models/nope/infer"), 404, False),
    "version": (raw(JSON, path="/v2/models/steps/versions/4/infer"), 404, False),
    "slash": (raw(JSON, path=INFER + "/"), 404, False),
    "get": (raw(method="GET", length=False), 405, False),
    "put": (raw(JSON, method="PUT"), 405, False),
    "elsewhere": (raw(method="GET", path="/v2", length=False), 200, False),
}


@pytest.fixture
def handed_over(monkeypatch):
    """Paths that the hot route left to uvicorn."""
    found = []
    real = HotProtocol._hand_over
    monkeypatch.setattr(HotProtocol, "_hand_over", lambda self: found.append(self._url) or real(self))
    return found


@pytest.mark.parametrize("name", TABLE)
async def test_both_routes_give_the_same_bytes(
    served_models, make_fake, make_network, make_runtime_port, handed_over, name
):
    data, status, is_hot = TABLE[name]
    answers = []
    for hot_route in (False, True):
        port = make_runtime_port({"steps": make_fake(make_network("steps"))})
        settings = {"hot_route": hot_route, "max_body_bytes": 2048 if status == 413 else 2**20}
        async with listen([served_models["steps"]], port, **settings) as served, Wire.open(served) as wire:
            wire.send(data)
            answers.append(await wire.response())
            if b"\r\nconnection: close" in answers[-1] or b" HTTP/1.0" in data:
                assert await wire.rest() == b""
            else:
                wire.send(raw(JSON))  # the connection is fit for another one
                assert status_of(await wire.response()) == 200

    plain, hot = answers
    assert hot == plain
    assert status_of(plain.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")) == status
    assert (handed_over == []) is is_hot


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("json", 1),
        ("json-large", 1),
        ("binary-out", 1),
        ("bad-shape", 1),
        ("nan", 1),
        ("get", 1),
        ("unknown", 0),
        ("elsewhere", 0),
    ],
)
async def test_both_routes_count_alike(served_models, make_fake, make_network, make_runtime_port, name, model):
    found = []
    for hot_route in (False, True):
        port = make_runtime_port({"steps": make_fake(make_network("steps"))})
        async with listen([served_models["steps"]], port, hot_route=hot_route) as served, Wire.open(served) as wire:
            wire.send(TABLE[name][0] + raw(method="GET", path="/v2", length=False))
            await wire.response()
            await wire.response()  # the first one is counted by now
            found.append(served.app.state.serving.counters.read())

    plain, hot = found
    codes = [reading.values[: reading.layout.place(REQUEST_S, 0, 0)] for reading in found]
    assert codes[0] == codes[1]
    assert hot.value(REQUESTS, model, 0, STATUSES.index(TABLE[name][1])) >= 1
    for family in (READ_S, FAILED_S):
        assert (plain.value(family, 1) > 0) is (hot.value(family, 1) > 0)
    for reading in found:
        assert sum(reading.histogram(REQUEST_S, model, 0)[0]) >= 1
        assert (reading.value(RENDER_S, 1) > 0) is (model == 1 and TABLE[name][1] == 200)


async def test_a_client_that_went_away_is_counted(served_models, make_manual_port):
    async with listen([served_models["steps"]], make_manual_port()) as served:
        async with Wire.open(served) as wire:
            wire.send(raw(JSON))
            await served.engine.next_work()
        await until(lambda: served.engine.cancelled)
        reading = served.app.state.serving.counters.read()

    assert reading.value(REQUESTS, 1, 0, STATUSES.index(499)) == 1
    assert reading.value(FAILED_S, 1) > 0


@pytest.mark.parametrize("split", [1, 7, 40, 90, 200])
async def test_request_in_pieces_is_the_same_request(served_models, make_fake, make_network, make_runtime_port, split):
    data = binary(parameters=ALL_BINARY)
    port = make_runtime_port({"steps": make_fake(make_network("steps"))})
    async with listen([served_models["steps"]], port) as served:
        protocol, transport = connect_fake(served)
        protocol.data_received(data)
        await answered(transport, 1)
        for start in range(0, len(data), split):
            protocol.data_received(data[start : start + split])
        await answered(transport, 2)

    assert transport.writes[0] == transport.writes[1]
    assert status_of(transport.writes[0]) == 200


@pytest.mark.parametrize(
    "outcome",
    [
        QueueFull(7),
        EngineLost(),
        DeadlineExceeded(),
        EngineError("broken"),
        {"y": np.full((1, 2, 4), np.nan, "f4")},
        {"y": 1},
    ],
    ids=["queue-full", "lost", "deadline", "engine", "nan", "fault"],
)
@pytest.mark.parametrize("place", ["submit", "done"])
async def test_both_routes_fail_with_the_same_bytes(served_models, make_manual_port, monkeypatch, outcome, place):
    monkeypatch.setattr(fault_report.secrets, "token_hex", lambda _size: "id")
    if place == "submit" and isinstance(outcome, dict):
        outcome = KeyError("secret")
    answers = []
    for hot_route in (False, True):
        port = make_manual_port(outcome if place == "submit" else None)
        async with listen([served_models["steps"]], port, hot_route=hot_route) as served, Wire.open(served) as wire:
            wire.send(raw(JSON))
            if place == "done":
                ticket, _ = await port.next_work()
                port.answer(ticket, outcome)
            answers.append(await wire.response())

    assert answers[0] == answers[1]
    assert status_of(answers[0]) in (500, 503, 504)
    assert b"secret" not in answers[0]
    assert (b"\r\nretry-after: 1\r\n" in answers[0]) is (status_of(answers[0]) == 503)


async def test_server_without_an_engine_answers_both_ways_alike(served_models, make_manual_port):
    answers = []
    for hot_route in (False, True):
        port = make_manual_port()
        port.is_ready = False
        async with listen([served_models["steps"]], port, hot_route=hot_route) as served, Wire.open(served) as wire:
            wire.send(raw(BAD))
            answers.append(await wire.response())

    assert answers[0] == answers[1]
    assert json.loads(body_of(answers[0]))["code"] == "not_ready"


@pytest.fixture
def parsed(monkeypatch):
    """Pieces that went to the parser."""
    found = []
    real = GuardedProtocol.data_received
    monkeypatch.setattr(GuardedProtocol, "data_received", lambda self, data: found.append(data) or real(self, data))
    return found


@pytest.mark.parametrize("name", TABLE)
async def test_repeated_request_gets_the_same_bytes_and_where_its_head_is_known_no_parser(
    served_models, make_fake, make_network, make_runtime_port, parsed, name
):
    data, _, is_hot = TABLE[name]
    is_known = is_hot and not name.startswith(("named", "close"))
    answers = []
    port = make_runtime_port({"steps": make_fake(make_network("steps"))})
    settings = {"max_body_bytes": 2048 if "too-long" in name else 2**20}
    async with listen([served_models["steps"]], port, **settings) as served:
        for _ in range(3):
            protocol, transport = connect_fake(served)
            for part in (data, data):
                if not transport.closing:
                    protocol.data_received(part)
                await anyio.wait_all_tasks_blocked()
            answers.append(transport.writes)

    assert answers[0] == answers[1] == answers[2]
    assert parsed.count(data) == (1 if is_known else len(parsed))


async def test_known_head_with_an_answer_for_the_other_route_is_parsed_after_all(
    served_models, make_fake, make_network, make_runtime_port, parsed, handed_over
):
    def asking_for(output):
        head = {**HEAD, "shape": [500, 10, 2], "parameters": {"binary_data_size": 40_000}}
        text = json.dumps({"inputs": [head], "outputs": [{"name": output}]}).encode().ljust(200)
        return raw(text + bytes(40_000), "Inference-Header-Content-Length: 200")

    port = make_runtime_port({"steps": make_fake(make_network("steps"))})
    async with listen([served_models["steps"]], port) as served:
        protocol, transport = connect_fake(served)
        for output in ("h_n", "y", "h_n"):
            protocol.data_received(asking_for(output))
            await until(lambda: not protocol._is_busy())

    assert parsed == [asking_for("h_n"), asking_for("y")]
    assert handed_over == [INFER.encode()]
    bodies = b"".join(transport.writes).split(b"HTTP/1.1 ")[1:]
    assert [(one[:3], b'"name":"y"' in one) for one in bodies] == [(b"200", False), (b"200", True), (b"200", False)]


async def test_line_ends_in_front_of_a_request_are_no_head(served_models, make_manual_port, parsed):
    port = make_manual_port()
    async with listen([served_models["steps"]], port) as served:
        protocol, transport = connect_fake(served)
        protocol.data_received(b"\r\n\r\n" + raw(JSON))
        port.answer((await port.next_work())[0])
        protocol.data_received(b"\r\n\r\n" + JSON)  # were it taken for the head of the one before, this was a request

    assert (port.waiting, transport.closing) == ({}, True)
    assert [status_of(one) for one in transport.writes] == [200, 400]


async def test_known_head_is_admitted_as_the_client_that_sends_it(served_models, make_manual_port):
    port = make_manual_port()
    async with listen([served_models["steps"]], port) as served:
        statuses = []
        for address in ("10.0.0.9", "10.0.0.9", "127.0.0.1"):
            protocol, transport = connect_fake(served)
            protocol.client = address, 7000
            protocol.data_received(raw(JSON).replace(b"Host: test", b"Host: of.others.example"))
            await anyio.wait_all_tasks_blocked()
            if port.waiting:
                port.answer((await port.next_work())[0])
            statuses.append(status_of(transport.writes[0]))

    assert statuses == [200, 200, 421]  # to this machine itself only local names


async def test_known_head_waits_behind_a_request_that_is_not_answered(served_models, make_manual_port):
    port = make_manual_port()
    async with listen([served_models["steps"]], port) as served:
        protocol, _transport = connect_fake(served)
        protocol.data_received(raw(JSON))
        port.answer((await port.next_work())[0])
        for one in (JSON, STATES):
            protocol.data_received(raw(one))
        found = []
        for _ in range(2):
            ticket, work = await port.next_work()
            found.append((work.outputs, len(port.waiting)))
            port.answer(ticket)
            await anyio.wait_all_tasks_blocked()

    assert found == [(("y",), 1), (("h_n", "y"), 1)]


async def test_pipelined_requests_are_answered_in_order(served_models, make_manual_port):
    port = make_manual_port()
    async with listen([served_models["steps"]], port) as served, Wire.open(served) as wire:
        first, second, third = (raw(json.dumps({"inputs": [X], "id": name}).encode()) for name in "abc")
        wire.send(first + second + raw(method="GET", path="/v2", length=False) + third)
        found = []
        for _ in range(2):
            ticket, _ = await port.next_work()
            assert len(port.waiting) == 1
            port.answer(ticket)
            found.append(json.loads(body_of(await wire.response())).get("id"))
        found.append(json.loads(body_of(await wire.response())).get("name"))
        ticket, _ = await port.next_work()
        port.answer(ticket)
        found.append(json.loads(body_of(await wire.response())).get("id"))
        wire.send(first)  # and the connection is hot again
        ticket, _ = await port.next_work()
        port.answer(ticket)
        found.append(json.loads(body_of(await wire.response())).get("id"))

    assert found == ["a", "b", "cellgate", "c", "a"]


async def test_hot_request_behind_one_of_asgi_waits_for_it(served_models, make_manual_port, handed_over):
    port = make_manual_port()
    async with listen([served_models["steps"]], port) as served, Wire.open(served) as wire:
        wire.send(chunked(JSON) + raw(STATES))
        found = []
        for _ in range(2):
            ticket, work = await port.next_work()
            port.answer(ticket)
            found.append((work.outputs, status_of(await wire.response())))

    assert found == [(("y",), 200), (("h_n", "y"), 200)]
    assert len(handed_over) == 2


async def test_client_that_goes_away_cancels_its_work(served_models, make_manual_port):
    port = make_manual_port()
    async with listen([served_models["steps"]], port) as served:
        async with Wire.open(served) as wire:
            wire.send(raw(JSON))
            ticket, _ = await port.next_work()
        await until(lambda: not served.state.connections)

    assert (port.cancelled, port.waiting) == ([ticket], {})


@pytest.mark.parametrize("cut", [10, 60, len(raw(JSON)) - 1])
async def test_client_that_goes_away_before_its_request_is_whole_leaves_nothing(served_models, make_manual_port, cut):
    port = make_manual_port()
    async with listen([served_models["steps"]], port) as served:
        protocol, transport = connect_fake(served)
        protocol.data_received(raw(JSON)[:cut])
        protocol.connection_lost(None)

    assert (port.cancelled, port.waiting, transport.writes) == ([], {}, [])
    assert served.state.connections == set()


async def test_5000_disconnects_at_random_moments_leave_nothing_behind(served_models, make_manual_port):
    values, port = random.Random(5), make_manual_port()
    whole = binary(parameters=ALL_BINARY)
    async with listen([served_models["steps"]], port) as served:
        for number in range(5000):
            protocol, _transport = connect_fake(served)
            data = whole * values.randint(1, 2) + chunked(JSON) * values.randint(0, 1)
            end = values.choice([len(data), values.randrange(len(data))])
            protocol.data_received(data[:end])
            if port.waiting and values.random() < 0.3:
                port.answer(min(port.waiting))
            if number % 10 == 0:
                await asyncio.sleep(0)  # requests of ASGI begin
            protocol.connection_lost(None)
        await until(lambda: not served.state.tasks)

    assert (port.waiting, served.state.connections) == ({}, set())
    assert len(port.cancelled) > 1000


async def test_answer_after_the_connection_was_lost_goes_nowhere(served_models, make_manual_port):
    port = make_manual_port()
    async with listen([served_models["steps"]], port) as served:
        protocol, transport = connect_fake(served)
        protocol.data_received(raw(JSON))
        ticket, _ = await port.next_work()
        transport.closing = True  # the transport closes before it says that it did
        port.answer(ticket)

    assert transport.writes == []


class FakeTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self):
        super().__init__()
        self.writes, self.closing, self.reading = [], False, True

    def write(self, data):
        self.writes.append(bytes(data))

    def is_closing(self):
        return self.closing

    def close(self):
        self.closing = True

    def abort(self):
        self.closing = True

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True


def connect_fake(served):
    protocol, transport = served.make(), FakeTransport()
    protocol.connection_made(transport)
    return protocol, transport


async def until(condition):
    while not condition():  # noqa: ASYNC110 - nobody signals what a socket does; `listen` limits the time
        await asyncio.sleep(0)


async def answered(transport, count):
    await until(lambda: len(transport.writes) >= count)


async def test_client_that_does_not_read_gets_no_further_answers_until_it_does(
    served_models, make_fake, make_network, make_runtime_port, handed_over
):
    port = make_runtime_port({"steps": make_fake(make_network("steps"))})
    async with listen([served_models["steps"]], port) as served:
        protocol, transport = connect_fake(served)
        protocol.data_received(raw(JSON))
        await answered(transport, 1)
        protocol.pause_writing()
        protocol.data_received(raw(JSON) * 3)
        await anyio.wait_all_tasks_blocked()
        stuck = len(transport.writes)
        protocol.resume_writing()
        await answered(transport, 7)  # a head and a body each
        protocol.data_received(raw(JSON))
        await answered(transport, 8)

    assert stuck == 1
    assert len(handed_over) == 3
    assert transport.writes[0] == transport.writes[7] == transport.writes[1] + transport.writes[2]


async def test_stopping_server_answers_what_it_took_and_closes(served_models, make_manual_port):
    port = make_manual_port()
    async with (
        listen([served_models["steps"]], port) as served,
        Wire.open(served) as idle,
        Wire.open(served) as busy,
        Wire.open(served) as half,
    ):
        idle.send(raw(method="GET", path="/v2", length=False))
        await idle.response()
        busy.send(raw(JSON))
        busy_ticket, _ = await port.next_work()
        half.send(raw(JSON)[:-5])
        await until(lambda: any(connection._request is not None for connection in served.state.connections))
        for connection in list(served.state.connections):
            connection.shutdown()
        port.answer(busy_ticket)
        half.send(raw(JSON)[-5:])
        half_ticket, _ = await port.next_work()
        port.answer(half_ticket)
        found = [await wire.rest() for wire in (idle, busy, half)]

    assert found[0] == b""
    for response in found[1:]:
        assert status_of(response) == 200
        assert b"\r\nconnection: close\r\n" in response


async def test_idle_connection_is_closed_after_its_time_and_a_busy_one_is_not(served_models, make_manual_port):
    port = make_manual_port()
    async with listen([served_models["steps"]], port, keep_alive_s=0) as served, Wire.open(served) as wire:
        wire.send(raw(JSON))
        ticket, _ = await port.next_work()
        await anyio.wait_all_tasks_blocked()
        port.answer(ticket)
        response = await wire.rest()

    assert status_of(response) == 200
    assert b"connection: close" not in response


async def test_timer_of_an_earlier_request_closes_no_connection_that_was_used_since(served_models, make_manual_port):
    port = make_manual_port()
    async with listen([served_models["steps"]], port, keep_alive_s=100) as served:
        protocol, transport = connect_fake(served)
        found = []
        for _ in range(2):
            protocol.data_received(raw(JSON))
            protocol.timeout_keep_alive_handler()  # while it is at work
            found.append(protocol.timeout_keep_alive_task)
            port.answer((await port.next_work())[0])
            first = protocol.timeout_keep_alive_task
            protocol.timeout_keep_alive_handler()  # a moment after the answer
            found.append(protocol.timeout_keep_alive_task in (None, first))
        found.append(transport.closing)

    assert found == [None, False, None, False, False]


@pytest.mark.parametrize("piece", [b"X-Long: " + b"a" * 32_000, b"a" * 32_000])
async def test_head_that_never_ends_is_refused(served_models, make_manual_port, piece):
    async with listen([served_models["steps"]], make_manual_port()) as served:
        protocol, transport = connect_fake(served)
        protocol.data_received(b"POST " + (b"" if piece.startswith(b"X") else b"/"))
        if piece.startswith(b"X"):
            protocol.data_received(b"/ HTTP/1.1\r\n")
        for _ in range(2):
            protocol.data_received(piece)
        before = list(transport.writes)
        protocol.data_received(piece)

    assert before == []
    assert transport.closing
    (response,) = transport.writes
    assert status_of(response) == 431
    assert json.loads(body_of(response))["code"] == "headers_too_large"
    assert b"\r\nconnection: close\r\n" in response


async def test_head_that_never_ends_behind_a_request_closes_without_an_answer_of_its_own(
    served_models, make_manual_port
):
    async with listen([served_models["steps"]], make_manual_port()) as served:
        protocol, transport = connect_fake(served)
        protocol.data_received(raw(JSON) + b"POST /")
        for _ in range(3):
            protocol.data_received(b"a" * 2**15)

    assert (transport.writes, transport.closing) == ([], True)


async def test_long_body_after_a_short_head_is_no_long_head(served_models, make_fake, make_network, make_runtime_port):
    port = make_runtime_port({"steps": make_fake(make_network("steps"))})
    x = json.dumps({"inputs": [{**HEAD, "shape": [1000, 20, 2], "parameters": {"binary_data_size": 160_000}}]}).encode()
    data = raw(x + bytes(160_000), f"Inference-Header-Content-Length: {len(x)}")
    async with listen([served_models["steps"]], port) as served:
        protocol, transport = connect_fake(served)
        for start in range(0, len(data), 50_000):
            protocol.data_received(data[start : start + 50_000])
        await answered(transport, 1)

    assert status_of(transport.writes[0]) == 200


async def test_many_requests_in_one_piece_are_no_long_head(served_models, make_manual_port):
    async with listen([served_models["steps"]], make_manual_port()) as served:
        protocol, transport = connect_fake(served)
        data = raw(JSON) * 600
        for piece in (data[:10], data[10:-10], data[-10:]):
            protocol.data_received(piece)
        found = transport.writes, transport.closing

    assert len(data) > 100_000
    assert found == ([], False)


@pytest.mark.parametrize("hot_route", [False, True])
async def test_flood_of_pipelined_requests_is_read_no_faster_than_it_is_answered(
    served_models, make_manual_port, hot_route
):
    port = make_manual_port()
    async with listen([served_models["steps"]], port, hot_route=hot_route) as served:
        protocol, transport = connect_fake(served)
        protocol.data_received(raw(JSON) * 4)
        reading = []
        for _ in range(4):
            ticket, _work = await port.next_work()
            await anyio.wait_all_tasks_blocked()
            reading.append(transport.reading)
            port.answer(ticket)
        await anyio.wait_all_tasks_blocked()
        reading.append(transport.reading)

    assert reading == [False, False, False, True, True]


async def test_garbage_is_refused_and_the_connection_closed(served_models, make_manual_port):
    async with listen([served_models["steps"]], make_manual_port()) as served, Wire.open(served) as wire:
        wire.send(b"\x16\x03\x01nonsense\r\n\r\n")
        found = await wire.rest()

    assert status_of(found) == 400


async def test_access_log_has_the_same_line_either_way(served_models, make_manual_port, caplog):
    caplog.set_level(logging.INFO, logger="cellgate.access")
    for hot_route in (False, True):
        port = make_manual_port()
        async with listen([served_models["steps"]], port, hot_route=hot_route, access_log=True) as served:
            async with Wire.open(served) as wire:
                wire.send(raw(BAD))
                await wire.response()
                wire.send(raw(JSON))
                await port.next_work()
            await until(lambda: not served.state.connections and not served.state.tasks)

    lines = [json.loads(text) for text in caplog.messages]
    durations = [line.pop("duration_s") for line in lines]
    assert lines[:2] == lines[2:]
    assert [(line["status"], line["model"]) for line in lines[:2]] == [(400, "steps"), (499, "steps")]
    assert all(duration >= 0 for duration in durations)


async def test_every_request_is_counted_as_uvicorn_counts(served_models, make_fake, make_network, make_runtime_port):
    port = make_runtime_port({"steps": make_fake(make_network("steps"))})
    async with listen([served_models["steps"]], port) as served, Wire.open(served) as wire:
        for _ in range(3):
            wire.send(raw(JSON))
            await wire.response()

    assert served.state.total_requests == 3


def test_what_the_hot_route_needs_of_the_installed_uvicorn_is_there():
    assert surface_gaps() == []


def test_another_uvicorn_gets_its_own_protocol_and_a_warning(served_models, make_manual_port, monkeypatch, caplog):
    app = create_app([served_models["steps"]], Settings(), make_manual_port())
    monkeypatch.setattr(hot_surface, "surface_gaps", lambda: ["cycle"])

    assert http_protocol(app, Settings()) is HttpToolsProtocol
    assert "lacks cycle: the hot route is off" in caplog.text


def test_gaps_are_named():
    class Other(asyncio.Protocol):
        def __init__(self, config, server_state, app_state, _loop):
            self.parser = object()

    class Odd(HttpToolsProtocol):
        def __init__(self):
            raise AssertionError("never called")

    found = surface_gaps(Other)

    assert {"on_url", "on_response_complete", "cycle", "transport", "parser.get_method"} <= set(found)
    assert "server_state.default_headers" in found
    assert "the constructor" in surface_gaps(Odd)[-1]


def test_hot_route_can_be_switched_off(served_models, make_manual_port):
    settings = Settings(hot_route=False)

    made = http_protocol(create_app([served_models["steps"]], settings, make_manual_port()), settings)

    assert issubclass(made, GuardedProtocol)
    assert not issubclass(made, HotProtocol)


# A full queue


async def test_a_full_queue_refuses_before_anything_of_a_body_is_read(served_models, make_manual_port):
    answers = []
    for hot_route in (False, True):
        port = make_manual_port()
        port.is_full = True
        async with listen([served_models["steps"]], port, hot_route=hot_route) as served, Wire.open(served) as wire:
            wire.send(raw(b"no JSON at all"))
            answers.append(await wire.response())
            port.is_full = False
            wire.send(raw(JSON))  # the connection is fit for another one
            ticket, _ = await port.next_work()
            port.answer(ticket)
            assert status_of(await wire.response()) == 200

    assert answers[0] == answers[1]
    assert status_of(answers[0]) == 503
    assert b"\r\nretry-after: 1\r\n" in answers[0]
    assert json.loads(answers[0].partition(b"\r\n\r\n")[2])["code"] == "queue_full"


async def test_of_a_refused_body_nothing_is_kept(served_models, make_manual_port):
    port = make_manual_port()
    port.is_full = True
    async with listen([served_models["steps"]], port) as served:
        protocol, transport = connect_fake(served)
        data = raw(b" " * 10_000)
        for start in range(0, len(data) - 1000, 1000):
            protocol.data_received(data[start : start + 1000])
        pieces, early = list(protocol._pieces), len(transport.writes)
        protocol.data_received(data[-(len(data) % 1000 or 1000) :] if len(data) % 1000 else data[-1000:])

    assert (pieces, early) == ([], 0)
    assert [status_of(answer) for answer in transport.writes] == [503]
    assert port.waiting == {}


async def test_who_was_refused_is_read_again_when_there_is_room(served_models, make_manual_port, monkeypatch):
    monkeypatch.setattr(refused_connections, "PAUSE_S", PATIENCE_S)
    port = make_manual_port()
    async with listen([served_models["steps"]], port) as served:
        (waiting, its), (refused, transport) = connect_fake(served), connect_fake(served)
        waiting.data_received(raw(JSON))
        port.is_full = True
        refused.data_received(raw(JSON))
        ticket, _ = await port.next_work()
        port.answer(ticket)
        await answered(its, 1)
        was_read = transport.reading  # the place that an answer makes is another's
        port.is_full = False
        await until(lambda: transport.reading)

        assert (status_of(transport.writes[0]), was_read) == (503, False)


async def test_who_was_refused_waits_no_longer_than_it_was_told_to(served_models, make_manual_port, monkeypatch):
    monkeypatch.setattr(refused_connections, "PAUSE_S", 0.0)
    port = make_manual_port()
    port.is_full = True
    async with listen([served_models["steps"]], port) as served:
        refused, transport = connect_fake(served)
        refused.data_received(raw(JSON))
        was_read = transport.reading
        await until(lambda: transport.reading)

        assert (status_of(transport.writes[0]), was_read) == (503, False)


@asynccontextmanager
async def refused(served_models, port, monkeypatch):
    """Have a request refused, so that its connection is not read from until the port has room; yield its client."""
    monkeypatch.setattr(refused_connections, "PAUSE_S", PATIENCE_S)
    async with listen([served_models["steps"]], port) as served, Wire.open(served) as wire:
        port.is_full = True
        wire.send(raw(JSON))
        assert status_of(await wire.response()) == 503
        (wire.connection,) = served.state.connections
        yield wire


async def send_unread(wire, data, port):
    """Send while nothing is read, and have the connection read again afterwards."""
    wire.send(data)
    await until(lambda: has_unread(wire.connection.transport))
    port.is_full = False


def timed(seconds):
    return raw(json.dumps({"inputs": [X], "parameters": {"timeout": round(seconds * 1e6)}}).encode())


async def test_a_timeout_that_may_have_passed_while_nothing_was_read_is_refused(
    served_models, make_manual_port, monkeypatch
):
    port = make_manual_port()
    async with refused(served_models, port, monkeypatch) as wire:
        await send_unread(wire, timed(1e-6), port)
        found = await wire.response()

    assert status_of(found) == 503
    assert b"\r\nretry-after: 1\r\n" in found
    assert json.loads(body_of(found))["error"].startswith("timeout: expected about ")
    assert port.waiting == {}


async def test_from_a_longer_timeout_the_time_that_nothing_was_read_is_taken(
    served_models, make_manual_port, monkeypatch
):
    port = make_manual_port()
    async with refused(served_models, port, monkeypatch) as wire:
        await send_unread(wire, timed(PATIENCE_S), port)
        _, work = await port.next_work()
        taken_s = time.monotonic()

    assert work.deadline_s < taken_s + PATIENCE_S - refused_connections.TICK_S / 2


async def test_a_request_that_is_sent_after_the_pause_has_all_its_time(served_models, make_manual_port, monkeypatch):
    port = make_manual_port()
    async with refused(served_models, port, monkeypatch) as wire:
        port.is_full = False
        await until(lambda: not wire.connection.flow.read_paused)
        sent_s = time.monotonic()
        wire.send(timed(1.0))
        _, work = await port.next_work()

    assert work.deadline_s >= sent_s + 1.0


async def test_who_could_not_be_served_in_time_is_not_read_from_for_a_moment_either(served_models, make_manual_port):
    async with listen([served_models["steps"]], make_manual_port(QueueTooLong(2.0, 1.0))) as served:
        protocol, transport = connect_fake(served)
        protocol.data_received(raw(JSON))

        assert (status_of(transport.writes[0]), transport.reading) == (503, False)


async def test_what_is_no_request_behind_others_is_refused_after_their_answers(served_models, make_manual_port):
    port = make_manual_port()
    async with listen([served_models["steps"]], port) as served, Wire.open(served) as wire:
        wire.send(raw(JSON) + raw(JSON) + raw(path="/v2", method="GET") + b"{}\r\n\r\n")
        for _ in range(2):
            ticket, _ = await port.next_work()
            port.answer(ticket)
        found = [await wire.response() for _ in range(4)]
        rest = await wire.rest()

    assert [status_of(one) for one in found] == [200, 200, 200, 400]
    assert json.loads(body_of(found[3]))["code"] == "malformed_request"
    assert rest == b""


async def test_a_client_that_goes_before_it_is_refused_frees_its_lane(served_models, make_manual_port):
    port = make_manual_port()
    async with listen([served_models["steps"]], port) as served:
        async with Wire.open(served) as wire:
            wire.send(raw(JSON) + b"{}\r\n\r\n")
            ticket, _ = await port.next_work()
        await until(lambda: port.cancelled)

    assert port.cancelled == [ticket]


# The end


async def test_a_request_that_comes_while_the_server_stops_is_answered_as_the_last_one(
    served_models, make_fake, make_network, make_runtime_port
):
    answers = []
    for hot_route in (False, True):
        port = make_runtime_port({"steps": make_fake(make_network("steps"))})
        async with listen([served_models["steps"]], port, hot_route=hot_route) as served, Wire.open(served) as wire:
            wire.send(raw(JSON))
            await wire.response()
            for connection in list(served.state.connections):
                connection.shutdown()
            wire.send(raw(JSON))
            answers.append((await wire.response(), await wire.rest()))

    assert answers[0] == answers[1]
    assert status_of(answers[0][0]) == 200
    assert b"\r\nconnection: close\r\n" in answers[0][0]
    assert answers[0][1] == b""


async def test_who_was_refused_is_not_left_unread_by_a_stop(served_models, make_manual_port, monkeypatch):
    monkeypatch.setattr(refused_connections, "PAUSE_S", PATIENCE_S)
    port = make_manual_port()
    port.is_full = True
    async with listen([served_models["steps"]], port) as served, Wire.open(served) as wire:
        wire.send(raw(JSON))
        first = await wire.response()
        wire.send(raw(JSON))
        for connection in list(served.state.connections):
            connection.shutdown()
        second = await wire.response()
        rest = await wire.rest()

    assert (status_of(first), status_of(second), rest) == (503, 503, b"")
    assert b"\r\nconnection: close\r\n" in second


async def test_a_head_that_stays_half_does_not_hold_up_a_stop(served_models, make_manual_port, monkeypatch):
    monkeypatch.setattr(connection_end, "LINGER_S", 0.001)
    async with (
        listen([served_models["steps"]], make_manual_port(), head_timeout_s=0.1) as served,
        Wire.open(served) as half,
    ):
        half.send(raw(JSON)[:20])
        await until(lambda: any(connection._reading == 1 for connection in served.state.connections))
        for connection in list(served.state.connections):
            connection.shutdown()
        found = await half.rest()

    assert status_of(found) == 408


async def test_a_request_that_could_not_be_read_takes_the_time_that_it_lay_unread_with_it(
    served_models, make_manual_port, monkeypatch
):
    port = make_manual_port()
    async with refused(served_models, port, monkeypatch) as wire:
        await send_unread(wire, raw(BAD), port)
        found = await wire.response()
        sent_s = time.monotonic()
        wire.send(timed(1.0))
        _, work = await port.next_work()

    assert status_of(found) == 400
    assert work.deadline_s >= sent_s + 1.0


async def test_of_a_pause_in_which_nothing_came_no_earlier_one_is_told(served_models, make_manual_port, monkeypatch):
    port = make_manual_port()
    async with refused(served_models, port, monkeypatch) as wire:
        wire.send(raw(JSON))
        await until(lambda: has_unread(wire.connection.transport))
        wire.connection._paused_s -= PATIENCE_S
        wire.connection.refused.resume_all()
        again = await wire.response()
        port.is_full = False
        await until(lambda: not wire.connection.flow.read_paused)
        sent_s = time.monotonic()
        wire.send(timed(1.0))
        _, work = await port.next_work()

    assert status_of(again) == 503
    assert work.deadline_s >= sent_s + 1.0


async def test_who_is_not_read_from_is_not_idle(served_models, make_manual_port, monkeypatch):
    monkeypatch.setattr(refused_connections, "PAUSE_S", PATIENCE_S)
    port = make_manual_port()
    port.is_full = True
    async with listen([served_models["steps"]], port, keep_alive_s=100) as served:
        protocol, transport = connect_fake(served)
        protocol.data_received(raw(JSON))
        protocol._idle_since_s -= 200
        protocol.timeout_keep_alive_handler()
        found = [transport.closing]
        protocol.refused.resume_all()
        protocol.timeout_keep_alive_handler()  # in the turn in which what came is not read yet
        found.append(transport.closing)
        protocol._idle_since_s -= 200
        protocol.timeout_keep_alive_handler()
        found.append(transport.closing)

    assert found == [False, False, True]


async def test_a_connection_that_is_refused_many_times_in_one_piece_waits_once(served_models, make_manual_port):
    port = make_manual_port()
    port.is_full = True
    async with listen([served_models["steps"]], port) as served:
        protocol, transport = connect_fake(served)
        protocol.data_received(raw(JSON) * 5)
        found = len(protocol.refused), transport.reading
        protocol.refused.resume_all()

    assert [status_of(answer) for answer in transport.writes] == [503] * 5
    assert found == (1, False)


async def test_who_is_refused_by_the_engine_itself_is_not_read_from_for_a_moment_either(
    served_models, make_manual_port
):
    port = make_manual_port()
    async with listen([served_models["steps"]], port) as served:
        protocol, transport = connect_fake(served)
        protocol.data_received(raw(JSON))
        ticket, _ = await port.next_work()
        port.answer(ticket, QueueFull(1))

        assert (status_of(transport.writes[0]), transport.reading) == (503, False)


async def test_a_connection_that_is_made_while_the_server_stops_is_told_so_too(
    served_models, make_fake, make_network, make_runtime_port, monkeypatch
):
    monkeypatch.setattr(connection_end, "LINGER_S", 0.001)
    port = make_runtime_port({"steps": make_fake(make_network("steps"))})
    async with listen([served_models["steps"]], port) as served:
        served.app.state.serving.draining = True
        async with Wire.open(served) as silent:
            assert await silent.rest() == b""
        monkeypatch.setattr(connection_end, "LINGER_S", PATIENCE_S)
        async with Wire.open(served) as late:
            late.send(raw(JSON))
            found, rest = await late.response(), await late.rest()

    assert (status_of(found), rest) == (200, b"")
    assert b"\r\nconnection: close\r\n" in found
