"""The load on real sockets: closed loop, open loop, streams, and what is written down of each. Nothing sleeps."""

import asyncio
import itertools

import pytest

from .loads import NEVER, Clock, run


async def test_a_closed_loop_sends_as_many_as_asked_for_and_writes_each_down_once(serve_here, make_load):
    async with serve_here() as server:
        load = make_load(server, count=100, lengths="uniform:1-9")
        begun, ended = await run(load)
    samples = load.recorder.samples()

    assert len(server.asked) == len(samples) == load.recorder.answers == 100
    assert server.connections == 4
    assert set(samples.statuses.tolist()) == {200}
    assert sorted(samples.steps.tolist()) == sorted(asked.inputs["x"].shape[1] for asked in server.asked)
    assert (samples.scheduled_s <= samples.sent_s).all()
    assert (samples.sent_s <= samples.ended_s).all()
    assert begun <= ended <= samples.ended_s.max()


async def test_a_closed_loop_keeps_as_many_under_way_as_there_are_connections(serve_here, make_load, toy):
    under_way, most, gate = 0, 0, asyncio.Event()

    async def infer(asked):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 3:
            gate.set()
        await gate.wait()  # nobody is answered before three are here
        under_way -= 1
        return toy(asked)

    async with serve_here(infer) as server:
        await run(make_load(server, connections=3, count=30))

    assert most == 3


async def test_the_warm_up_is_sent_and_not_counted(serve_here, make_load, toy):
    clock = Clock()

    def infer(asked):
        clock.now += 1.0
        return toy(asked)

    async with serve_here(infer) as server:
        load = make_load(server, clock=clock, connections=1, warm_up_s=10.0, count=5)
        begun, ended = await run(load)
    samples = load.recorder.samples()

    assert begun == 1010.0
    assert ended == 1015.0
    assert len(samples) == 15
    assert (samples.scheduled_s >= begun).sum() == 5


async def test_time_ends_a_closed_loop_after_the_last_answer(serve_here, make_load, toy):
    clock = Clock()

    def infer(asked):
        clock.now += 3.0
        return toy(asked)

    async with serve_here(infer) as server:
        load = make_load(server, clock=clock, connections=1, seconds=10.0)
        assert await run(load) == (1000.0, 1010.0)

    assert load.recorder.samples().ended_s.tolist() == [1003.0, 1006.0, 1009.0, 1012.0]


async def test_latency_of_an_open_loop_counts_from_the_schedule(serve_here, make_load, toy):
    """Two sequences are due at once and one connection is allowed: the second waits for the first, and says so."""
    clock = Clock()

    def infer(asked):
        clock.now += 5.0 if len(server.asked) == 1 else 3.0
        return toy(asked)

    async with serve_here(infer) as server:
        load = make_load(server, arrivals=[0.0, 0.0, NEVER], clock=clock, connections=1, seconds=4.0)
        await run(load)
    samples = load.recorder.samples()

    assert samples.scheduled_s.tolist() == [1000.0, 1000.0]
    assert samples.sent_s.tolist() == [1000.0, 1005.0]
    assert samples.ended_s.tolist() == [1005.0, 1008.0]
    assert load.held_back == 1


async def test_arrivals_never_wait_for_answers(serve_here, make_load, toy):
    """Nobody is answered before everybody has arrived, which needs a connection for each."""
    gate = asyncio.Event()

    async def infer(asked):
        if len(server.asked) == 20:
            gate.set()
        await gate.wait()
        return toy(asked)

    async with serve_here(infer) as server:
        arrivals = [*(place * 1e-4 for place in range(20)), NEVER]
        load = make_load(server, arrivals=arrivals, connections=50, first=2)
        await run(load)

    assert load.recorder.answers == 20
    assert server.connections == 20
    assert load.held_back == 0


async def test_an_open_loop_stops_at_its_number(serve_here, make_load):
    async with serve_here() as server:
        load = make_load(server, arrivals=itertools.count(0.0, 1e-4), count=17)
        await run(load)

    assert load.recorder.answers == 17


@pytest.mark.parametrize("body", ["binary", "json"])
async def test_a_stream_carries_its_state_from_part_to_part(serve_here, make_load, body):
    async with serve_here() as server:
        load = make_load(server, count=6, lengths="fixed:7", job={"stream_steps": 3, "body": body, "rows": 2})
        await run(load)
    samples = load.recorder.samples()
    done = [asked.inputs["c0"][0, 0, 0] for asked in server.asked if "c0" in asked.inputs]

    assert load.recorder.answers == 18
    assert sorted(done) == [3.0] * 6 + [6.0] * 6
    assert set(samples.lengths.tolist()) == {7}
    assert sorted(samples.steps.tolist()) == [2] * 6 + [6] * 12


async def test_streams_that_the_server_keeps_have_ids_of_their_own(serve_here, make_load, toy):
    """Those of two loads too: a start without a step takes over whatever stream has its id."""
    async with serve_here() as server:
        for count in (3, 2):
            await run(make_load(server, count=count, job={"stream_steps": 2, "stream_state": "server"}))
    ids = [asked.parameters["sequence_id"] for asked in server.asked]

    assert len(set(ids)) == 5
    assert max(ids) < 2**53
    assert all(ids.count(each) == 2 for each in ids)


async def test_progress_is_told_in_seconds(serve_here, make_load, toy):
    told, gate = [], asyncio.Event()

    async def infer(asked):
        await gate.wait()
        return toy(asked)

    def progress(seconds):
        told.append(seconds)
        gate.set()

    async with serve_here(infer) as server:
        await run(make_load(server, count=4), on_progress=progress)

    assert told
    assert all(0.0 <= seconds < 20.0 for seconds in told)
