"""The limit in process: counts against counts made by hand, and time from a clock that the runtime moves."""

import numpy as np
import pytest

from cellgate.bundle.manifest import GraphSignature, StatePair, TensorSpec
from cellgate.serve.engine.limit import (
    BATCHES,
    FLOOR_ROWS,
    choose_count,
    make_sequences,
    make_works,
    measure_limit,
)
from cellgate.serve.engine.limit_ways import OUTSTANDING, BatchWay, CountingRuntime, FloorWay, LanesWay
from cellgate.serve.errors import EngineError
from cellgate.serve.runtime.runtime import RuntimeFacts


def spec(name, dtype, *shape):
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def signature_of(*, lengths="lengths", tokens=False):
    sequence = spec("tokens", "int64", "B", "T") if tokens else spec("x", "float32", "B", "T", 2)
    inputs = (sequence, *((spec("lengths", "int32", "B"),) if lengths else ()), spec("h0", "float32", 1, "B", 3))
    return GraphSignature(
        inputs=inputs,
        outputs=(spec("y", "float32", "B", 4), spec("h_n", "float32", 1, "B", 3)),
        sequence=sequence.name,
        lengths=lengths,
        state=(StatePair(input="h0", output="h_n"),),
        vocabulary_size=5 if tokens else None,
    )


class Machine:
    """A runtime and its clock: a run takes 0.01 s, and 0.001 s a row and step, padded ones included."""

    def __init__(self, signature):
        self.signature = signature
        self.facts = RuntimeFacts(device="cpu", provider="fake", threads=1, version="0", reason="asked for")
        self.provider, self.device, self.closed = "fake", "cpu", False
        self.runs = []
        self.now = 0.0

    def clock(self):
        return self.now

    def run(self, feeds):
        assert set(feeds) == {tensor.name for tensor in self.signature.inputs}
        rows, steps = feeds[self.signature.sequence].shape[:2]
        assert feeds["h0"].shape == (1, rows, 3)
        self.runs.append({name: array.copy() for name, array in feeds.items()})
        self.now += 0.01 + 0.001 * rows * steps
        return {}

    def close(self):
        self.closed = True


class OneAtATime:
    """Keeps what this folder needs of the engine: runs the oldest work whole."""

    def __init__(self, runtime, *, fails=False, waits=()):
        self.runtime, self.fails, self.waits = runtime, fails, list(waits)
        self.works = {}
        self.most = 0

    def submit(self, ticket, work):
        assert ticket not in self.works
        self.works[ticket] = work
        self.most = max(self.most, len(self.works))

    def run_once(self):
        if self.waits:
            return []
        ticket, work = next(iter(self.works.items()))
        del self.works[ticket]
        state = np.zeros((1, 1, 3), np.float32)
        self.runtime.run({"x": work.sequence, "lengths": work.lengths, "h0": state})
        return [(ticket, EngineError("broken") if self.fails else {})]

    def wait_s(self):
        return self.waits.pop() if self.waits else 0.0


@pytest.fixture
def machine():
    return Machine(signature_of())


def sequences_of(machine, *lengths):
    return make_sequences(machine.signature, np.array(lengths), 0)


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


def test_a_counting_runtime_counts_and_is_otherwise_the_runtime(machine):
    counting = CountingRuntime(machine)
    state = np.zeros((1, 2, 3), np.float32)
    counting.run({"x": np.zeros((2, 5, 2)), "lengths": np.array([3, 5], np.int32), "h0": state})
    counting.close()

    assert (counting.useful, counting.computed) == (8, 10)
    assert (counting.facts, counting.provider, counting.device) == (machine.facts, "fake", "cpu")
    assert counting.signature is machine.signature
    assert machine.closed


def test_without_lengths_every_step_is_a_real_one():
    machine = Machine(signature_of(lengths=None))
    counting = CountingRuntime(machine)
    counting.run({"x": np.zeros((2, 5, 2)), "h0": np.zeros((1, 2, 3))})

    assert (counting.useful, counting.computed) == (10, 10)


def lanes_of(machine, rows, **more):
    counting = CountingRuntime(machine)
    engine = OneAtATime(counting, **more)
    return engine, LanesWay(engine, counting, make_works("m", machine.signature, rows), machine.clock)


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
