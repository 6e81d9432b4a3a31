"""What is refused, or comes too late, is told once and changes nothing else."""

from dataclasses import replace

import pytest

from cellgate.serve.errors import DeadlineExceeded, EngineError, QueueFull, UnknownModel

from .engine_counts import counts, inside, is_empty


def test_unknown_model_is_refused_and_changes_nothing(make_engine, make_work):
    engine, _ = make_engine()
    before = engine.statistics()

    with pytest.raises(UnknownModel, match="expected one of sum version 1, found 'other'"):
        engine.submit(1, make_work(3, model="other"))

    assert engine.statistics() == before


def test_work_that_cannot_be_taken_leaves_nothing_and_troubles_nobody(make_engine, make_work, drain):
    """Nobody should hand in a state too many; who does is told at once, or by the outcome."""
    engine, clock = make_engine(max_lanes=2)
    works = {number: make_work(5, 6, states=True) for number in (1, 2)}
    broken = make_work(5, 6, states=True)
    broken = replace(broken, states=(*broken.states, *broken.states))
    told = {}

    for ticket, work in ((1, works[1]), ("broken", broken), (2, works[2])):
        try:
            engine.submit(ticket, work)
        except ValueError:
            told[ticket] = EngineError
    told |= {ticket: type(outcome) for ticket, outcome in drain(engine, clock, most=100)}

    assert told == {1: dict, "broken": EngineError, 2: dict}
    assert is_empty(engine)


def test_work_that_cannot_be_taken_by_an_idle_engine_leaves_nothing(make_engine, make_work, drain):
    engine, clock = make_engine()
    broken = make_work(5, states=True)
    broken = replace(broken, states=(*broken.states, *broken.states))

    try:
        engine.submit(1, broken)
    except ValueError:
        assert drain(engine, clock) == []
    else:
        assert [type(outcome) for _, outcome in drain(engine, clock, most=100)] == [EngineError]

    assert is_empty(engine)


def test_full_queue_refuses_by_requests_and_changes_nothing_else(make_engine, make_work, drain):
    engine, clock = make_engine(max_waiting=3)
    for ticket in range(3):
        engine.submit(ticket, make_work(4))
    before = inside(engine)

    with pytest.raises(QueueFull, match="fewer than 3 waiting requests"):
        engine.submit(3, make_work(4))

    assert inside(engine) == before
    assert counts(engine, "accepted", "refused") == (3, 1)
    assert sorted(ticket for ticket, _ in drain(engine, clock)) == [0, 1, 2]
    engine.submit(3, make_work(4))
    assert len(drain(engine, clock)) == 1


def test_full_queue_refuses_by_bytes_of_all_tensors(make_engine, make_work, drain):
    work = make_work(10, states=True)
    size = work.sequence.nbytes + work.lengths.nbytes + work.states[0].nbytes
    engine, clock = make_engine(max_waiting_bytes=2 * size)
    engine.submit(1, work)
    engine.submit(2, work)
    before = inside(engine)

    with pytest.raises(QueueFull, match=rf"at most {before['inside_bytes']} bytes in the tensors of waiting requests"):
        engine.submit(3, make_work(1))

    assert before["inside_bytes"] == 2 * size
    assert inside(engine) == before
    drain(engine, clock)
    assert is_empty(engine)


def test_request_larger_than_the_queue_runs_by_itself(make_engine, make_work, drain):
    engine, clock = make_engine(max_waiting_bytes=100)

    engine.submit(1, make_work(1000))
    with pytest.raises(QueueFull):
        engine.submit(2, make_work(1))

    assert [ticket for ticket, _ in drain(engine, clock)] == [1]


def test_past_its_deadline_work_is_dropped_unrun_and_told_once(make_runtime, make_model, make_engine, make_work, drain):
    runtime = make_runtime()
    engine, clock = make_engine(make_model(runtime))
    engine.submit("late", make_work(5, deadline_s=clock.now + 1))
    clock.now += 1

    ((ticket, outcome),) = drain(engine, clock)

    assert ticket == "late"
    assert isinstance(outcome, DeadlineExceeded)
    assert runtime.runs == 0
    assert is_empty(engine)
    assert counts(engine, "expired", "answered", "failed") == (1, 0, 0)


def test_deadline_takes_the_late_only(make_runtime, make_model, make_engine, make_work, drain, expected_of, is_same):
    runtime = make_runtime()
    engine, clock = make_engine(make_model(runtime))
    now = clock.now
    works = {
        "none": make_work(7, first=1),
        "passed": make_work(7, first=2, deadline_s=now + 1),
        "passed too": make_work(3, 2, first=3, deadline_s=now + 2, states=True),
        "far": make_work(7, first=4, deadline_s=now + 9),
    }
    for ticket, work in works.items():
        engine.submit(ticket, work)
    clock.now += 5

    results = drain(engine, clock)

    outcomes = dict(results)
    assert len(results) == len(outcomes) == 4
    late = {ticket for ticket, outcome in outcomes.items() if isinstance(outcome, DeadlineExceeded)}
    assert late == {"passed", "passed too"}
    assert {row for run in runtime.seen for row in run.rows} == {1, 4}
    for ticket in ("none", "far"):
        assert is_same(outcomes[ticket], expected_of(works[ticket]))
    clock.now += 100
    assert engine.run_once() == []


def test_work_on_its_way_is_dropped_at_its_deadline(make_engine, make_work):
    engine, clock = make_engine(run_limit_s=1e-5)
    engine.submit(1, make_work(1000, deadline_s=clock.now + 1))
    assert engine.run_once() == []
    assert inside(engine)["sum.slots"] == 1
    clock.now += 1

    ((ticket, outcome),) = engine.run_once()

    assert (ticket, type(outcome)) == (1, DeadlineExceeded)
    assert is_empty(engine)
    assert engine.run_once() == []


def test_deadline_of_answered_work_troubles_nobody(make_engine, make_work, drain):
    engine, clock = make_engine()
    engine.submit(1, make_work(2, deadline_s=clock.now + 1))
    drain(engine, clock)
    engine.submit(2, make_work(2, deadline_s=clock.now + 50))
    clock.now += 2

    assert [(ticket, type(outcome)) for ticket, outcome in drain(engine, clock)] == [(2, dict)]


def test_deadline_at_zero_is_a_deadline(make_engine, make_work, make_clock, drain):
    engine, clock = make_engine(clock=make_clock(now=0.0))
    engine.submit(1, make_work(2, deadline_s=0.0))

    assert [type(outcome) for _, outcome in drain(engine, clock)] == [DeadlineExceeded]


def test_earlier_deadline_that_comes_later_counts(make_engine, make_work, drain):
    engine, clock = make_engine()
    engine.submit(1, make_work(2, deadline_s=clock.now + 9))
    engine.submit(2, make_work(2, deadline_s=clock.now + 1))
    engine.submit(3, make_work(2, deadline_s=clock.now + 5))
    clock.now += 6

    outcomes = {ticket: type(outcome) for ticket, outcome in drain(engine, clock)}

    assert outcomes == {1: dict, 2: DeadlineExceeded, 3: DeadlineExceeded}
