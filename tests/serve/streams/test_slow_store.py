"""A store that takes its time, or for ever: who waits, who is told, and what is believed when it answers after all.

The store's thread is real, and held by the test; the engine's clock is moved by hand.
"""

import threading

import numpy as np
import pytest

from cellgate.serve.engine.work import StreamOrder, StreamRef
from cellgate.serve.errors import DeadlineExceeded
from cellgate.serve.stream_errors import StoreUnavailable

PATIENCE_S = 30


def test_the_engine_goes_on_while_the_store_takes_its_time(make_durable, make_work, make_x):
    driver, gate = make_durable(), threading.Event()
    driver.store.before = lambda _writes: gate.wait(PATIENCE_S)
    slow = driver.post(make_work(make_x(4), StreamRef(id=1, is_start=True)))
    others = [driver.post(make_work(make_x(5, seed=seed))) for seed in range(5)]

    driver.drain_until(*others)
    assert slow not in driver.outcomes
    gate.set()
    assert driver.drain_until(slow)[0].step == 0


def test_a_store_that_is_slow_costs_503_and_nothing_else_and_is_believed_only_after_a_look(
    make_durable, make_work, make_x, whole_of
):
    driver, gate, x = make_durable(store_limit_s=2.0), threading.Event(), make_x(9)
    first = driver.ask(make_work(x[:, :3], StreamRef(id=1, is_start=True, step=0)))
    driver.store.before = lambda _writes: gate.wait(PATIENCE_S)
    stuck = driver.post(make_work(x[:, 3:6], StreamRef(id=1, step=1)))
    behind = driver.post(make_work(x[:, 6:], StreamRef(id=1, step=2)))
    while len(driver.store.commits) != 2:
        driver.turn()
        driver.clock.now += 1e-4
    other = driver.post(make_work(x, StreamRef(id=2, is_start=True, step=0)))
    driver.clock.now += 2.0

    found = driver.drain_until(stuck, behind, other)
    assert [type(outcome) for outcome in found] == [StoreUnavailable] * 3
    with pytest.raises(StoreUnavailable):  # at once, while it owes an answer
        driver.post(make_work(x, StreamRef(id=3, is_start=True)))
    assert isinstance(driver.ask(make_work(x)), dict)

    driver.store.before = None
    gate.set()
    while driver.engine._client.is_late:
        driver.woken.wait(0.01)
        driver.turn()
    again = driver.ask(make_work(x[:, 3:6], StreamRef(id=1, step=1)))
    last = driver.ask(make_work(x[:, 6:], StreamRef(id=1, step=2)))
    assert (again.is_replayed, last.is_replayed) == (True, False)
    ys = [answer.outputs["y"] for answer in (first, again, last)]
    assert np.concatenate(ys, axis=1).tobytes() == whole_of(x)["y"].tobytes()


def test_a_request_may_wait_for_two_commits_of_a_second_each(make_durable, make_work, make_x):
    """Its own and the one before it: so slow is a Redis that is well under `appendfsync everysec`."""
    driver, x, gates = make_durable(), make_x(4), [threading.Event(), threading.Event()]
    for name in (1, 2):
        driver.ask(make_work(x, StreamRef(id=name, is_start=True)))
    waiting = iter(gates)
    driver.store.before = lambda _writes: next(waiting).wait(PATIENCE_S)
    tickets = [driver.post(make_work(x, StreamRef(id=1)))]
    while len(driver.store.commits) != 3:
        driver.turn()
        driver.clock.now += 1e-4
    tickets.append(driver.post(make_work(x, StreamRef(id=2))))
    while not driver.engine._port._orders:
        driver.turn()
        driver.clock.now += 1e-4

    for gate, ticket in zip(gates, tickets, strict=True):
        driver.clock.now += 1.1
        driver.turn()
        gate.set()
        assert driver.drain_until(ticket)[0].step == 1


