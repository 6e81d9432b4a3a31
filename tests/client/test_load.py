"""The load on real sockets: closed loop, open loop, streams, and every way in which a server fails. Nothing sleeps."""

import asyncio
import itertools

import pytest

from cellgate.client.address import parse_address
from cellgate.client.errors import ServerGoneError, UnreachableError
from cellgate.client.http_answer import Answer
from cellgate.client.jobs import JobPlan, make_jobs
from cellgate.client.lengths import parse_lengths
from cellgate.client.load import Load
from cellgate.client.load_plan import LoadPlan
from cellgate.client.model_facts import facts_from_metadata
from cellgate.client.pool import Pool

NEVER = 1e9


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def make_load(toy_metadata):
    def make(server, *, lengths="fixed:4", arrivals=None, clock=None, job=None, **plan):
        address = parse_address(server.url)
        facts = facts_from_metadata(toy_metadata(), [])
        jobs = make_jobs(address, facts, JobPlan(lengths=parse_lengths(lengths), **(job or {})))
        plan = {"connections": 4, "warm_up_s": 0.0, "seconds": 60.0, **plan}
        loop_clock = asyncio.get_running_loop().time
        return Load(address, jobs, LoadPlan(**plan), None if arrivals is None else iter(arrivals), clock or loop_clock)

    return make


async def run(load, **more):
    async with asyncio.timeout(20):
        return await load.run(**more)


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


async def test_an_idle_connection_is_used_again_unless_the_server_may_be_closing_it(serve_here):
    clock, told = Clock(), asyncio.Queue()

    class Owner:
        def on_open(self, connection):
            pool.live.add(connection)
            pool.keep(connection)

        def on_closed(self, connection):
            pool.forget(connection)
            told.put_nowait(connection)

    async with serve_here() as server, asyncio.timeout(20):
        pool = Pool(parse_address(server.url), Owner(), 2, clock)
        await pool.open_first(2)
        assert not pool.open_one()
        clock.now += 1.0
        used = pool.take_idle()
        pool.keep(used)
        assert pool.take_idle() is used
        clock.now += 3.0
        assert pool.take_idle() is None
        assert await told.get() is not used
        pool.close()
        assert await told.get() is used
        assert not pool.open_one()


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
