"""Whether a loop stands still: the decision, given marks and moments, and the marks that a loop makes."""

import threading

import pytest

from cellgate.serve.observe.counter_layout import TURN, CounterLayout
from cellgate.serve.observe.counter_page import CounterPage
from cellgate.serve.processes.hang_watch import HangWatch, interval_s

PATIENCE_S = 30


def looks(watch, *seen):
    """Look at each moment that is given with a mark; return the first at which the loop was said to hang."""
    return next((now for now, mark in seen if watch.look(mark, now)), None)


@pytest.mark.parametrize(("limit_s", "expected"), [(0, None), (1, 0.25), (2.0, 0.5), (4, 1.0), (60, 1.0), (1e4, 1.0)])
def test_it_looks_every_second_or_four_times_within_the_limit(limit_s, expected):
    assert interval_s(limit_s) == expected


def test_a_loop_that_turns_never_hangs():
    watch = HangWatch(10, 0.0)

    assert looks(watch, *((now, now - 0.5) for now in range(1, 100))) is None


def test_a_mark_that_stays_for_longer_than_the_limit_is_a_hang():
    watch = HangWatch(10, 0.0)

    assert looks(watch, *((now, 0.5) for now in range(1, 100))) == 12  # seen at 1, for more than 10 s at 12


def test_a_turn_in_time_begins_the_count_anew():
    watch = HangWatch(10, 0.0)

    assert looks(watch, *((now, 0.5 if now < 9 else 8.5) for now in range(1, 100))) == 20


def test_a_process_that_starts_may_take_its_time():
    watch = HangWatch(10, 0.0)
    starting = [(now, None) for now in range(1, 100)]

    assert looks(watch, *starting, (100, 0.5), (101, 100.5), (102, 101.5)) is None


def test_the_mark_of_the_one_before_is_not_held_against_the_next():
    watch = HangWatch(10, 0.0)
    hung = looks(watch, *((now, 0.5) for now in range(1, 13)))

    assert hung == 12
    assert looks(watch, (13, None), (14, 0.5), (15, 0.5), (16, 15.5)) is None


def test_time_in_which_nobody_looked_does_not_count():
    watch = HangWatch(10, 0.0)

    assert looks(watch, (1, 0.5), (1000, 0.5), (1001, 0.5), (1002, 1001.5)) is None


def test_a_watch_that_is_off_is_never_due():
    watch = HangWatch(0, 0.0)

    assert watch.look_at_s is None
    assert not watch.is_due(1e9)


def test_a_look_is_due_once_in_an_interval():
    watch = HangWatch(60, 5.0)
    first = watch.is_due(5.0)
    watch.look(None, 5.0)

    assert first
    assert (watch.is_due(5.9), watch.is_due(6.0), watch.look_at_s) == (False, True, 6.0)


def test_what_is_said_names_the_limit_and_the_setting():
    said = HangWatch(2.5, 0.0).complaint

    assert said.startswith("loop: expected a turn within 2.5 s, found none: ")
    assert "--engine-hang-s" in said


class Turns(threading.Event):
    """A clock that ticks by one at each look, and says when it has been looked at so often."""

    def __init__(self, most):
        super().__init__()
        self.now, self.most = 0.0, most

    def __call__(self):
        self.now += 1
        if self.now >= self.most:
            self.set()
        return self.now


def test_an_idle_loop_begins_a_turn_now_and_then(make_engine, run_loop):
    page, clock = CounterPage(CounterLayout(["a"])), Turns(5)
    with run_loop(make_engine(), page=page, beat_s=0.001, clock=clock):
        assert clock.wait(PATIENCE_S)

    assert page.cells[page.layout.place(TURN)] >= 5


def test_a_loop_that_nobody_watches_waits_for_work(make_engine, run_loop, connect_wire):
    clock = Turns(1)
    with run_loop(make_engine(), clock=clock) as (_, path, _):
        before = clock.now
        with connect_wire(path) as wire:
            wire.receive()  # one turn greeted us
            assert clock.wait(PATIENCE_S)

    assert before == 0


def test_the_mark_stands_while_a_run_does_not_end(make_engine, run_loop, connect_wire):
    page, clock, engine = CounterPage(CounterLayout(["a"])), Turns(1), make_engine()
    inside, may_go_on, run_once = threading.Event(), threading.Event(), engine.run_once

    def hang():
        inside.set()
        assert may_go_on.wait(PATIENCE_S)
        return run_once()

    engine.run_once = hang
    with run_loop(engine, page=page, beat_s=0.001, clock=clock):
        assert inside.wait(PATIENCE_S)
        found = page.cells[page.layout.place(TURN)]
        may_go_on.set()

    assert found == 1
