"""Every work is answered once, with its own answer; the engine counts what it did."""

import numpy as np
import pytest

from cellgate.serve.engine.engine_limits import EngineLimits
from cellgate.serve.settings import Settings

from .engine_counts import counts, inside, is_empty


def test_limits_are_those_of_the_settings():
    settings = Settings(max_waiting=5, max_waiting_bytes=2**21, max_lanes=7, run_limit_s=0.5, max_row_steps=99)

    assert EngineLimits.of(settings) == EngineLimits(
        max_waiting=5, max_waiting_bytes=2**21, max_lanes=7, run_limit_s=0.5, step_budget=99
    )


def test_idle_engine_has_nothing_to_do(make_engine):
    engine, _ = make_engine()

    assert engine.wait_s() is None
    assert engine.run_once() == []
    assert is_empty(engine)
    assert [model.served.name for model in engine.models] == ["sum"]


@pytest.mark.parametrize("states", [False, True], ids=["from zero", "from a given state"])
@pytest.mark.parametrize("lengths", [(4,), (4, 4), (1, 9, 3), (2,) * 70], ids=["one", "equal", "ragged", "many"])
def test_request_is_answered_once_with_its_own_answer(
    make_engine, make_work, expected_of, is_same, drain, lengths, states
):
    engine, clock = make_engine()
    work = make_work(*lengths, states=states, outputs=("total_n", "y", "last"))

    engine.submit("a", work)
    ((ticket, answer),) = drain(engine, clock)

    assert ticket == "a"
    assert is_same(answer, expected_of(work))
    assert is_empty(engine)
    assert counts(engine, "accepted", "answered", "failed", "cancelled") == (1, 1, 0, 0)


def test_rows_of_one_request_that_end_in_the_same_run_are_one_answer(make_engine, make_work, drain):
    engine, clock = make_engine()

    engine.submit(1, make_work(5, 5, 5))
    engine.submit(2, make_work(5))

    assert sorted(ticket for ticket, _ in drain(engine, clock)) == [1, 2]


def test_same_ticket_may_be_used_again_after_its_answer(make_engine, make_work, drain):
    engine, clock = make_engine()

    for seed in range(3):
        engine.submit("a", make_work(3, seed=seed))
        assert len(drain(engine, clock)) == 1


@pytest.mark.parametrize("max_lanes", [1, 2, 64])
@pytest.mark.parametrize("run_limit_s", [1e-6, 4e-3])
@pytest.mark.parametrize(
    ("ragged", "stateful", "streamable"),
    [(True, True, True), (True, False, False), (False, True, True), (False, False, False)],
    ids=["lanes", "whole sequences", "lanes of equal length", "whole sequences of equal length"],
)
def test_mixed_traffic_gets_the_answers_of_each_sequence_alone(
    make_runtime,
    make_model,
    make_engine,
    make_work,
    expected_of,
    is_same,
    max_lanes,
    run_limit_s,
    ragged,
    stateful,
    streamable,
):
    runtime = make_runtime(ragged=ragged, stateful=stateful)
    engine, clock = make_engine(
        make_model(runtime, streamable=streamable), max_lanes=max_lanes, run_limit_s=run_limit_s
    )
    values = np.random.default_rng(7)
    works, answers = {}, {}
    names = ("y", "last", "total_n") if stateful else ("y", "last")
    for ticket in range(120):
        rows = int(values.integers(1, 4))
        lengths = values.integers(1, 61, size=rows) if ragged else [int(values.integers(1, 61))] * rows
        outputs = tuple(values.permutation(names)[: values.integers(1, len(names) + 1)].tolist())
        states = bool(values.integers(2)) if stateful else None
        priority = int(values.integers(-4, 5))
        work = make_work(*lengths, outputs=outputs, states=states, seed=ticket, priority=priority)
        works[ticket] = work
        engine.submit(ticket, work)
        for _ in range(int(values.integers(3))):
            clock.now += 1e-4
            answers |= dict(engine.run_once())
    while engine.wait_s() is not None:
        clock.now += engine.wait_s()
        for ticket, answer in engine.run_once():
            assert ticket not in answers
            answers[ticket] = answer

    assert answers.keys() == works.keys()
    for ticket, work in works.items():
        assert is_same(answers[ticket], expected_of(work)), ticket
    assert is_empty(engine)
    assert all(len(run.rows) <= max_lanes for run in runtime.seen)


def test_statistics_tell_what_was_computed(make_runtime, make_model, make_engine, make_work, drain):
    runtime = make_runtime()
    engine, clock = make_engine(make_model(runtime, streamable=False))

    engine.submit(1, make_work(10))
    engine.submit(2, make_work(8))
    drain(engine, clock)

    computed = sum(len(run.rows) * run.steps for run in runtime.seen)
    useful = sum(sum(run.lengths) for run in runtime.seen)
    found = engine.statistics()["models"]["sum"]
    assert (found["runs"], found["rows"]) == (runtime.runs, sum(len(run.rows) for run in runtime.seen))
    assert (found["computed_steps"], found["useful_steps"]) == (computed, useful)
    assert found["padding_ratio"] == pytest.approx(1 - useful / computed)
    assert found["rows_a_run"] == pytest.approx(found["rows"] / found["runs"])


def test_statistics_count_every_row_that_has_not_ended(make_engine, make_work):
    engine, _ = make_engine(max_lanes=2, run_limit_s=1e-5)

    engine.submit(1, make_work(50, 60, 70, 80, 90))
    engine.submit(2, make_work(50))
    for _ in range(3):
        found = inside(engine)
        assert found["sum.lanes"] + found["sum.waiting_rows"] == 6
        assert found["sum.lanes"] <= 2
        assert found["sum.slots"] <= 6
        engine.run_once()


def test_statistics_of_an_unused_engine_are_zeros(make_engine):
    engine, _ = make_engine()

    found = engine.statistics()["models"]["sum"]

    assert (found["padding_ratio"], found["rows_a_run"], found["runs"]) == (0.0, 0.0, 0)


def test_run_takes_the_time_that_the_clock_says(
    make_runtime, make_model, make_engine, make_work, make_cost, make_clock
):
    clock = make_clock()
    cost = make_cost()
    engine, _ = make_engine(make_model(make_runtime(clock=clock, cost=make_cost()), cost), clock=clock)

    engine.submit(1, make_work(6))
    engine.run_once()

    assert engine.statistics()["models"]["sum"]["run_s"] == pytest.approx(cost.seconds(1, 6))
