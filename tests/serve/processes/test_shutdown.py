"""The order of a stop, with children that only note what is done to them and a clock that is handed in."""

import pytest

from cellgate.serve.listeners import bind_listener
from cellgate.serve.processes.shutdown import EXIT_S, Shutdown
from cellgate.serve.processes.slots import Slots
from cellgate.serve.settings import Settings

GRACE_S = 20.0


class Child:
    def __init__(self):
        self.done = []

    def terminate(self):
        self.done.append("terminated")

    def kill(self):
        self.done.append("killed")


@pytest.fixture
def listener():
    with bind_listener("127.0.0.1", 0) as opened:
        yield opened


@pytest.fixture
def slots(listener):
    made = Slots([], Settings(workers=2), listener, None, None, (listener, "engine"))
    for slot in (made.engine, *made.frontends):
        slot.fill(Child())
    return made


@pytest.fixture
def begun(slots, listener):
    shutdown = Shutdown(slots, [listener], GRACE_S)
    shutdown.begin(100.0)
    return shutdown


def end(slot):
    child = slot.child
    slot.leave(0.0)
    return child


def done_to(slots):
    return [slot.child.done for slot in (slots.engine, *slots.frontends)]


def test_the_frontends_are_told_first_and_nobody_can_connect(begun, slots, listener):
    begun.act(100.0)

    assert begun.is_begun
    assert done_to(slots) == [[], ["terminated"], ["terminated"]]
    assert listener.fileno() == -1
    assert begun.kill_at_s == 100.0 + GRACE_S + EXIT_S


def test_the_engine_is_told_once_when_the_last_frontend_has_ended(begun, slots):
    end(slots.frontends[0])
    begun.act(101.0)
    assert slots.engine.child.done == []

    end(slots.frontends[1])
    begun.act(102.0)
    begun.act(103.0)

    assert slots.engine.child.done == ["terminated"]
    assert begun.kill_at_s == 102.0 + EXIT_S


def test_whoever_is_late_is_killed_once_and_it_is_said(begun, slots, log):
    end(slots.frontends[0])
    begun.act(100.0 + GRACE_S + EXIT_S - 0.001)
    assert slots.frontends[1].child.done == ["terminated"]

    begun.act(100.0 + GRACE_S + EXIT_S)
    begun.act(1000.0)

    assert slots.frontends[1].child.done == ["terminated", "killed"]
    assert slots.engine.child.done == ["killed"]
    assert "frontend 1: it has not ended in time and is killed" in log.lines


def test_where_the_engine_has_ended_first_the_frontends_still_have_their_time(begun, slots):
    engine = end(slots.engine)
    end(slots.frontends[0])

    begun.act(101.0)

    assert engine.done == []
    assert slots.frontends[1].child.done == ["terminated"]
    assert begun.kill_at_s == 100.0 + GRACE_S + EXIT_S
