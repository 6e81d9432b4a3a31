"""Streams that are idle, too many or too large, and what waits for its turn: bounded in number, bytes and time."""

import pytest

from cellgate.serve.engine.work import StreamAnswer, StreamOrder, StreamRef
from cellgate.serve.errors import DeadlineExceeded, QueueFull
from cellgate.serve.stream_errors import StreamEnded, StreamExpired, StreamsFull, UnknownStream
from cellgate.serve.streams.memory_store import MemoryStore


def test_an_idle_stream_expires_and_is_forgotten_later(make_driver, make_work, make_x):
    driver, x = make_driver(idle_s=60.0, tombstone_s=30.0), make_x(4)
    driver.ask(make_work(x, StreamRef(id=7, is_start=True, step=0)))
    driver.clock.now += 59.9
    assert driver.ask(make_work(x, StreamRef(id=7, step=1))).step == 1
    driver.clock.now += 60.0

    assert isinstance(driver.ask(make_work(x, StreamRef(id=7, step=2))), StreamExpired)
    assert isinstance(driver.ask(make_work(x, StreamRef(id=7, step=1))), StreamExpired)
    assert isinstance(driver.ask(make_work(x, StreamRef(id=7, is_start=True, step=0))), StreamExpired)
    driver.turn()
    assert driver.engine.statistics()["streams"]["steps"]["live"] == 0
    assert driver.engine.statistics()["streams"]["steps"]["ended"]["expired"] == 1
    driver.clock.now += 31.0
    driver.turn()
    assert isinstance(driver.ask(make_work(x, StreamRef(id=7))), UnknownStream)
    assert driver.ask(make_work(x, StreamRef(id=7, is_start=True, step=0))).step == 0


def test_an_id_whose_trace_the_store_has_forgotten_is_as_good_as_new(make_durable, make_work, make_x):
    """The records that were used last lie in memory too, and must not outlive those of the store."""
    driver, x = make_durable(idle_s=60.0, tombstone_s=30.0), make_x(4)
    driver.ask(make_work(x, StreamRef(id="ended", is_start=True, is_end=True, step=0)))
    driver.ask(make_work(x, StreamRef(id="idle", is_start=True, step=0)))
    driver.wall.now += 31.0
    driver.store.sweep(driver.wall.now)
    assert isinstance(driver.ask(make_work(x, StreamRef(id="ended", step=1))), UnknownStream)
    assert driver.ask(make_work(x, StreamRef(id="ended", is_start=True, step=0))).is_replayed is False
    assert isinstance(driver.ask(make_work(x, StreamRef(id="idle", is_start=True, step=0))), StreamAnswer)

    driver.wall.now += 91.0
    for _ in range(2):  # what is idle becomes a trace, and a trace is forgotten
        driver.store.sweep(driver.wall.now)
    assert isinstance(driver.ask(make_work(x, StreamRef(id="idle", step=1))), UnknownStream)


@pytest.mark.parametrize("reason", ["end", "closed", "expired"])
def test_an_id_is_as_good_as_new_when_its_time_is_over_and_not_only_when_the_store_sweeps(
    make_driver, make_work, make_x, reason
):
    driver, x = make_driver(idle_s=600.0, tombstone_s=2.0), make_x(4)
    start = make_work(x, StreamRef(id=7, is_start=True, is_end=reason == "end", step=0))
    driver.ask(start)
    if reason == "closed":
        close(driver)
    driver.clock.now += 599.0 if reason == "expired" else 0.0
    driver.turn()  # sweeps
    driver.clock.now += 1.9 if reason != "expired" else 2.9
    assert isinstance(driver.ask(make_work(x, StreamRef(id=7, step=1))), (StreamEnded, StreamExpired))
    driver.clock.now += 0.2

    assert driver.store.usage.records == 1
    assert isinstance(driver.ask(make_work(x, StreamRef(id=7, step=1))), UnknownStream)
    answer = driver.ask(start)
    assert (answer.step, answer.is_replayed) == (0, False)


def test_a_stream_that_a_sweep_found_idle_is_known_to_have_expired_as_long_as_any_other(make_driver, make_work, make_x):
    driver, x = make_driver(idle_s=60.0, tombstone_s=30.0), make_x(4)
    driver.ask(make_work(x, StreamRef(id=7, is_start=True, step=0)))
    driver.clock.now += 60.0
    driver.turn()
    driver.clock.now += 29.9

    assert isinstance(driver.ask(make_work(x, StreamRef(id=7, step=1))), StreamExpired)


def close(driver):
    driver.engine.order(StreamOrder(kind="close", model="steps", id=7), lambda _report: None)
    driver.drain()


def test_an_engine_with_streams_in_it_wakes_up_to_sweep_and_sleeps_when_there_are_none(make_driver, make_work, make_x):
    driver = make_driver(idle_s=60.0, tombstone_s=30.0)
    assert driver.engine.wait_s() is None
    driver.ask(make_work(make_x(4), StreamRef(id=7, is_start=True)))
    assert 0 < driver.engine.wait_s() <= 6.0
    for _ in range(40):
        driver.clock.now += driver.engine.wait_s() or 0.0
        driver.turn()

    assert driver.engine.wait_s() is None


