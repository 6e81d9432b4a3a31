"""Every row of the table in docs/streams.md, by name, and the laws behind it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellgate.serve.engine.work import StreamAnswer, StreamRef
from cellgate.serve.errors import BadInput, ServeError
from cellgate.serve.stream_errors import (
    ModelChanged,
    StepConflict,
    StepGap,
    StreamEnded,
    StreamExists,
    StreamExpired,
    UnknownStream,
)
from cellgate.serve.streams.judge import RunStep, check_request, judge
from cellgate.serve.streams.payload import payload_hash
from cellgate.serve.streams.record import CLOSED, END, EXPIRED

DIGEST, OTHER = "ab" * 32, "cd" * 32
SAME, ELSE = b"\1" * 32, b"\2" * 32


@pytest.fixture
def decide(make_work, make_x):
    """Judge a request of two rows; `payload` counts only where the request says its step."""

    def call(record, *, step=None, payload=SAME, digest=DIGEST, rows=2, **flags):
        work = make_work(make_x(2, rows), StreamRef(id=7, step=step, **flags))
        return judge(record, work, digest, None if step is None else payload)

    return call


@pytest.mark.parametrize("step", [None, 0])
def test_a_start_of_an_unknown_stream_runs_from_zero(decide, step):
    assert decide(None, is_start=True, step=step) == RunStep((None, None), 0)


def test_a_start_runs_from_the_states_that_it_brings(make_work, make_x):
    given_states = (np.ones((1, 1, 3), np.float32), None)
    work = make_work(make_x(2), StreamRef(id=7, is_start=True), states=given_states)

    assert judge(None, work, DIGEST, None).states is work.states


@pytest.mark.parametrize("ended", [None, END, EXPIRED, CLOSED])
def test_a_start_without_a_step_takes_over_whatever_is_there(decide, make_record, ended):
    assert decide(make_record(4, ended=ended), is_start=True) == RunStep((None, None), 0)


@pytest.mark.parametrize("ended", [None, END])
def test_a_start_says_step_zero_or_none(decide, make_record, ended):
    for record in (None, make_record(4, ended=ended)):
        with pytest.raises(StepGap, match="expected 0, found 3") as caught:
            decide(record, is_start=True, step=3)
        assert caught.value.facts == {"expected_step": 0}


@pytest.mark.parametrize("ended", [None, END])
def test_a_repeated_start_gets_the_stored_answer(decide, make_record, ended):
    record = make_record(0, ended=ended)

    assert decide(record, is_start=True, step=0) == StreamAnswer(outputs=record.answer, step=0, is_replayed=True)


@pytest.mark.parametrize(("step", "payload"), [(0, ELSE), (4, SAME), (4, ELSE)])
def test_a_start_with_a_step_on_a_live_stream_is_refused(decide, make_record, step, payload):
    with pytest.raises(StreamExists) as caught:
        decide(make_record(step), is_start=True, step=0, payload=payload)
    assert caught.value.facts == {"expected_step": step + 1}


@pytest.mark.parametrize(
    ("ended", "error"), [(END, StreamEnded), (EXPIRED, StreamExpired), (CLOSED, StreamEnded)], ids=str
)
def test_a_late_start_with_a_step_does_not_raise_the_dead(decide, make_record, ended, error):
    record = make_record(4, ended=ended)
    for found in (record, record.tombstone(ended)):
        with pytest.raises(error):
            decide(found, is_start=True, step=0)


@pytest.mark.parametrize("step", [None, 0, 5])
def test_going_on_with_an_unknown_stream_is_404(decide, step):
    with pytest.raises(UnknownStream, match="found none of 7"):
        decide(None, step=step)


@pytest.mark.parametrize("step", [None, 3, 4, 5])
@pytest.mark.parametrize(("ended", "error"), [(EXPIRED, StreamExpired), (CLOSED, StreamEnded)])
def test_going_on_with_an_ended_or_expired_stream_is_410(decide, make_record, ended, error, step):
    with pytest.raises(error):
        decide(make_record(4).tombstone(ended), step=step)


def test_a_repeated_end_is_answered_alike_and_nothing_else_is(decide, make_record):
    record = make_record(4, ended=END)

    assert decide(record, step=4, is_end=True) == StreamAnswer(outputs=record.answer, step=4, is_replayed=True)
    for step, payload in ((4, ELSE), (5, SAME), (3, SAME), (None, SAME)):
        with pytest.raises(StreamEnded):
            decide(record, step=step, payload=payload)


def test_another_bundle_is_refused_whatever_the_step(decide, make_record):
    for step in (None, 3, 4, 5):
        with pytest.raises(
            ModelChanged, match=r"expected 7 to go on with the bundle cdcdcdcdcdcd, .* with abababababab"
        ):
            decide(make_record(4), step=step, digest=OTHER)
    with pytest.raises(StreamEnded):
        decide(make_record(4, ended=END), step=4, digest=OTHER)
    with pytest.raises(StreamExists):
        decide(make_record(0), is_start=True, step=0, digest=OTHER)


@pytest.mark.parametrize("step", [None, 5])
def test_the_next_step_runs_from_the_states(decide, make_record, step):
    record = make_record(4)

    found = decide(record, step=step)

    assert found.states is record.states
    assert found.step == 5


def test_the_same_step_with_the_same_payload_is_replayed(decide, make_record):
    record = make_record(4)

    assert decide(record, step=4) == StreamAnswer(outputs=record.answer, step=4, is_replayed=True)


def test_the_same_step_with_another_payload_is_422(decide, make_record):
    with pytest.raises(StepConflict, match="applied as step 4") as caught:
        decide(make_record(4), step=4, payload=ELSE)
    assert caught.value.facts == {"expected_step": 5}


@pytest.mark.parametrize("step", [0, 3, 6, 2**64 - 1])
def test_any_other_step_is_409_with_the_expected_one(decide, make_record, step):
    with pytest.raises(StepGap, match=f"expected 5, found {step}") as caught:
        decide(make_record(4), step=step)
    assert caught.value.facts == {"expected_step": 5}


def test_the_number_of_a_request_that_said_none_cannot_be_repeated(decide, make_record):
    record = make_record(4, payload=None)

    with pytest.raises(StepGap, match="expected 5, found 4"):
        decide(record, step=4)
    assert decide(record, step=5).step == 5


def test_other_rows_than_the_streams_are_refused(decide, make_record):
    with pytest.raises(BadInput, match="expected the 2 rows that the stream began with, found 3"):
        decide(make_record(4), step=5, rows=3)


def test_states_come_with_a_start_only_and_streams_need_a_streamable_network(make_work, make_x):
    states = (np.ones((1, 1, 3), np.float32), None)
    check_request(make_work(make_x(2), StreamRef(id=7, is_start=True), states=states), is_streamable=True)

    with pytest.raises(BadInput, match="states only beside sequence_start"):
        check_request(make_work(make_x(2), StreamRef(id=7), states=states), is_streamable=True)
    with pytest.raises(BadInput, match="sequence_id: expected a streamable network, found steps"):
        check_request(make_work(make_x(2), StreamRef(id=7, is_start=True)), is_streamable=False)


def outcome_of(record, work, payload):
    try:
        return judge(record, work, DIGEST, payload)
    except ServeError as err:
        return err


STEPS = st.none() | st.integers(0, 9) | st.integers(0, 2**64 - 1)


@given(
    step=STEPS,
    last=st.integers(0, 9),
    ended=st.sampled_from([None, END, EXPIRED, CLOSED]),
    payload=st.sampled_from([SAME, ELSE]),
    numbered=st.booleans(),
    is_start=st.booleans(),
    is_end=st.booleans(),
)
def test_whatever_comes_is_run_once_or_replayed_or_refused(
    make_work, make_x, make_record, step, last, ended, payload, numbered, is_start, is_end
):
    record = make_record(last, ended=ended, payload=SAME if numbered else None)
    ref = StreamRef(id=7, step=step, is_start=is_start, is_end=is_end)
    work = make_work(make_x(2, 2), ref)
    found = outcome_of(record, work, None if step is None else payload)
    if isinstance(found, ServeError):
        assert found.status in (404, 409, 410, 422)
    elif isinstance(found, RunStep):
        assert found.step == (0 if is_start else last + 1)
        assert step in (None, found.step)
        assert is_start or ended is None
    else:
        assert found.outputs is record.answer
        assert (step, payload) == (last, SAME)
        assert ended in (None, END)


def test_the_payload_is_everything_that_can_change_the_answer(make_work, make_x):
    x = make_x(3, 2)
    ref = StreamRef(id=7, step=1)
    base = make_work(x, ref)
    moved = x.copy()
    moved[1, 2, 1] = np.nextafter(moved[1, 2, 1], 9, dtype=np.float32)
    state = np.zeros((1, 2, 3), np.float32)
    others = [
        make_work(moved, ref),
        make_work(x[:, :2], ref),
        make_work(x[:1], ref),
        make_work(x, ref, lengths=[3, 2]),
        make_work(x, ref, states=(state, None)),
        make_work(x, ref, states=(None, state)),
        make_work(x, ref, outputs=("y", "h_n")),
        make_work(x, ref, outputs=("h_n", "y")),
        make_work(x, StreamRef(id=7, step=1, is_start=True)),
        make_work(x, StreamRef(id=7, step=1, is_end=True)),
    ]

    assert len({payload_hash(work) for work in (base, *others)}) == 1 + len(others)
    same = replace(base, priority=3, deadline_s=5.0, sequence=x.copy())
    assert payload_hash(same) == payload_hash(base)
    assert len(payload_hash(base)) == 32