def test_a_process_that_stood_still_does_not_blame_the_store(make_durable, make_work, make_x):
    driver, x, gate = make_durable(store_limit_s=2.0), make_x(4), threading.Event()
    driver.store.before = lambda _writes: gate.wait(PATIENCE_S)
    ticket = driver.post(make_work(x, StreamRef(id=1, is_start=True)))
    while not driver.store.commits:
        driver.turn()
        driver.clock.now += 1e-4
    gate.set()
    while not driver.engine._port.has_done:
        driver.woken.wait(0.01)
    driver.clock.now += 60.0

    driver.turn()
    assert driver.outcomes[ticket].step == 0


def test_what_waits_for_the_store_may_be_cancelled_or_pass_its_deadline(make_durable, make_work, make_x):
    driver, gate, x = make_durable(store_limit_s=60.0), threading.Event(), make_x(4)
    driver.store.reading = lambda _key: gate.wait(PATIENCE_S)
    gone = driver.post(make_work(x, StreamRef(id=1, is_start=True, step=0)))
    late = driver.post(make_work(x, StreamRef(id=2, is_start=True), deadline_s=driver.clock.now + 1.0))
    driver.turn()
    driver.engine.cancel(gone)
    driver.clock.now += 2.0
    assert isinstance(driver.drain_until(late)[0], DeadlineExceeded)
    gate.set()

    assert driver.ask(make_work(x, StreamRef(id=1, is_start=True, step=0))).is_replayed is False
    assert gone not in driver.outcomes


def test_what_is_being_committed_stays_though_nobody_waits_for_it(make_durable, make_work, make_x):
    driver, gate, x = make_durable(store_limit_s=60.0), threading.Event(), make_x(4)
    driver.store.before = lambda _writes: gate.wait(PATIENCE_S)
    gone = driver.post(make_work(x, StreamRef(id=1, is_start=True, step=0)))
    while not driver.store.commits:
        driver.turn()
        driver.clock.now += 1e-4
    driver.engine.cancel(gone)
    gate.set()

    assert driver.ask(make_work(x, StreamRef(id=1, is_start=True, step=0))).is_replayed is True
    assert gone not in driver.outcomes
    assert driver.engine.statistics()["streams_waiting"] == 0


@pytest.mark.parametrize("end", ["cancelled", "late"])
def test_what_came_behind_a_commit_that_was_given_up_and_is_gone_again_is_not_applied(
    make_durable, make_work, make_x, end
):
    driver, gate, x = make_durable(store_limit_s=2.0), threading.Event(), make_x(4)
    driver.store.before = lambda _writes: gate.wait(PATIENCE_S)
    stuck = driver.post(make_work(x, StreamRef(id=1, is_start=True, step=0)))
    while not driver.store.commits:
        driver.turn()
        driver.clock.now += 1e-4
    driver.clock.now += 2.0
    assert isinstance(driver.drain_until(stuck)[0], StoreUnavailable)
    gate.set()
    while driver.engine._client.is_late:  # until the store has answered; nobody has looked yet
        driver.woken.wait(0.01)
    deadline_s = driver.clock.now + (PATIENCE_S if end == "cancelled" else 0.0)
    gone = driver.post(make_work(x, StreamRef(id=1, step=1), deadline_s=deadline_s))
    if end == "cancelled":
        driver.engine.cancel(gone)

    assert driver.ask(make_work(x, StreamRef(id=1, step=0, is_start=True))).is_replayed is True
    assert isinstance(driver.outcomes.get(gone), DeadlineExceeded if end == "late" else type(None))


def test_a_read_that_takes_too_long_is_given_up_and_nothing_is_asked_of_the_store_meanwhile(
    make_durable, make_work, make_x
):
    driver, gate, x = make_durable(store_limit_s=2.0), threading.Event(), make_x(4)
    driver.store.reading = lambda _key: gate.wait(PATIENCE_S)
    stuck = driver.post(make_work(x, StreamRef(id=1, is_start=True, step=0)))
    driver.turn()
    driver.clock.now += 2.0
    assert isinstance(driver.drain_until(stuck)[0], StoreUnavailable)
    with pytest.raises(StoreUnavailable):
        driver.engine.order(StreamOrder(kind="show", model="steps", id=1), print)
    gate.set()
    while driver.engine._client.is_late:
        driver.woken.wait(0.01)
        driver.turn()

    assert driver.ask(make_work(x, StreamRef(id=1, is_start=True, step=0))).is_replayed is False
