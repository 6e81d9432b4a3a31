"""A store that several servers share, each chunk applied once whoever writes; and what a store decides by itself."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from cellgate.serve.engine.work import StreamRef
from cellgate.serve.stream_errors import StepGap, StreamExpired
from cellgate.serve.streams.memory_store import MemoryStore
from cellgate.serve.streams.record import StreamKey
from cellgate.serve.streams.store import Write

from .driver import PATIENCE_S


def test_two_servers_share_streams(make_durable, make_work, make_x, cut, whole_of):
    inner, x = MemoryStore(1000), make_x(40)
    servers = [make_durable(inner, is_shared=True) for _ in range(2)]
    ys = []
    works = [make_work(chunk, ref) for chunk, ref in cut(x, 7, 3, chunks=8)]
    for place, work in enumerate(works):
        here, there = servers[place % 2], servers[(place + 1) % 2]
        found = here.ask(work)
        assert there.ask(work).is_replayed
        if place > 2:
            refused = servers[place % 2].ask(works[place - 2])
            assert isinstance(refused, StepGap) or place == len(works) - 1
        ys.append(found.outputs["y"])

    assert np.concatenate(ys, axis=1).tobytes() == whole_of(x)["y"].tobytes()


def test_of_two_servers_with_the_same_request_one_applies_it(make_durable, make_work, make_x, whole_of):
    inner, x = MemoryStore(1000), make_x(40)
    one, other = (make_durable(inner, is_shared=True) for _ in range(2))
    ys = []
    for place in range(10):
        ref = StreamRef(id=7, is_start=place == 0, step=place)
        work = make_work(x[:, 4 * place : 4 * place + 4], ref)
        tickets = one.post(work), other.post(work)
        found = one.drain_until(tickets[0]) + other.drain_until(tickets[1])
        assert sorted(answer.is_replayed for answer in found) == [False, True]
        assert found[0].outputs["y"].tobytes() == found[1].outputs["y"].tobytes()
        ys.append(found[0].outputs["y"])

    assert np.concatenate(ys, axis=1).tobytes() == whole_of(x)["y"].tobytes()


def test_a_write_that_another_server_came_before_is_run_again_from_there(make_durable, make_work, make_x, whole_of):
    """Without steps both requests count, one after the other."""
    inner, x = MemoryStore(1000), make_x(2)
    one, other = (make_durable(inner, is_shared=True) for _ in range(2))
    work = make_work(x, StreamRef(id=7))
    one.ask(make_work(x, StreamRef(id=7, is_start=True)))
    other.ask(work)
    found = [one.ask(work), other.ask(work)]

    assert [answer.step for answer in found] == [2, 3]
    assert found[1].outputs["y"].tobytes() == whole_of(np.tile(x, (1, 4, 1)))["y"][:, 6:].tobytes()


def test_a_store_that_falls_back_to_an_older_state_is_not_gone_on_with_from_what_is_lost(
    make_durable, make_work, make_x, whole_of
):
    """A replica took over that had not received step 1; it is sent again, to another server and cut elsewhere."""
    inner, x, key = MemoryStore(1000), make_x(8), StreamKey("steps", 7)
    one, other = servers = [make_durable(inner, is_shared=True) for _ in range(2)]
    one.ask(make_work(x[:, :2], StreamRef(id=7, is_start=True, step=0)))
    replica, record = MemoryStore(1000), inner.load(key)
    replica.commit([Write(key=key, expected=None, record=record, expires_s=1e12, keep_until_s=1e12)])
    one.ask(make_work(x[:, 2:6], StreamRef(id=7, step=1)))
    for server in servers:
        server.store.inner = replica
    other.ask(make_work(x[:, 2:4], StreamRef(id=7, step=1)))
    found = one.ask(make_work(x[:, 4:], StreamRef(id=7, step=2)))

    assert found.outputs["y"].tobytes() == whole_of(x)["y"][:, 4:].tobytes()


@pytest.mark.parametrize("goes", ["away", "past its deadline"])
def test_what_was_read_for_one_who_left_is_not_held_against_the_next(goes, make_durable, make_work, make_x):
    """A chunk is sent here, its client goes to another server, and comes back with the next one: it is due by now."""
    inner, x = MemoryStore(1000), make_x(3)
    here, other = (make_durable(inner, is_shared=True) for _ in range(2))
    first, second, third = (
        make_work(x[:, step : step + 1], StreamRef(id=7, is_start=step == 0, step=step)) for step in range(3)
    )
    other.ask(first)
    has_read, may_answer = threading.Event(), threading.Event()

    def read_and_linger(key):
        found = inner.load(key)
        has_read.set()
        assert may_answer.wait(PATIENCE_S)
        here.store.load = inner.load
        return found

    here.store.load = read_and_linger
    left = here.post(replace(second, deadline_s=here.clock.now + 1.0) if goes == "past its deadline" else second)
    here.turn()
    assert has_read.wait(PATIENCE_S)
    if goes == "away":
        here.engine.cancel(left)
    other.ask(second)
    due = here.post(third)
    here.clock.now += 1.5
    here.turn()
    may_answer.set()

    assert here.drain_until(due)[0].step == 2


def test_a_stream_that_others_write_to_all_the_time_is_given_up(make_durable, make_work, make_x):
    driver, x = make_durable(is_shared=True), make_x(2)
    driver.ask(make_work(x, StreamRef(id=7, is_start=True)))
    driver.store.commit = lambda writes: [False] * len(writes)

    assert "others write to the same stream" in str(driver.ask(make_work(x, StreamRef(id=7))))


def test_durable_streams_expire_by_the_clock_on_the_wall(make_durable, make_work, make_x):
    inner, x = MemoryStore(1000), make_x(2)
    driver = make_durable(inner, idle_s=60.0)
    driver.ask(make_work(x, StreamRef(id=7, is_start=True)))
    driver.wall.now -= 200.0  # somebody sets it back
    assert driver.ask(make_work(x, StreamRef(id=7))).step == 1
    driver.wall.now += 200.0

    assert isinstance(driver.ask(make_work(x, StreamRef(id=7))), StreamExpired)


def test_what_memory_has_no_room_for_comes_back_from_the_store(make_durable, make_work, make_x, cut, whole_of):
    driver = make_durable()
    driver.engine._client.cache._max_bytes = 4000  # a few records
    xs = {name: make_x(24, seed=name) for name in range(1, 21)}
    parts = {name: cut(x, name, 1, chunks=4) for name, x in xs.items()}
    ys = {name: [] for name in xs}
    for place in range(4):
        for name, mine in parts.items():
            ys[name].append(driver.ask(make_work(*mine[place])).outputs["y"])

    for name, x in xs.items():
        assert np.concatenate(ys[name], axis=1).tobytes() == whole_of(x)["y"].tobytes()
    assert 0 < driver.engine._client.cache.size_bytes <= 4000


def test_a_store_that_does_not_count_bounds_nothing_here_and_shows_what_this_server_knows(
    make_driver, make_shaky, make_work, make_x
):
    store = type("Uncounted", (make_shaky,), {"usage": None})(is_durable=True, is_shared=True)
    driver, x = make_driver(store, max_streams=1), make_x(4)
    for name in (1, 2, 3):
        ticket = driver.post(make_work(x, StreamRef(id=name, is_start=True, is_end=name == 3)))
        assert driver.drain_until(ticket)[0].step == 0

    found = driver.engine.statistics()["streams"]["steps"]
    assert (found["live"], found["state_bytes"], found["ended"]["end"]) == (2, 48, 1)
