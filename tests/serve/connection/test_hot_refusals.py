"""A full queue: what is refused before it is read, and when a connection that was refused is read again."""

import json
import time
from contextlib import asynccontextmanager

import pytest
from tests.both_loops import anyio_backend, the_loop_asked_for  # noqa: F401 - fixtures
from tests.serve.hot_wire import (
    BAD,
    INFER,
    JSON,
    PATIENCE_S,
    Wire,
    answered,
    body_of,
    connect_fake,
    has_all_its_time,
    listen,
    raw,
    status_of,
    timed,
    until,
)

from cellgate.serve.connection import refused_connections
from cellgate.serve.connection.socket_queues import has_unread
from cellgate.serve.errors import QueueFull, QueueTooLong


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
        is_whole = await has_all_its_time(wire, port)

    assert is_whole


async def test_who_could_not_be_served_in_time_is_not_read_from_for_a_moment_either(served_models, make_manual_port):
    async with listen([served_models["steps"]], make_manual_port(QueueTooLong(2.0, 1.0))) as served:
        protocol, transport = connect_fake(served)
        protocol.data_received(raw(JSON))

        assert (status_of(transport.writes[0]), transport.reading) == (503, False)


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


async def test_a_request_that_could_not_be_read_takes_the_time_that_it_lay_unread_with_it(
    served_models, make_manual_port, monkeypatch
):
    port = make_manual_port()
    async with refused(served_models, port, monkeypatch) as wire:
        await send_unread(wire, raw(BAD), port)
        found = await wire.response()
        is_whole = await has_all_its_time(wire, port)

    assert status_of(found) == 400
    assert is_whole


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
        is_whole = await has_all_its_time(wire, port)

    assert status_of(again) == 503
    assert is_whole


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


CHUNKED = (
    b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"%x\r\n%b\r\n0\r\n\r\n" % (INFER.encode(), len(JSON), JSON)
)


@pytest.mark.parametrize("hot_route", [True, False], ids=["hot", "asgi"])
@pytest.mark.parametrize("late", [0, 9], ids=["refused-when-all-is-there", "refused-in-the-middle-of-the-body"])
async def test_who_was_refused_by_a_route_is_not_read_from_for_a_moment_either(
    served_models, make_manual_port, monkeypatch, late, hot_route
):
    """What the hot route leaves to the routes, such as chunks, or all, where it is off; a body is read to its end."""
    monkeypatch.setattr(refused_connections, "PAUSE_S", PATIENCE_S)
    port = make_manual_port()
    port.is_full = True
    async with listen([served_models["steps"]], port, hot_route=hot_route) as served, Wire.open(served) as wire:
        wire.send(CHUNKED[: len(CHUNKED) - late])
        found = [status_of(await wire.response())]
        (wire.connection,) = served.state.connections
        was_read = not late or not wire.connection.flow.read_paused
        wire.send(CHUNKED[len(CHUNKED) - late :])
        await until(lambda: wire.connection.flow.read_paused)
        port.is_full = False
        await until(lambda: not wire.connection.flow.read_paused)
        is_whole = await has_all_its_time(wire, port)

    assert (found, was_read, is_whole) == ([503], True, True)


@pytest.mark.parametrize("hot_route", [True, False], ids=["hot", "asgi"])
async def test_what_a_refused_client_has_sent_meanwhile_is_answered_though_the_connection_was_idle_for_too_long(
    served_models, make_manual_port, monkeypatch, hot_route
):
    monkeypatch.setattr(refused_connections, "PAUSE_S", PATIENCE_S)
    port = make_manual_port()
    port.is_full = True
    async with (
        listen([served_models["steps"]], port, hot_route=hot_route, keep_alive_s=0) as served,
        Wire.open(served) as wire,
    ):
        wire.send(CHUNKED)
        found = [status_of(await wire.response())]
        (connection,) = served.state.connections
        wire.send(raw(JSON))
        await until(lambda: connection.flow.read_paused)
        connection.timeout_keep_alive_handler()
        port.is_full = False
        ticket, _ = await port.next_work()
        port.answer(ticket)
        found.append(status_of(await wire.response()))

    assert found == [503, 200]
