"""Each way's own turn: counts against counts made by hand, and time from a clock that the runtime moves."""

import pytest

from cellgate.serve.engine.limit_ways import OUTSTANDING, BatchWay, FloorWay
from cellgate.serve.errors import EngineError

from .limit_machine import Machine, lanes_of, sequences_of, signature_of


@pytest.fixture
def machine():
    return Machine(signature_of())


def test_one_at_a_time_runs_each_sequence_as_it_is(machine):
    rows = sequences_of(machine, 3, 5)
    turn = BatchWay(machine, [[row] for row in rows], machine.clock).turn()

    assert (turn.useful, turn.computed) == (8, 8)
    assert turn.seconds == pytest.approx(0.028)
    assert [run["x"].tolist() for run in machine.runs] == [row.tolist() for row in rows]
    assert [run["lengths"].tolist() for run in machine.runs] == [[3], [5]]


def test_a_batch_is_padded_to_its_longest_with_zeros(machine):
    rows = sequences_of(machine, 3, 5)
    turn = BatchWay(machine, [rows], machine.clock).turn()
    (run,) = machine.runs

    assert (turn.useful, turn.computed) == (8, 10)
    assert run["x"].shape == (2, 5, 2)
    assert (run["x"][0, :3] == rows[0][0]).all()
    assert (run["x"][1] == rows[1][0]).all()
    assert not run["x"][0, 3:].any()
    assert run["lengths"].tolist() == [3, 5]
    assert not run["h0"].any()


def test_the_floor_runs_full_batches_for_a_while(machine):
    (row,) = sequences_of(machine, 2)
    turn = FloorWay(machine, row, 4, machine.clock).turn()

    assert turn.useful == turn.computed == 8 * len(machine.runs) == 16
    assert machine.runs[0]["x"].shape == (4, 2, 2)
    assert machine.runs[0]["lengths"].tolist() == [2] * 4


def test_lanes_are_kept_full_and_neither_filling_nor_draining_is_timed(machine):
    engine, lanes = lanes_of(machine, sequences_of(machine, 4, 6))
    first = lanes.turn()
    runs = len(machine.runs)
    second = lanes.turn()

    assert engine.most == len(engine.works) == OUTSTANDING
    assert runs == OUTSTANDING + 2
    assert len(machine.runs) == runs + 2
    for turn in (first, second):
        assert (turn.useful, turn.computed) == (10, 10)
        assert turn.seconds == pytest.approx(2 * 0.01 + 10 * 0.001)


def test_a_run_of_the_engine_that_fails_ends_the_measuring(machine):
    _, lanes = lanes_of(machine, sequences_of(machine, 4), fails=True)

    with pytest.raises(EngineError, match="broken"):
        lanes.turn()


def test_an_engine_that_waits_for_company_is_waited_for(machine):
    engine, lanes = lanes_of(machine, sequences_of(machine, 4), waits=[0.0, 1e-6])
    lanes.turn()

    assert engine.waits == []
