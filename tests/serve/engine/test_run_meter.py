"""What the engine counts for others, on a clock that a test moves: exact counts, exact seconds."""

from dataclasses import replace

import pytest

from cellgate.serve.engine.engine import Engine
from cellgate.serve.engine.work import RunTimes
from cellgate.serve.errors import EngineError
from cellgate.serve.observe.counter_layout import ANSWERED_ROWS, LAST_RUN, QUEUE_S, RUN_S, RUN_S_OF_ROWS, STEPS
from cellgate.serve.observe.counter_page import Counters

BEGIN_S = 1000.0


@pytest.fixture
def metered(make_model, make_runtime, make_limits, make_clock, make_cost):
    """An engine of which a run takes what its cost says; with its clock and counters."""

    def make(fault=None, **limits):
        clock, cost = make_clock(now=BEGIN_S), make_cost()
        runtime = make_runtime(clock=clock, cost=cost, fault=fault)
        counters = Counters.alone(["sum"])
        engine = Engine([make_model(runtime, make_cost())], make_limits(**limits), clock, counters.own)
        return engine, clock, runtime, counters

    return make


def test_queue_runs_rows_and_steps_are_those_of_the_runs_that_were(metered, make_work, drain):
    engine, clock, runtime, counters = metered()
    engine.submit("a", make_work(4, 9, 1))
    engine.submit("b", make_work(2))
    clock.now += 0.5
    drain(engine, clock)

    reading, runs = counters.read(), runtime.seen
    useful = sum(sum(run.lengths) for run in runs)
    computed = sum(len(run.rows) * run.steps for run in runs)
    waits, waited_s = reading.histogram(QUEUE_S, 1)
    times, run_s = reading.histogram(RUN_S, 1)
    assert reading.value(ANSWERED_ROWS, 1) == 4
    assert (reading.value(STEPS, 1, 0), reading.value(STEPS, 1, 1)) == (useful, computed - useful)
    assert useful == 16
    assert (sum(waits), waited_s) == (2, pytest.approx(1.0, abs=2 * (clock.now - BEGIN_S - 0.5)))
    assert waited_s >= 1.0
    assert sum(times) == len(runs)
    assert run_s == pytest.approx(clock.now - BEGIN_S - 0.5)
    assert reading.value(LAST_RUN, 1) == clock.now
    for rows in range(1, 65):
        assert reading.histogram(RUN_S_OF_ROWS, 1, rows - 1)[0] == [sum(len(run.rows) == rows for run in runs)]


def test_a_request_of_many_rows_waits_once_and_is_answered_once(metered, make_work, drain):
    engine, clock, _, counters = metered()
    engine.submit("a", make_work(*([3] * 200)))
    drain(engine, clock)

    reading = counters.read()
    assert sum(reading.histogram(QUEUE_S, 1)[0]) == 1
    assert reading.value(ANSWERED_ROWS, 1) == 200


def test_a_run_that_failed_is_none(metered, make_work, drain):
    def fail(_feeds):
        raise EngineError("broken")

    engine, clock, _, counters = metered(fail)
    engine.submit("a", make_work(3))
    ((_, outcome),) = drain(engine, clock)

    assert isinstance(outcome, EngineError)
    assert not any(counters.read().values)


def test_a_cancelled_request_has_not_been_answered(metered, make_work):
    engine, _, _, counters = metered()
    engine.submit("a", make_work(3))
    engine.cancel("a")

    assert not any(counters.read().values)


def test_times_of_a_traced_work_are_those_of_its_own_runs(metered, make_work, drain):
    engine, clock, runtime, counters = metered(run_limit_s=0.0001)
    times = RunTimes()
    engine.submit("a", replace(make_work(40, 40, first=7), times=times))
    clock.now += 0.25
    engine.submit("b", make_work(3, 90, first=1))
    drain(engine, clock)

    own = [run for run in runtime.seen if 7 in run.rows]
    assert times.runs == len(own) > 1
    assert times.arrived_s == BEGIN_S
    assert BEGIN_S + 0.25 <= times.first_run_s < times.last_run_s <= clock.now
    assert sum(counters.read().histogram(QUEUE_S, 1)[0]) == 2
