"""What is asked of a store at once: all of it fails at once where nobody is there, and nobody reads for the dead."""

import os
import signal
import threading

import pytest

from cellgate.serve.stream_errors import StoreUnavailable
from cellgate.serve.streams.record import StreamKey
from cellgate.serve.streams.redis_store import RedisStore
from cellgate.serve.streams.store import StoreDownError, StoreError, Write
from cellgate.serve.streams.store_orders import Load, StoreVisits, Sweep
from cellgate.serve.streams.store_port import StoreThread

from .driver import PATIENCE_S, ShakyStore

LOADS = [Load(StreamKey("m", number)) for number in range(1, 6)]


def write_of(record, number=9):
    return Write(key=StreamKey("m", number), expected=None, record=record, expires_s=1e9, keep_until_s=2e9)


class CountingStore(ShakyStore):
    """Fails every load, and counts them."""

    def __init__(self, error):
        super().__init__(is_durable=True)
        self.error, self.asked = error, []

    def load(self, key):
        self.asked.append(key)
        raise self.error


def is_refused(done):
    return isinstance(done.error, StoreUnavailable)


def serving():
    return False


@pytest.mark.parametrize(("error", "asked"), [(StoreDownError("gone"), 1), (StoreError("one bad page"), 5)])
def test_a_store_where_nobody_answers_is_asked_once_and_another_failure_is_that_orders_own(error, asked):
    store = CountingStore(error)

    done = StoreVisits(store).carry_out([*LOADS, Sweep(1.0)], serving)

    assert len(store.asked) == asked
    assert [each.order for each in done] == [*LOADS, Sweep(1.0)]
    assert [is_refused(each) for each in done] == [True] * 5 + [asked == 1]
    assert len({id(each.error) for each in done}) == 6


def test_a_commit_that_nobody_answers_fails_the_loads_behind_it_unasked(make_record):
    store = CountingStore(StoreError("never asked"))

    def gone(_writes):
        raise StoreDownError("gone")

    store.before = gone
    done = StoreVisits(store).carry_out([LOADS[0], write_of(make_record())], serving)

    assert store.asked == []
    assert [is_refused(each) for each in done] == [True, True]


def test_the_next_orders_are_asked_again(caplog):
    store = CountingStore(StoreDownError("gone"))
    visits = StoreVisits(store)
    visits.carry_out(LOADS, serving)
    assert visits.is_down
    store.load = lambda _key: None
    done = visits.carry_out(LOADS, serving)

    assert not visits.is_down
    assert not any(is_refused(each) for each in done)
    assert caplog.messages == [
        "store of streams: reading failed: gone",
        "store of streams: reading works again",
    ]


def test_what_came_while_nobody_answered_fails_with_the_rest(make_record):
    store, woken = CountingStore(StoreDownError("gone")), threading.Event()
    begun, gate = threading.Event(), threading.Event()

    def load(key):
        begun.set()
        gate.wait(PATIENCE_S)
        store.asked.append(key)
        raise StoreDownError("gone")

    store.load = load
    port = StoreThread(store, woken.set)
    port.post(LOADS[0])
    port.flush()
    assert begun.wait(PATIENCE_S)
    later = [*LOADS[1:], write_of(make_record()), Sweep(1.0)]
    for order in later:
        port.post(order)
    port.flush()
    gate.set()
    assert woken.wait(PATIENCE_S)
    done = port.take()
    port.close()

    assert store.asked == [LOADS[0].key]
    assert store.commits == []
    assert [each.order for each in done] == [LOADS[0], *later]
    assert all(is_refused(each) for each in done)


def test_a_store_that_stops_reads_no_more_and_writes_what_is_on_its_way(make_record):
    store = CountingStore(StoreError("never asked"))
    port = StoreThread(store, lambda: None)
    orders = [*LOADS, write_of(make_record()), Sweep(1.0)]
    with port._changed:  # so that the thread sees the end together with the orders
        for order in orders:
            port.post(order)
        port._orders += port._buffer
        port._buffer = []
        port._is_closing = True
    done = port.close()

    assert store.asked == []
    assert {type(each.order): is_refused(each) for each in done} == {Load: True, Write: False, Sweep: True}
    assert store.closed == 1


def test_a_store_that_was_down_is_not_asked_again_at_the_end(make_record):
    store = CountingStore(StoreDownError("gone"))
    visits = StoreVisits(store)
    visits.carry_out(LOADS[:1], serving)
    done = visits.carry_out([write_of(make_record())], lambda: True)

    assert store.commits == []
    assert [is_refused(each) for each in done] == [True]


def test_a_redis_that_stands_still_is_nobody_and_is_waited_for_once(redis_server):
    """Really: with twenty loads behind it, one limit passes, and the end of the port waits for no more."""
    with redis_server() as server:
        store, woken = RedisStore(server.url, timeout_s=0.2), threading.Event()
        asked = []
        real = store._client.hmget
        store._client.hmget = lambda *given: asked.append(given) or real(*given)
        port = StoreThread(store, woken.set)
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            for number in range(20):
                port.post(Load(StreamKey("m", number)))
            port.flush()
            assert woken.wait(PATIENCE_S)
            done = port.take()
            port.close()
        finally:
            os.kill(server.process.pid, signal.SIGCONT)

    assert len(done) == 20
    assert all(is_refused(each) for each in done)
    assert len(asked) == 1
