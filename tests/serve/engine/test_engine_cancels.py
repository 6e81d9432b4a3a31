"""What is cancelled, or has ended in any other way, leaves nothing behind: no answer, no lane, no memory."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest

from cellgate.serve.errors import EngineError, NotReady

from .engine_counts import counts, is_empty


def test_cancelled_work_is_never_answered_and_leaves_nothing(make_runtime, make_model, make_engine, make_work, drain):
    runtime = make_runtime()
    engine, clock = make_engine(make_model(runtime), max_lanes=2)
    for ticket in range(1, 5):
        engine.submit(ticket, make_work(5, 6, first=ticket, states=True))

    engine.cancel(1)  # in its lanes
    engine.cancel(4)  # in the queue

    assert sorted(ticket for ticket, _ in drain(engine, clock)) == [2, 3]
    assert {row for run in runtime.seen for row in run.rows} == {2, 3}
    assert is_empty(engine)
    assert counts(engine, "accepted", "answered", "cancelled") == (4, 2, 2)


def test_cancelled_work_frees_its_lane_at_the_next_run(make_runtime, make_model, make_engine, make_work):
    runtime = make_runtime()
    engine, _ = make_engine(make_model(runtime), max_lanes=1, run_limit_s=1e-5)
    engine.submit("gone", make_work(10_000, first=1))
    engine.submit("waiting", make_work(10_000, first=2))
    engine.run_once()

    engine.cancel("gone")
    engine.run_once()

    assert [run.rows for run in runtime.seen] == [(1,), (2,)]


def test_cancelling_unknown_or_answered_work_is_fine(make_engine, make_work, drain):
    engine, clock = make_engine()
    engine.submit(1, make_work(2))
    drain(engine, clock)
    before = engine.statistics()

    engine.cancel(1)
    engine.cancel("never seen")

    assert engine.statistics() == before


@pytest.mark.slow
def test_ten_thousand_cancels_at_random_moments_leave_nothing(make_runtime, make_model, make_engine, make_work, drain):
    runtime = make_runtime(remembers=False)
    engine, clock = make_engine(make_model(runtime), max_lanes=8, run_limit_s=5e-5)
    values = np.random.default_rng(11)
    kinds = [
        make_work(*values.integers(1, 40, size=int(values.integers(1, 4))), seed=seed, states=bool(seed % 2))
        for seed in range(50)
    ]
    cancelled, answered, live = set(), [], []
    for ticket in range(10_000):
        engine.submit(ticket, kinds[ticket % len(kinds)])
        live.append(ticket)
        if values.random() < 0.6:
            clock.now += 1e-4
            answered += [one for one, _ in engine.run_once()]
        while live and (len(live) > 30 or values.random() < 0.45):
            gone = live.pop(int(values.integers(len(live))))
            engine.cancel(gone)
            cancelled.add(gone)
    for gone in live[::2]:
        engine.cancel(gone)
        cancelled.add(gone)
    answered += [one for one, _ in drain(engine, clock)]

    assert is_empty(engine)
    assert len(answered) == len(set(answered))
    accepted, told, dropped = counts(engine, "accepted", "answered", "cancelled")
    assert accepted == 10_000 == told + dropped
    assert told == len(answered)
    # A cancel after the answer is none; before it, there is no answer.
    assert set(answered) | cancelled == set(range(10_000))
    assert dropped == len(cancelled - set(answered))


@pytest.mark.parametrize("rows", [1, 10, 1000])
def test_request_that_waits_takes_its_tensors_and_a_kibibyte(make_engine, make_work, rows):
    engine, _ = make_engine(max_lanes=1)
    engine.submit("first", make_work(3))
    works = [make_work(*[2] * rows, seed=seed) for seed in range(20)]

    tracemalloc.start()
    try:
        for ticket, work in enumerate(works):
            engine.submit(ticket, work)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert taken / len(works) <= 1024 + works[0].size_bytes  # the tensors themselves were there before


@pytest.mark.usefixtures("collects_what_comes")
@pytest.mark.parametrize("end", ["answer", "cancel", "cancel before a run", "failure", "deadline", "close"])
def test_nothing_of_a_request_is_kept_when_it_has_ended(make_runtime, make_model, make_engine, make_work, drain, end):
    runtime = make_runtime()
    engine, clock = make_engine(make_model(runtime), run_limit_s=1e-5)
    work = make_work(50, 60, states=True, deadline_s=clock.now + 1000)
    watched = [weakref.ref(array) for array in (work.sequence, work.lengths, work.states[0])]
    engine.submit(1, work)
    del work
    if end != "cancel before a run":
        engine.run_once()

    def refuse(feeds):
        raise EngineError("no")

    if end.startswith("cancel"):
        engine.cancel(1)
    elif end == "close":
        engine.close()
    elif end == "failure":
        runtime.fault = refuse
    elif end == "deadline":
        clock.now += 2000
    results = drain(engine, clock)
    watched += [weakref.ref(array) for _, outcome in results if isinstance(outcome, dict) for array in outcome.values()]
    del results
    gc.collect()

    assert [ref() is None for ref in watched] == [True] * len(watched)


def test_close_refuses_all_that_wait_once_and_closes_the_runtimes(make_runtime, make_model, make_engine, make_work):
    runtimes = [make_runtime(), make_runtime()]
    engine, _ = make_engine(
        make_model(runtimes[0], name="a"), make_model(runtimes[1], name="b"), max_lanes=1, run_limit_s=1e-5
    )
    for ticket in range(4):
        engine.submit(ticket, make_work(100, 100, model="ab"[ticket % 2], states=True))
    engine.run_once()

    results = engine.close()

    assert sorted((ticket, type(outcome)) for ticket, outcome in results) == [(k, NotReady) for k in range(4)]
    assert is_empty(engine)
    assert [runtime.closed > 0 for runtime in runtimes] == [True, True]
    assert engine.close() == []
    assert (engine.wait_s(), engine.run_once()) == (None, [])