def test_more_streams_than_may_live_are_refused_until_one_ends_or_expires(make_driver, make_work, make_x):
    driver, x = make_driver(max_streams=3, idle_s=100.0), make_x(4)
    tickets = [driver.post(make_work(x, StreamRef(id=name, is_start=True))) for name in range(1, 6)]
    found = [driver.drain()[ticket] for ticket in tickets]
    assert [type(outcome) for outcome in found] == [StreamAnswer] * 3 + [StreamsFull] * 2
    assert driver.ask(make_work(x, StreamRef(id=2, is_start=True))).step == 0  # it takes over its own place
    driver.ask(make_work(x, StreamRef(id=3, is_end=True)))
    assert driver.ask(make_work(x, StreamRef(id=5, is_start=True))).step == 0
    assert isinstance(driver.ask(make_work(x, StreamRef(id=6, is_start=True))), StreamsFull)
    assert driver.ask(make_work(x, StreamRef(id=1))).step == 1  # none that lives was thrown out
    driver.clock.now += 99.0
    driver.ask(make_work(x, StreamRef(id=1)))
    driver.clock.now += 2.0
    driver.ask(make_work(x, StreamRef(id=6, is_start=True)))

    assert driver.ask(make_work(x, StreamRef(id=6, is_start=True))).step == 0


def test_bytes_are_bounded_whatever_the_requests_leave_behind(make_driver, make_work, make_x):
    """A state of this network takes 24 bytes a row, an answer 16 a step."""
    driver = make_driver(max_stream_bytes=24 + 16 * 10)
    assert driver.ask(make_work(make_x(10), StreamRef(id=1, is_start=True, step=0))).step == 0
    assert isinstance(driver.ask(make_work(make_x(1), StreamRef(id=2, is_start=True))), StreamsFull)
    assert isinstance(driver.ask(make_work(make_x(11), StreamRef(id=1, step=1))), StreamsFull)
    assert driver.ask(make_work(make_x(5), StreamRef(id=1, step=1))).step == 1
    assert driver.ask(make_work(make_x(50), StreamRef(id=1))).step == 2  # it keeps no answer
    assert driver.ask(make_work(make_x(1), StreamRef(id=2, is_start=True))).step == 0


def test_what_waits_for_its_turn_counts_as_waiting(make_driver, make_work, make_x):
    driver, x = make_driver(max_waiting=3, engine={"max_waiting": 3}), make_x(4)
    for _ in range(3):
        driver.post(make_work(x, StreamRef(id=1, is_start=True)))

    for work in (make_work(x, StreamRef(id=1)), make_work(x, StreamRef(id=2, is_start=True)), make_work(x)):
        assert isinstance(driver.ask_only(work), QueueFull)
    assert len(driver.drain()) == 3
    assert isinstance(driver.ask(make_work(x)), dict)


def test_bytes_that_wait_are_bounded_too(make_driver, make_work, make_x):
    driver = make_driver(max_waiting_bytes=1000)
    driver.post(make_work(make_x(100), StreamRef(id=1, is_start=True)))  # one alone may be larger

    refused = driver.ask_only(make_work(make_x(60), StreamRef(id=1)))
    assert isinstance(refused, QueueFull)
    assert "at most 1000 bytes in the tensors of waiting requests" in str(refused)
    driver.drain()
    assert driver.ask(make_work(make_x(60), StreamRef(id=1))).step == 1


def test_a_deadline_ends_what_waits_for_its_turn(make_driver, make_work, make_x):
    driver, x = make_driver(), make_x(4)
    first = driver.post(make_work(x, StreamRef(id=1, is_start=True)))
    late = driver.post(make_work(x, StreamRef(id=1), deadline_s=driver.clock.now + 0.5))
    later = driver.post(make_work(x, StreamRef(id=1), deadline_s=driver.clock.now + 5.0))
    driver.clock.now += 1.0
    outcomes = driver.drain()

    assert isinstance(outcomes[late], DeadlineExceeded)
    assert (outcomes[first].step, outcomes[later].step) == (0, 1)


def test_a_restart_of_the_memory_store_says_that_it_knows_nothing(make_driver, make_work, make_x):
    driver, x = make_driver(MemoryStore(9)), make_x(4)
    driver.ask(make_work(x, StreamRef(id=1, is_start=True, step=0)))
    other = make_driver(MemoryStore(9))

    assert isinstance(other.ask(make_work(x, StreamRef(id=1, step=1))), UnknownStream)


def test_records_keep_nothing_of_the_run_that_they_came_from(make_driver, make_work, make_x):
    """What a run returns is one array for all that ran beside: a stream that kept a view would keep all of it."""
    store = MemoryStore(100)
    driver = make_driver(store)
    for name in range(1, 9):
        driver.post(make_work(make_x(8, seed=name), StreamRef(id=name, is_start=True, step=0)))
    driver.drain()

    for record in store._records.values():
        for array in (*record.states, *record.answer.values()):
            assert array.base is None
