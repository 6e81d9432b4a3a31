"""The hot route against the route that it stands for, byte by byte."""

import json
import logging

import numpy as np
import pytest
from tests.both_loops import anyio_backend, the_loop_asked_for  # noqa: F401 - fixtures
from tests.serve.connection.hot_table import STATES, TABLE
from tests.serve.hot_wire import (
    ALL_BINARY,
    BAD,
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

from cellgate.serve.errors import DeadlineExceeded, EngineError, EngineLost, QueueFull
from cellgate.serve.observe import fault_report
from cellgate.serve.observe.counter_layout import FAILED_S, READ_S, RENDER_S, REQUEST_S, REQUESTS, STATUSES

pytestmark = pytest.mark.long


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
