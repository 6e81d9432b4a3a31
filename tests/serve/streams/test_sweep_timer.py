"""When a store is to look for what is old: the time is handed in."""

import pytest

from cellgate.serve.streams.sweep_timer import SweepTimer


@pytest.fixture
def timer():
    return SweepTimer(60.0, 1000.0)


def test_the_first_look_is_one_interval_after_the_start(timer):
    assert [timer.begins(now) for now in (1000.0, 1059.9, 1060.0)] == [False, False, True]


def test_the_next_look_is_one_interval_after_the_last(timer):
    timer.begins(1075.0)
    timer.ended()

    assert timer.due_s == 1135.0
    assert [timer.begins(now) for now in (1134.9, 1135.0)] == [False, True]


def test_a_look_that_has_not_ended_leaves_the_next_one_out(timer):
    timer.begins(1060.0)

    assert timer.begins(1120.0) is False
    timer.ended()
    assert [timer.begins(now) for now in (1179.9, 1180.0)] == [False, True]


def test_want_of_room_brings_the_next_look_forward_but_not_closer_than_a_second_to_the_last(timer):
    timer.begins(1060.0)
    timer.ended()

    timer.hurry()

    assert [timer.begins(now) for now in (1060.9, 1061.0)] == [False, True]


def test_haste_never_puts_a_look_off():
    timer = SweepTimer(0.5, 1000.0)

    timer.hurry()

    assert timer.due_s == 1000.5
