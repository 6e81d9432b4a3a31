"""The limit in process: all ways in turn, against times worked out by hand."""

import numpy as np
import pytest

from cellgate.serve.engine.counting_runtime import CountingRuntime
from cellgate.serve.engine.limit import (
    BATCHES,
    FLOOR_ROWS,
    choose_count,
    make_sequences,
    make_works,
    measure_limit,
)
from cellgate.serve.engine.limit_ways import LanesWay

from .limit_machine import Machine, OneAtATime, lanes_of, sequences_of, signature_of


@pytest.fixture
def machine():
    return Machine(signature_of())


def test_sequences_have_their_lengths_and_the_dtype_of_the_graph():
    x = make_sequences(signature_of(), np.array([3, 5]), 0)
    tokens = make_sequences(signature_of(tokens=True), np.array([300]), 0)

    assert [(row.shape, row.dtype) for row in x] == [((1, 3, 2), np.float32), ((1, 5, 2), np.float32)]
    assert tokens[0].shape == (1, 300)
    assert set(tokens[0].reshape(-1).tolist()) == {0, 1, 2, 3, 4}
    assert (x[0] == make_sequences(signature_of(), np.array([3, 5]), 0)[0]).all()
    assert (x[0] != make_sequences(signature_of(), np.array([3, 5]), 1)[0]).all()


def test_works_ask_for_everything_but_the_states():
    work = make_works("m", signature_of(), make_sequences(signature_of(), np.array([3]), 0))[0]

    assert (work.model, work.outputs, work.states) == ("m", ("y",), (None,))
    assert work.lengths.tolist() == [3]


def test_every_way_is_measured_against_the_floor(machine):
    rows = sequences_of(machine, *([3, 9] * 16))
    _, lanes = lanes_of(machine, rows)
    told = []
    found = measure_limit(machine, rows, lanes, turns=3, progress=lambda *what: told.append(what), clock=machine.clock)
    steps = sum(row.shape[1] for row in rows)
    by_way = {(row.way, row.batch): row for row in found}

    assert [row.way for row in found] == ["alone", *["padded"] * 4, "sorted", "lanes", "floor"]
    assert [row.batch for row in found if row.way == "padded"] == list(BATCHES)
    assert by_way["alone", None].step_s == pytest.approx((32 * 0.01 + steps * 0.001) / steps)
    assert by_way["padded", 4].step_s == pytest.approx((8 * 0.01 + 32 * 9 * 0.001) / steps)
    assert by_way["padded", 4].padding_share == pytest.approx(1 - steps / (32 * 9))
    assert by_way["sorted", 16].padding_share == 0.0
    assert by_way["sorted", 16].sequences_per_s == pytest.approx(32 / (2 * 0.01 + steps * 0.001))
    assert by_way["lanes", None].step_s == pytest.approx(by_way["alone", None].step_s)
    assert by_way["floor", 64].floor_share == 1.0
    assert by_way["floor", 64].step_s == pytest.approx((0.01 + 64 * 6 * 0.001) / (64 * 6))
    assert max(FLOOR_ROWS) == 64
    for row in found:
        assert row.floor_share == pytest.approx(by_way["floor", 64].step_s / row.step_s)
    assert told[0][1:] == (0, 3)
    assert told[-1][1:] == (3, 3)


def test_all_ways_take_turns_back_and_forth(machine):
    rows = sequences_of(machine, *([3, 9] * 16))
    _, lanes = lanes_of(machine, rows)
    measure_limit(machine, rows, lanes, turns=2, clock=machine.clock)
    singles = [place for place, run in enumerate(machine.runs) if run["x"].shape[:2] in ((1, 3), (1, 9))]
    alone = singles[:32] + singles[-32:]

    assert alone[:32] == list(range(32))
    assert alone[-32:] == list(range(len(machine.runs) - 32, len(machine.runs)))


def test_a_network_without_lengths_shares_batches_only_where_sequences_are_alike():
    for lengths, ways in (([3, 9] * 4, 1), ([5] * 8, 6)):
        machine = Machine(signature_of(lengths=None))
        counting = CountingRuntime(machine)
        engine = OneAtATime(machine)
        engine.run_once = lambda engine=engine, counting=counting: [
            (ticket, counting.run({"x": engine.works.pop(ticket).sequence, "h0": np.zeros((1, 1, 3))}))
            for ticket in list(engine.works)[:1]
        ]
        rows = sequences_of(machine, *lengths)
        lanes = LanesWay(engine, counting, make_works("m", machine.signature, rows), machine.clock)
        found = measure_limit(machine, rows, lanes, turns=1, clock=machine.clock)

        assert found[0].way == "alone"
        assert len(found) == ways + 2


@pytest.mark.parametrize(("budget_s", "expected"), [(0.0, 128), (1e9, 4096)])
def test_as_many_sequences_as_the_time_allows_within_bounds(machine, budget_s, expected):
    assert choose_count(machine, np.array([3, 9] * 50), budget_s, 5) == expected


def test_the_number_of_sequences_fills_batches(machine):
    assert choose_count(machine, np.array([10]), 0.02 * 14 * 5 * 1000.5, 5, machine.clock) == 992
