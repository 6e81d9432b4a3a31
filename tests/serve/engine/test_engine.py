"""Every work is answered once, with its own answer; what is refused, cancelled or failed leaves nothing behind."""

import gc
import logging
import tracemalloc
import weakref
from dataclasses import replace

import numpy as np
import pytest

from cellgate.serve.engine.engine import EngineLimits
from cellgate.serve.errors import DeadlineExceeded, EngineError, NotReady, QueueFull, UnknownModel
from cellgate.serve.settings import Settings

NOTHING = {"inside": 0, "inside_bytes": 0}


def inside(engine):
    """What is in the engine now; all zeros where nothing is."""
    found = engine.statistics()
    now = {name: found["requests"][name] for name in NOTHING}
    for name, model in found["models"].items():
        now |= {f"{name}.{what}": model[what] for what in ("waiting_rows", "lanes", "slots")}
    return now


def is_empty(engine):
    return not any(inside(engine).values())


def counts(engine, *names):
    found = engine.statistics()["requests"]
    return tuple(found[name] for name in names)


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


# Refusals


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

    with pytest.raises(QueueFull):
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


# Deadlines


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


# Cancellation


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


# Faults


def test_failed_run_is_told_to_those_in_it_once_and_the_others_go_on(
    make_runtime, make_model, make_engine, make_work, drain, expected_of, is_same
):
    def refuse(feeds):
        if 66 in feeds["x"][:, 0, 0]:
            raise EngineError("runtime: expected it to run the batch, found it refused")

    runtime = make_runtime(fault=refuse)
    engine, clock = make_engine(make_model(runtime), max_lanes=2)
    works = {ticket: make_work(4, 4, first=66 if ticket == 2 else ticket, states=True) for ticket in range(5)}
    for ticket, work in works.items():
        engine.submit(ticket, work)

    results = drain(engine, clock)

    outcomes = dict(results)
    assert len(results) == len(outcomes) == 5
    told = {ticket for run in runtime.seen if 66 in run.rows for ticket in run.rows} - {66} | {2}
    assert {ticket for ticket, outcome in outcomes.items() if isinstance(outcome, EngineError)} == told
    for ticket in works.keys() - told:
        assert is_same(outcomes[ticket], expected_of(works[ticket]))
    assert is_empty(engine)
    assert counts(engine, "failed", "answered") == (len(told), 5 - len(told))


def test_request_fails_once_though_some_of_its_rows_still_wait(make_runtime, make_model, make_engine, make_work, drain):
    def refuse(feeds):
        raise EngineError("no")

    engine, clock = make_engine(make_model(make_runtime(fault=refuse)), max_lanes=2)
    engine.submit(1, make_work(1, 2, 3, 4, 5, states=True))

    assert [(ticket, type(outcome)) for ticket, outcome in drain(engine, clock)] == [(1, EngineError)]
    assert is_empty(engine)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda found: {"y": found["y"]}, id="outputs are missing"),
        pytest.param(lambda found: {**found, "total_n": found["total_n"][:, :0]}, id="rows are missing"),
        pytest.param(lambda found: None, id="nothing came back"),
    ],
)
def test_fault_of_ours_is_an_engine_error_for_those_in_the_run_and_a_traceback_in_the_log(
    make_runtime, make_model, make_engine, make_work, drain, caplog, spoil
):
    runtime = make_runtime(spoil=spoil)
    engine, clock = make_engine(make_model(runtime), run_limit_s=1e-5)
    engine.submit(1, make_work(50))
    engine.submit(2, make_work(50, 60, states=True))

    with caplog.at_level(logging.ERROR, "cellgate.serve"):
        results = drain(engine, clock, most=50)

    assert sorted((ticket, type(outcome)) for ticket, outcome in results) == [(1, EngineError), (2, EngineError)]
    assert is_empty(engine)
    assert "model sum: a run of the engine failed" in caplog.text
    assert "Traceback" in caplog.text
    assert "total_n" not in str(results[0][1])  # the message may reach the client
    runtime.spoil = None
    engine.submit(3, make_work(2))
    assert [(ticket, type(outcome)) for ticket, outcome in drain(engine, clock)] == [(3, dict)]


