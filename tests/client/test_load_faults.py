"""Every way in which a server fails under load, and what is written down of it. Nothing sleeps."""

import asyncio
import itertools

import pytest

from cellgate.client.errors import ServerGoneError, UnreachableError
from cellgate.client.http_answer import Answer

from .loads import NEVER, Clock, run


async def test_a_refused_part_ends_its_stream(serve_here, make_load, toy):
    async with serve_here(lambda asked: (503, b"") if "h0" in asked.inputs else toy(asked)) as server:
        load = make_load(server, count=4, lengths="fixed:9", job={"stream_steps": 3})
        await run(load)

    assert sorted(load.recorder.samples().statuses.tolist()) == [200] * 4 + [503] * 4


async def test_other_statuses_are_answers_and_counted_as_such(serve_here, make_load, toy):
    statuses = itertools.cycle([200, 503, 500])
    async with serve_here(lambda asked: (next(statuses), b"{}")) as server:
        load = make_load(server, count=30)
        await run(load)
    found = load.recorder.samples().statuses.tolist()

    assert [found.count(status) for status in (200, 503, 500)] == [10, 10, 10]


async def test_a_connection_that_ends_is_written_down_and_replaced(serve_here, make_load, toy):
    async with serve_here(lambda asked: None if len(server.asked) % 3 == 0 else toy(asked)) as server:
        load = make_load(server, count=30)
        await run(load)
    found = load.recorder.samples().statuses.tolist()

    assert len(found) == 30
    assert found.count(-1) == 10
    assert server.connections >= 11


async def test_a_server_that_closes_after_each_answer_is_measured_all_the_same(serve_here, make_load, answer_bytes):
    async with serve_here(lambda _: answer_bytes(200, b"x", "Connection: close\r\n")) as server:
        load = make_load(server, count=10)
        await run(load)

    assert load.recorder.answers == 10
    assert server.connections >= 10


async def test_what_is_no_answer_is_written_down(serve_here, make_load):
    async with serve_here(lambda _: b"SSH-2.0-hello\r\n") as server:
        load = make_load(server, count=3, connections=1)
        await run(load)

    assert set(load.recorder.samples().statuses.tolist()) == {-3}


async def test_bytes_after_an_answer_are_no_answer(serve_here, make_load, answer_bytes):
    once = answer_bytes(200, b"")
    async with serve_here(lambda _: once if len(server.asked) > 1 else once + b"HTTP") as server:
        load = make_load(server, count=3, connections=1)
        await run(load)
    found = load.recorder.samples().statuses.tolist()

    assert found == [-3, 200, 200]


async def test_a_state_that_does_not_come_back_ends_the_stream(serve_here, make_load):
    async with serve_here(lambda _: (200, b'{"outputs": []}')) as server:
        load = make_load(server, count=2, connections=1, job={"stream_steps": 2, "body": "json"})
        await run(load)

    assert load.recorder.samples().statuses.tolist() == [200, -3, 200, -3]


async def test_a_request_without_an_answer_is_given_up(serve_here, make_load):
    clock, forever = Clock(), asyncio.Event()

    async def infer(_):
        clock.now += 61.0
        await forever.wait()

    async with serve_here(infer) as server:
        load = make_load(server, clock=clock, connections=1, seconds=60.0)
        await run(load)

    assert load.recorder.samples().statuses.tolist() == [-2]


async def test_a_sequence_that_waits_too_long_for_a_connection_is_given_up(serve_here, make_load):
    clock, forever = Clock(), asyncio.Event()

    async def infer(_):
        clock.now += 61.0
        await forever.wait()

    async with serve_here(infer) as server:
        load = make_load(server, arrivals=[0.0, 0.0, 0.0, NEVER], clock=clock, connections=1, seconds=1.0)
        await run(load)

    assert load.recorder.samples().statuses.tolist().count(-2) == 3


async def test_a_server_that_goes_away_is_one_sentence(serve_here, make_load, toy):
    async def infer(asked):
        if len(server.asked) == 5:
            await server.stop()
            return None
        return toy(asked)

    async with serve_here(infer) as server:
        load = make_load(server, gone_s=0.2, connections=1)
        with pytest.raises(ServerGoneError, match=r"found that it took no connection for 0\.\d s after 4 answers"):
            await run(load)


async def test_a_server_that_takes_too_few_connections_is_one_sentence(serve_here, make_load, monkeypatch):
    monkeypatch.setattr("cellgate.client.pool._OPENING_S", 0.2)
    async with serve_here() as server:
        load = make_load(server, connections=3)
        await server.stop()
        with pytest.raises(UnreachableError, match=r"found that it took 0 of 3 connections in 0.2 s"):
            await run(load)


async def test_an_answer_that_nobody_asked_for_closes_the_connection(serve_here, make_load):
    class Idle:
        job, place, aborted = None, 0, 0

        def abort(self):
            self.aborted += 1

    async with serve_here() as server:
        load, connection = make_load(server), Idle()
        load.on_answer(connection, Answer(408, b"", keeps_alive=False))  # as some servers say before they hang up

    assert connection.aborted == 1
    assert len(load.recorder.samples()) == 0
