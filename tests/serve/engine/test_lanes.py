"""Lanes pack, run and unpack; their buffers stay where they are."""

import numpy as np
import pytest

from cellgate.serve.engine.lanes import LaneTable
from cellgate.serve.engine.request import Lane, Request
from cellgate.serve.errors import EngineError


def lanes_of(work, ticket=0):
    request = Request(ticket, work, work.size_bytes, work.rows)
    return [Lane(request, row, work.sequence[row], int(steps), 0.0) for row, steps in enumerate(work.lengths)]


def advance(table, lanes, steps):
    """One run over all lanes that are left; which of them are left then."""
    lanes = sorted((lane for lane in lanes if lane.remaining > 0), key=lambda lane: lane.remaining)
    ended = table.advance(lanes, min(steps, lanes[-1].remaining))
    for lane in lanes[:ended]:
        table.release(lane)
    return lanes[ended:]


@pytest.mark.parametrize("states", [False, True], ids=["from zero", "from a given state"])
@pytest.mark.parametrize("steps", [1, 2, 5, 100])
def test_rows_that_advance_some_steps_a_run_end_with_the_answer_of_one_pass(
    make_runtime, make_work, expected_of, is_same, steps, states
):
    work = make_work(1, 7, 4, 7, 12, states=states, steps=15)
    table = LaneTable(make_runtime(), 5)
    lanes = left = lanes_of(work)
    for lane in lanes:
        table.begin(lane)

    while left:
        left = advance(table, left, steps)

    request = lanes[0].request
    assert is_same(request.ordered_answer(), expected_of(work))
    assert table.used_slots == 0


def test_state_that_a_request_left_out_is_zero_though_its_lane_was_used_before(
    make_runtime, make_work, expected_of, is_same
):
    table = LaneTable(make_runtime(), 1)

    for seed, states in enumerate((True, False, True, False)):
        work = make_work(6, seed=seed, states=states)
        (lane,) = lanes_of(work)
        table.begin(lane)
        advance(table, advance(table, [lane], 2), 100)
        assert is_same(lane.request.ordered_answer(), expected_of(work))


def test_of_several_states_those_left_out_are_zero(make_runtime, make_work):
    """Two states of which one is given: the given one does not leak into the other."""
    runtime = make_runtime()
    table = LaneTable(runtime, 2)
    given = np.ones((1, 1, 2), np.float32)
    (slots,) = table._states

    slots.put(1, given, 0)
    assert slots.take(np.array([1, 0])).tolist() == [[[1, 1], [0, 0]]]
    slots.put(1, None, 0)
    assert slots.take(np.array([1, 0])).tolist() == [[[0, 0], [0, 0]]]


def test_network_without_state_or_lengths_is_fed_neither(make_runtime, make_work, expected_of, is_same):
    runtime = make_runtime(ragged=False, stateful=False)
    work = make_work(4, 4, outputs=("last", "y"), states=None)
    lanes = lanes_of(work)
    table = LaneTable(runtime, 2)
    for lane in lanes:
        table.begin(lane)

    assert advance(table, lanes, 4) == []
    assert is_same(lanes[0].request.ordered_answer(), expected_of(work))


def test_only_what_was_asked_for_is_in_the_answer_in_that_order(make_runtime, make_work):
    table = LaneTable(make_runtime(), 4)
    for outputs in (("total_n",), ("last", "y"), ("y", "total_n", "last")):
        lanes = lanes_of(make_work(2, 3, outputs=outputs))
        advance(table, lanes, 3)
        assert tuple(lanes[0].request.ordered_answer()) == outputs


def test_sequences_are_never_written_to(make_runtime, make_work):
    work = make_work(5, 9, states=True)
    for array in (work.sequence, work.lengths, work.states[0]):
        array.flags.writeable = False
    table = LaneTable(make_runtime(), 2)
    lanes = left = lanes_of(work)
    for lane in lanes:
        table.begin(lane)

    while left:
        left = advance(table, left, 3)

    assert [lane.remaining <= 0 for lane in lanes] == [True, True]


def test_lane_that_advances_alone_is_read_where_it_lies(make_runtime, make_work):
    runtime = make_runtime()
    work = make_work(8)

    advance(LaneTable(runtime, 1), lanes_of(work), 8)

    assert ("x", work.sequence.__array_interface__["data"][0]) in runtime.places


def test_buffers_stay_where_they_are_after_the_largest_run(make_runtime, make_work):
    runtime = make_runtime()
    table = LaneTable(runtime, 16)
    advance(table, lanes_of(make_work(*[40] * 16)), 40)
    places = set(runtime.places)
    values = np.random.default_rng(5)

    for seed in range(100):
        rows = int(values.integers(2, 17))
        left = lanes_of(make_work(*values.integers(1, 41, size=rows), seed=seed, states=bool(seed % 2)))
        for lane in left:
            table.begin(lane)
        while len(left) > 1:
            left = advance(table, left, int(values.integers(1, 41)))
        for lane in left:
            table.release(lane)

    assert runtime.places == places
    assert table.used_slots == 0


def test_answers_share_no_memory_with_the_lanes_or_each_other(make_runtime, make_work, expected_of, is_same):
    """What a receiver does to its answer changes nobody else's, and a later run does not change it."""
    table = LaneTable(make_runtime(), 4)
    works = [make_work(3, seed=seed, states=True) for seed in range(4)]
    lanes = [lane for work in works for lane in lanes_of(work)]
    for lane in lanes:
        table.begin(lane)
    advance(table, lanes, 3)
    answers = [lane.request.ordered_answer() for lane in lanes]

    for array in answers[0].values():
        array[:] = np.nan
    advance(table, lanes_of(make_work(3, 3, 3, 3, seed=9)), 3)

    for work, answer in zip(works[1:], answers[1:], strict=True):
        assert is_same(answer, expected_of(work))


def test_failed_run_moves_no_lane(make_runtime, make_work, expected_of, is_same):
    def refuse(feeds):
        raise EngineError("no")

    runtime = make_runtime()
    table = LaneTable(runtime, 3)
    work = make_work(2, 5, 9)
    lanes = lanes_of(work)
    left = advance(table, lanes, 4)

    runtime.fault = refuse
    with pytest.raises(EngineError):
        advance(table, left, 1)
    assert [lane.remaining for lane in lanes] == [-2, 1, 5]

    runtime.fault = None
    advance(table, left, 100)
    assert is_same(lanes[0].request.ordered_answer(), expected_of(work))


def test_output_that_the_runtime_leaves_out_is_an_error_and_no_answer(make_runtime, make_work):
    runtime = make_runtime(spoil=lambda found: {"y": found["y"]})

    with pytest.raises(KeyError):
        advance(LaneTable(runtime, 1), lanes_of(make_work(3)), 3)
