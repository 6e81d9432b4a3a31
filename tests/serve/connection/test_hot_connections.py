"""What a connection of the hot route goes through: clients that go, do not read, never end, or stay to the end."""

import asyncio
import json
import random

import anyio
import pytest
from tests.both_loops import anyio_backend, the_loop_asked_for  # noqa: F401 - fixtures
from tests.serve.hot_wire import (
    ALL_BINARY,
    HEAD,
    JSON,
    PATIENCE_S,
    Wire,
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

from cellgate.serve.connection import connection_end


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