def test_fault_before_a_run_is_planned_ends_too(make_engine, make_work, drain, caplog, monkeypatch):
    engine, clock = make_engine()
    engine.submit(1, make_work(3))
    (queue,) = engine._queues

    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(queue._planner, "choose_run", fail)

    assert [(ticket, type(outcome)) for ticket, outcome in drain(engine, clock, most=5)] == [(1, EngineError)]
    assert is_empty(engine)


def test_row_that_cannot_begin_fails_its_request_and_no_other(make_engine, make_work, drain, caplog, monkeypatch):
    """A fault while a waiting row takes its lane: somebody is told, and nothing waits for ever."""
    engine, clock = make_engine(max_lanes=1)
    engine.submit(1, make_work(3))
    engine.submit("bad", make_work(3, states=True))
    engine.submit(2, make_work(3))
    (queue,) = engine._queues
    begin = queue._table.begin

    def fail(lane):
        if lane.request.ticket == "bad":
            raise MemoryError
        begin(lane)

    monkeypatch.setattr(queue._table, "begin", fail)

    outcomes = {ticket: type(outcome) for ticket, outcome in drain(engine, clock, most=50)}

    assert outcomes == {1: dict, "bad": EngineError, 2: dict}
    assert is_empty(engine)


# Memory


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


# The end


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


# Several models


def test_model_whose_leader_is_due_first_runs_first(make_runtime, make_model, make_engine, make_work):
    long, short = make_runtime(), make_runtime()
    engine, clock = make_engine(make_model(long, name="long"), make_model(short, name="short"))

    engine.submit(1, make_work(10_000, model="long"))
    clock.now += 1e-6
    engine.submit(2, make_work(1, model="short"))
    engine.run_once()

    assert (long.runs, short.runs) == (0, 1)


def test_no_model_starves_beside_one_that_is_always_busy(make_runtime, make_model, make_engine, make_work, make_clock):
    clock, cost_s = make_clock(), 1e-3
    busy, other = make_runtime(), make_runtime()
    busy.fault = other.fault = lambda feeds: setattr(clock, "now", clock.now + cost_s)
    engine, _ = make_engine(make_model(busy, name="busy"), make_model(other, name="other"), clock=clock)
    engine.submit("it", make_work(100, model="other"))
    due_s = 8.0 * 100 * engine.models[1].cost.unit_s  # after its arrival

    waited = 0
    while True:
        engine.submit(waited, make_work(1, model="busy"))
        waited += 1
        if "it" in dict(engine.run_once()):
            break
        assert waited <= due_s / cost_s + 2


def test_models_take_turns_by_the_time_of_arrival(make_runtime, make_model, make_engine, make_work, drain):
    runtimes = {name: make_runtime() for name in "abc"}
    engine, clock = make_engine(*(make_model(runtime, name=name) for name, runtime in runtimes.items()), max_lanes=1)
    for ticket, name in enumerate("cabbca"):
        clock.now += 1.0
        engine.submit((ticket, name), make_work(2, model=name))

    order = [ticket[1] for ticket, _ in drain(engine, clock)]

    assert order == list("cabbca")


# Priority


def test_higher_priority_goes_first_and_equal_ones_by_arrival(make_engine, make_work, drain):
    engine, clock = make_engine(max_lanes=1)
    for ticket, priority in (("a", 0), ("b", 0), ("c", 2), ("d", 1)):
        clock.now += 1e-3
        engine.submit(ticket, make_work(3, priority=priority))

    order = [ticket for ticket, _ in drain(engine, clock)]

    assert order == ["c", "d", "a", "b"]


# Holding


def test_run_that_is_held_runs_when_its_moment_has_come_even_where_nobody_came(
    make_runtime, make_model, make_engine, make_work
):
    runtime = make_runtime(remembers=False)
    engine, clock = make_engine(make_model(runtime))
    for ticket in range(300):  # arrivals near each other, so that waiting for the next may pay
        engine.submit(ticket, make_work(100))
        clock.now += 1e-5
        engine.run_once()
    while engine.wait_s() is not None:
        clock.now += engine.wait_s()
        engine.run_once()
    engine.submit("last", make_work(100))

    wait_s = engine.wait_s()
    runs = runtime.runs
    assert engine.run_once() == []
    assert 0 < wait_s <= 0.1 * engine.models[0].cost.seconds(1, 100)
    assert runtime.runs == runs
    clock.now += wait_s
    assert [ticket for ticket, _ in engine.run_once()] == ["last"]
    assert engine.statistics()["models"]["sum"]["holds"] > 0
