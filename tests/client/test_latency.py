"""Aggregation: percentiles, quarters by length, rates and errors, against counts made the slow way."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellgate.client.latency import count_errors, percentiles, quartiles, summarise, timeline
from cellgate.client.samples import GARBLED, LOST, TIMEOUT, Recorder, Samples

TIMES = st.lists(st.floats(0, 100), min_size=1, max_size=60)


def make(*lines):
    """Samples of (scheduled, sent, ended, length, steps, status)."""
    recorder = Recorder()
    for line in lines:
        recorder.add(*line)
    return recorder.samples()


def test_a_recorder_gives_its_lines_back_and_counts_answers():
    recorder = Recorder()
    recorder.add(1.0, 2.0, 3.0, 4, 5, 200)
    recorder.add(1.5, 2.5, 3.5, 6, 7, LOST)
    samples = recorder.samples()

    assert len(samples) == 2
    assert recorder.answers == 1
    assert samples.scheduled_s.tolist() == [1.0, 1.5]
    assert samples.sent_s.tolist() == [2.0, 2.5]
    assert samples.ended_s.tolist() == [3.0, 3.5]
    assert samples.lengths.tolist() == [4, 6]
    assert samples.steps.tolist() == [5, 7]
    assert samples.statuses.tolist() == [200, LOST]
    assert len(Recorder().samples()) == 0


@given(TIMES)
def test_percentiles_are_values_by_nearest_rank(times):
    found = percentiles(np.array(times))
    ordered = sorted(times)

    def rank(hundredths):  # the smallest value with at least that share at or below it
        return next(v for v in ordered if sum(t <= v for t in times) * 100 >= hundredths * len(times))

    assert (found.p50_s, found.p90_s, found.p99_s, found.max_s) == (rank(50), rank(90), rank(99), ordered[-1])
    assert found.count == len(times)


def test_no_times_are_all_zero():
    found = percentiles(np.zeros(0))

    assert (found.count, found.p50_s, found.max_s) == (0, 0.0, 0.0)
    assert quartiles(np.zeros(0, np.int64), np.zeros(0)) == ()


@given(st.lists(st.integers(1, 30), min_size=1, max_size=80))
def test_quartiles_part_the_requests_and_never_equal_lengths(lengths):
    found = quartiles(np.array(lengths), np.arange(len(lengths), dtype=float))

    assert sum(part.latency.count for part in found) == len(lengths)
    assert found[0].shortest == min(lengths)
    assert found[-1].longest == max(lengths)
    assert all(a.longest < b.shortest for a, b in itertools.pairwise(found))
    assert 1 <= len(found) <= 4
    for part in found:
        assert part.latency.count == sum(part.shortest <= length <= part.longest for length in lengths)


@given(st.permutations(range(1, 41)))
def test_quartiles_of_different_lengths_are_quarters(lengths):
    found = quartiles(np.array(lengths), np.array(lengths, dtype=float))

    assert [(part.shortest, part.longest, part.latency.count) for part in found] == [
        (1, 10, 10),
        (11, 20, 10),
        (21, 30, 10),
        (31, 40, 10),
    ]
    assert [part.latency.max_s for part in found] == [10, 20, 30, 40]


def test_errors_are_counted_by_status_or_reason_most_frequent_first():
    statuses = np.array([200, 503, 503, LOST, TIMEOUT, GARBLED, GARBLED, GARBLED, 200], np.int16)

    assert list(count_errors(statuses).items()) == [
        ("answer not understood", 3),
        ("503", 2),
        ("no answer in time", 1),
        ("connection lost", 1),
    ]


def test_latency_counts_from_the_schedule_and_lateness_to_the_sending():
    summary = summarise(make((10.0, 11.0, 13.0, 4, 4, 200), (10.5, 10.5, 11.0, 9, 9, 200)), 10.0, 20.0)

    assert (summary.latency.p50_s, summary.latency.max_s) == (0.5, 3.0)
    assert (summary.lateness.p50_s, summary.lateness.max_s) == (0.0, 1.0)
    assert summary.requests == summary.latency.count == 2


def test_warm_up_and_failures_have_no_latency_and_rates_count_answers_of_the_measured_time():
    summary = summarise(
        make(
            (8.0, 8.0, 9.0, 1, 1, 200),  # all of it warm-up
            (9.0, 9.0, 11.0, 1, 100, 200),  # begun in the warm-up, answered in the measured time
            (12.0, 12.0, 13.0, 2, 30, 200),
            (12.0, 12.0, 12.5, 2, 30, 503),
            (12.0, 12.0, 14.0, 2, 30, LOST),
            (19.0, 19.0, 25.0, 3, 7, 200),  # answered after the end: it has a latency, and is in no rate
        ),
        10.0,
        20.0,
    )

    assert summary.measured_s == 10.0
    assert summary.requests == 4
    assert summary.latency.count == 2
    assert summary.latency.max_s == 6.0
    assert summary.requests_per_s == 0.2
    assert summary.row_steps_per_s == 13.0
    assert summary.errors == {"connection lost": 1, "503": 1}
    assert summary.busy == 1
    assert [(q.shortest, q.longest) for q in summary.quartiles] == [(2, 2), (3, 3)]


def test_no_measured_time_is_no_division_by_zero():
    summary = summarise(make(), 10.0, 10.0)

    assert (summary.requests_per_s, summary.row_steps_per_s, summary.timeline) == (0.0, 0.0, ())


@given(st.lists(st.floats(0, 12), max_size=50), st.floats(0.05, 10))
def test_the_timeline_holds_every_answer_of_the_measured_time_once(ends, span_s):
    samples = make(*((end, end, end, 1, 1, 200) for end in ends))
    pieces = timeline(samples, 0.0, span_s)
    counted = sum(piece.requests_per_s * (piece.end_s - piece.begin_s) for piece in pieces)

    assert 1 <= len(pieces) <= 60
    assert pieces[0].begin_s == 0.0
    assert pieces[-1].end_s == pytest.approx(span_s)
    assert all(a.end_s == b.begin_s for a, b in itertools.pairwise(pieces))
    assert round(counted) == sum(end < span_s for end in ends)


def test_the_timeline_tells_when_errors_came():
    pieces = timeline(make((0.0, 0.0, 0.05, 1, 1, 200), (0.0, 0.0, 0.95, 1, 1, 503)), 0.0, 1.0)

    assert [piece.errors for piece in pieces] == [0] * 9 + [1]
    assert pieces[0].requests_per_s == pytest.approx(10.0)
    assert pieces[0].p99_s == 0.05


def test_samples_are_chosen_by_a_mask():
    samples = make((1.0, 1.0, 1.0, 1, 1, 200), (2.0, 2.0, 2.0, 2, 2, 200))

    assert isinstance(samples, Samples)
    assert samples.where(samples.lengths > 1).ended_s.tolist() == [2.0]
