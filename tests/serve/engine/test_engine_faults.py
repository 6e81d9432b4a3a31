"""A run that fails is told to those in it, once; everybody else is answered."""

import logging

import numpy as np
import pytest

from cellgate.serve.errors import EngineError

from .engine_counts import counts, is_empty


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


def test_what_the_runtime_says_of_a_refused_run_is_in_the_log_and_nowhere_else(
    make_runtime, make_model, make_engine, make_work, drain, caplog
):
    def refuse(feeds):
        raise EngineError("runtime: found it refused") from MemoryError("of 7 GB")

    engine, clock = make_engine(make_model(make_runtime(fault=refuse)))
    engine.submit(1, make_work(3))

    assert [str(outcome) for _, outcome in drain(engine, clock)] == ["runtime: found it refused"]
    assert "MemoryError: of 7 GB" in caplog.text


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


def test_fault_before_a_run_is_planned_ends_too(make_engine, make_work, drain, caplog):
    engine, clock = make_engine()
    engine.submit(1, make_work(3))
    (model,) = engine.models
    model.cost.step_s[:] = np.nan  # no number of steps comes of it

    assert [(ticket, type(outcome)) for ticket, outcome in drain(engine, clock, most=5)] == [(1, EngineError)]
    assert is_empty(engine)
    assert "choose_run" in caplog.text


def test_row_that_cannot_begin_fails_its_request_and_no_other(make_engine, make_work, drain, caplog):
    """A fault while a waiting row takes its lane: somebody is told, and nothing waits for ever."""
    engine, clock = make_engine(max_lanes=1)
    engine.submit(1, make_work(3))
    bad = make_work(3, states=True)
    bad.states = (*bad.states, None)  # one more than the network has
    engine.submit("bad", bad)
    engine.submit(2, make_work(3))

    outcomes = {ticket: type(outcome) for ticket, outcome in drain(engine, clock, most=50)}

    assert outcomes == {1: dict, "bad": EngineError, 2: dict}
    assert is_empty(engine)
    assert "in begin" in caplog.text
