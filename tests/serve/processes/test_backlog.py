"""How long a queue is judged to be, in moments made by hand."""

import pytest

from cellgate.serve.processes.backlog import Backlog


def moved(backlog, count, begin_s, each_s):
    """Have so many leave, one after the other, each followed by another."""
    for number in range(count):
        now = begin_s + (number + 1) * each_s
        backlog.left(now)
        backlog.came(now)
    return begin_s + count * each_s


def filled(count, free=0, now=100.0):
    backlog = Backlog(free)
    for _ in range(count):
        backlog.came(now)
    return backlog


def test_a_queue_that_has_not_moved_is_taken_for_none():
    assert filled(1000).wait_s == 0.0


def test_the_wait_is_the_queues_length_by_its_pace():
    backlog = filled(200)
    moved(backlog, 100, 100.0, 0.01)

    assert backlog.wait_s == pytest.approx(200 * 0.01)


def test_those_who_advance_side_by_side_do_not_count():
    backlog = filled(64, free=64)
    moved(backlog, 100, 100.0, 0.01)

    assert backlog.wait_s == 0.0
    backlog.came(101.0)
    assert backlog.wait_s == pytest.approx(0.01)


def test_the_pace_is_that_of_the_last_moments():
    backlog = filled(100)
    now = moved(backlog, 100, 100.0, 0.1)
    moved(backlog, 400, now, 0.001)

    assert backlog.wait_s == pytest.approx(100 * 0.001)


def test_the_time_in_which_nobody_was_there_is_no_pace():
    backlog = filled(1)
    backlog.left(100.01)
    backlog.came(500.0)
    for _ in range(99):
        backlog.came(500.0)
    moved(backlog, 50, 500.0, 0.01)

    assert backlog.wait_s == pytest.approx(100 * 0.01)


def test_answers_that_come_in_heaps_have_the_same_pace():
    backlog = filled(1000)
    for number in range(10):
        for _ in range(50):
            backlog.left(100.0 + (number + 1) * 0.2)

    assert backlog.wait_s == pytest.approx(500 * 0.2 / 50, rel=0.05)
