"""The hot route against the route that it stands for, byte by byte."""

import asyncio
import json
import logging

import anyio
import numpy as np
import pytest
from tests.both_loops import anyio_backend, the_loop_asked_for  # noqa: F401 - fixtures
from tests.serve.hot_wire import (
    ALL_BINARY,
    BAD,
    BLOB,
    HEAD,
    INFER,
    JSON,
    Wire,
    X,
    answered,
    binary,
    body_of,
    chunked,
    connect_fake,
    listen,
    raw,
    status_of,
    until,
)
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cellgate.serve import fault_report, hot_surface
from cellgate.serve.app import create_app
from cellgate.serve.counter_layout import FAILED_S, READ_S, RENDER_S, REQUEST_S, REQUESTS, STATUSES
from cellgate.serve.errors import DeadlineExceeded, EngineError, EngineLost, QueueFull
from cellgate.serve.guarded_protocol import GuardedProtocol
from cellgate.serve.hot_protocol import HotProtocol
from cellgate.serve.hot_surface import http_protocol, surface_gaps
from cellgate.serve.settings import Settings

pytestmark = pytest.mark.long

STATES = json.dumps({"inputs": [X], "outputs": [{"name": "h_n"}, {"name": "y"}]}).encode()


MIXED = [{"name": "y", "parameters": {"binary_data": True}}, {"name": "c_n", "parameters": {"binary_data": False}}]


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


async def taken(protocol, transport, data):
    if not transport.closing:
        protocol.data_received(data)
    await anyio.wait_all_tasks_blocked()
    await until(lambda: transport.closing or not protocol._is_busy())  # a thread reads what is large


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
                await taken(protocol, transport, part)
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
