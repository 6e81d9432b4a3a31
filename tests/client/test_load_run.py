"""A load from begin to end, its event loops, its arrivals, and what it says about itself."""

import asyncio
import resource
import sys

import numpy as np
import pytest

from cellgate.client import event_loop
from cellgate.client.address import parse_address
from cellgate.client.arrivals import poisson_arrivals
from cellgate.client.errors import RefusedError, UnreachableError
from cellgate.client.event_loop import punctual_loop, quick_loop
from cellgate.client.jobs import JobPlan, make_jobs
from cellgate.client.latency import summarise
from cellgate.client.lengths import parse_lengths
from cellgate.client.load_plan import LoadPlan
from cellgate.client.load_run import _complaints, run_load
from cellgate.client.model_facts import facts_from_metadata
from cellgate.client.open_files import allow_connections
from cellgate.client.probe import probe
from cellgate.client.samples import Recorder


@pytest.fixture
def make_jobs_for(toy_metadata):
    def make(server, lengths="uniform:1-9", **plan):
        facts = facts_from_metadata(toy_metadata(), [])
        return make_jobs(parse_address(server.url), facts, JobPlan(lengths=parse_lengths(lengths), **plan))

    return make


@pytest.mark.parametrize("rate", [None, 2000.0], ids=["closed", "open"])
def test_a_load_runs_from_begin_to_end(serve_aside, make_jobs_for, rate):
    with serve_aside() as server:
        plan = LoadPlan(connections=8, rate=rate, warm_up_s=0.0, seconds=20.0, count=200)
        found = run_load(parse_address(server.url), make_jobs_for(server), plan)

    assert found.summary.requests == found.summary.latency.count == 200
    assert found.summary.errors == {}
    assert found.summary.requests_per_s > 0
    assert found.cpu_share > 0
    assert len(server.asked) == 200


def test_arrivals_are_those_of_a_poisson_process():
    arrivals = poisson_arrivals(50.0, 3)
    moments = np.array([next(arrivals) for _ in range(20_000)])
    gaps = np.diff(moments)

    assert (gaps >= 0).all()
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 50, rel=0.05)
    assert moments[:5].tolist() == [moment for moment, _ in zip(poisson_arrivals(50.0, 3), range(5), strict=False)]
    assert next(poisson_arrivals(50.0, 4)) != moments[0]


@pytest.mark.parametrize("platform", ["linux", "other"])
def test_both_event_loops_keep_time_and_run_without_uvloop(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setitem(sys.modules, "uvloop", None)

    async def wait():
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        begun = loop.time()
        loop.call_later(0.0005, done.set)
        await done.wait()
        await asyncio.to_thread(lambda: None)  # wakes the loop from another thread while it waits without end
        return loop.time() - begun

    for factory in (quick_loop(), punctual_loop()):
        with asyncio.Runner(loop_factory=factory) as runner:
            assert runner.run(wait()) >= 0.0005


def test_uvloop_is_taken_where_it_is_installed():
    uvloop = pytest.importorskip("uvloop")

    assert event_loop.quick_loop() is uvloop.new_event_loop


def summary_of(lines, **_):
    recorder = Recorder()
    for line in lines:
        recorder.add(*line)
    return summarise(recorder.samples(), 0.0, 10.0)


def test_a_generator_that_kept_up_says_nothing():
    assert _complaints(summary_of([(1.0, 1.0001, 1.01, 1, 1, 200)]), 0, 0.3) == []


def test_a_generator_that_did_not_keep_up_says_so():
    late = summary_of([(1.0, 1.5, 2.0, 1, 1, 200)])

    assert _complaints(late, 0, 0.3) == [
        "the generator fell behind: 1 of 100 requests left 500.0 ms or more after it was due"
    ]
    assert "used 95% of a CPU" in _complaints(summary_of([]), 0, 0.95)[0]
    assert "7 sequences had to wait for a connection" in _complaints(late, 7, 0.3)[0]


@pytest.mark.parametrize("keeper", ["client", "server"])
def test_a_probe_sends_every_part_of_a_sequence(serve_aside, make_jobs_for, keeper):
    with serve_aside() as server:
        job = make_jobs_for(server, "fixed:5", stream_steps=2, stream_state=keeper)[0]
        probe(parse_address(server.url), job, "")

    assert [asked.inputs["x"].shape[1] for asked in server.asked] == [2, 2, 1]


def test_two_probes_of_one_server_do_not_take_each_others_stream(serve_aside, make_jobs_for):
    with serve_aside() as server:
        job = make_jobs_for(server, "fixed:3", stream_steps=2, stream_state="server")[0]
        for _ in range(2):
            probe(parse_address(server.url), job, "")

    assert len({asked.parameters["sequence_id"] for asked in server.asked}) == 2


def test_a_probe_tells_what_the_server_said_and_the_remedy(serve_aside, make_jobs_for):
    with serve_aside(lambda _: (400, b'{"error": "parameters.sequence_id: no"}')) as server:
        with pytest.raises(RefusedError) as raised:
            probe(parse_address(server.url), make_jobs_for(server)[0], "do this")

        assert str(raised.value) == (
            f"{server.url}: a first request: expected it answered with 200, found 400 "
            "(parameters.sequence_id: no); do this"
        )
        server.infer = lambda _: (500, b"")
        with pytest.raises(RefusedError, match="found 500 \\(without a word\\)"):
            probe(parse_address(server.url), make_jobs_for(server)[0], "")


def test_a_busy_server_is_no_reason_not_to_measure(serve_aside, make_jobs_for):
    with serve_aside(lambda _: (503, b"{}")) as server:
        probe(parse_address(server.url), make_jobs_for(server)[0], "")


@pytest.mark.parametrize(
    ("sent", "found"),
    [(b"SSH-2.0\r\n", "found an answer that cannot be used"), (None, "the connection closed")],
)
def test_a_probe_of_another_server_is_one_sentence(serve_aside, make_jobs_for, sent, found):
    with serve_aside(lambda _: sent) as server, pytest.raises(UnreachableError, match=found):
        probe(parse_address(server.url), make_jobs_for(server)[0], "")


def test_a_probe_of_nobody_is_one_sentence(serve_aside, make_jobs_for):
    with serve_aside() as server:
        job = make_jobs_for(server)[0]
    with pytest.raises(UnreachableError, match="found connection refused"):
        probe(parse_address(server.url), job, "")


def test_open_files_are_allowed_up_to_what_the_system_grants(monkeypatch):
    limits = {"soft": 100, "hard": 1000}
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limits["soft"], limits["hard"]))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.update(soft=pair[0], hard=pair[1]))

    assert allow_connections(20) == 20
    assert limits["soft"] == 100
    assert allow_connections(500) == 500
    assert limits["soft"] == 564
    assert allow_connections(5000) == 936
    assert limits == {"soft": 1000, "hard": 1000}
    limits.update(soft=10, hard=10)
    assert allow_connections(5) == 1
    limits.update(soft=100, hard=resource.RLIM_INFINITY)
    assert allow_connections(5000) == 5000
    limits.update(soft=resource.RLIM_INFINITY)
    assert allow_connections(10**6) == 10**6


def test_a_probe_waits_for_an_answer_that_comes_in_pieces(serve_aside, make_jobs_for):
    with serve_aside(lambda _: (200, b"x" * 3_000_000)) as server:
        probe(parse_address(server.url), make_jobs_for(server)[0], "")

    assert len(server.asked) == 1
