"""Faults on purpose: before and after the run, the commit and the reply; a store that is slow, gone or shared.

The store's thread is real. A crash is an engine that is left where it stands, and another one over what was committed.
"""

import random
import threading

import numpy as np
import pytest

from cellgate.serve.engine.work import StreamAnswer, StreamOrder, StreamRef
from cellgate.serve.errors import DeadlineExceeded, EngineError, NotReady
from cellgate.serve.stream_errors import StepGap, StoreUnavailable, StreamExists, StreamExpired
from cellgate.serve.streams.memory_store import MemoryStore
from cellgate.serve.streams.record import StreamKey
from cellgate.serve.streams.record_bytes import RecordError
from cellgate.serve.streams.store import StoreError, Write

PATIENCE_S = 30


@pytest.fixture
def make_durable(make_driver, make_shaky):
    """A driver over a store on a thread; what it committed outlives it."""

    def make(inner=None, *, is_shared=False, **limits):
        driver = make_driver(make_shaky(inner, is_durable=True, is_shared=is_shared), **limits)
        driver.ask = lambda work: driver.drain_until(driver.post(work))[0]
        return driver

    return make


def fail_once(store, place):
    """Let the next commit fail, before or after it is done."""

    def fault(_writes):
        setattr(store, place, None)
        raise StoreError("gone")

    setattr(store, place, fault)


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_commit_that_fails_is_not_answered_as_done_and_the_retry_finds_out(
    make_durable, make_work, make_x, cut, whole_of, place
):
    driver, x, ys = make_durable(), make_x(30), []
    for chunk, ref in cut(x, 7, 1, chunks=5):
        fail_once(driver.store, place)
        assert isinstance(driver.ask(make_work(chunk, ref)), StoreUnavailable)
        again = driver.ask(make_work(chunk, ref))
        assert again.is_replayed is (place == "after")
        ys.append(again.outputs["y"])

    assert np.concatenate(ys, axis=1).tobytes() == whole_of(x)["y"].tobytes()


@pytest.mark.parametrize("place", ["before run", "after run", "in commit", "after commit", "before reply"])
def test_a_crash_anywhere_loses_no_answered_chunk_and_applies_none_twice(
    make_durable, make_work, make_x, cut, whole_of, place
):
    inner, x, ys = MemoryStore(1000), make_x(30), []
    for number, (chunk, ref) in enumerate(cut(x, 7, 2, chunks=6)):
        driver = make_durable(inner)
        work = make_work(chunk, ref)
        if number % 2:
            crash(driver, work, place)
            driver = make_durable(inner)
        found = driver.ask(work)
        assert found.is_replayed is (number % 2 == 1 and place in ("after commit", "before reply"))
        ys.append(found.outputs["y"])

    assert np.concatenate(ys, axis=1).tobytes() == whole_of(x)["y"].tobytes()


def crash(driver, work, place):
    """Bring a request up to this place, and leave it there."""
    done = threading.Event()
    if place == "in commit":  # the process dies before the disk has it

        def die(_writes):
            done.set()
            raise StoreError("died")

        driver.store.before = die
    else:
        driver.store.after = lambda _writes: done.set()
    if place in ("before run", "after run"):
        driver.store.commit = lambda _writes: []  # nothing of it gets there
    driver.post(work)
    if place == "before run":
        return
    if place == "before reply":
        driver.drain_until(1)
        return
    while not (done.is_set() or (place == "after run" and driver.engine.statistics()["models"]["steps"]["runs"])):
        if driver.engine.wait_s() != 0.0:
            driver.woken.wait(0.001)
            driver.clock.now += 1e-4
        driver.engine.run_once()


def test_all_that_a_run_applied_goes_out_as_one_commit(make_durable, make_work, make_x):
    driver = make_durable()
    works = [make_work(make_x(8, seed=name), StreamRef(id=name, is_start=True)) for name in range(1, 33)]
    driver.drain_until(*[driver.post(work) for work in works])

    assert sum(driver.store.commits) == 32
    assert len(driver.store.commits) <= driver.engine.statistics()["models"]["steps"]["runs"] + 1


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


def test_a_store_that_cannot_be_read_costs_503_until_it_can(make_durable, make_work, make_x):
    driver, x = make_durable(), make_x(4)

    def gone(_key):
        raise StoreError("gone")

    driver.store.reading = gone
    assert isinstance(driver.ask(make_work(x, StreamRef(id=1, is_start=True))), StoreUnavailable)
    assert isinstance(driver.ask(make_work(x)), dict)
    driver.store.reading = None
    assert driver.ask(make_work(x, StreamRef(id=1, is_start=True))).step == 0


def test_a_damaged_record_is_an_error_of_ours_for_its_stream_only(make_durable, make_work, make_x, caplog):
    driver, x = make_durable(), make_x(4)

    def damaged(key):
        if key == StreamKey("steps", 1):
            raise RecordError("checksum", "a", "b")

    driver.store.reading = damaged
    assert isinstance(driver.ask(make_work(x, StreamRef(id=1))), EngineError)
    assert driver.ask(make_work(x, StreamRef(id=2, is_start=True))).step == 0
    assert "a stream of model steps is damaged" in caplog.text


def test_a_fault_of_the_store_that_nobody_foresaw_leaves_nobody_waiting(make_durable, make_work, make_x, caplog):
    driver, x = make_durable(), make_x(4)
    driver.store.before = lambda _writes: 1 / 0
    assert isinstance(driver.ask(make_work(x, StreamRef(id=1, is_start=True))), StoreUnavailable)
    driver.store.before = None

    assert driver.ask(make_work(x, StreamRef(id=1, is_start=True))).step == 0
    assert "the store of streams failed" in caplog.text


def test_states_of_another_model_are_never_fed(make_durable, make_work, make_x, make_record):
    inner, x = MemoryStore(9), make_x(4)
    driver = make_durable(inner)
    digest = driver.engine.models[0].served.digest
    record = make_record(4, rows=1, digest=digest, touched_s=driver.wall.now)
    record = type(record)(**{**{name: getattr(record, name) for name in record.__slots__}, "states": record.states[:1]})
    inner.commit([Write(key=StreamKey("steps", 1), expected=None, record=record, expires_s=1e12, keep_until_s=1e12)])

    assert "expected the states of the model" in str(driver.ask(make_work(x, StreamRef(id=1))))


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


def test_closing_answers_what_is_on_its_way_to_the_store(make_durable, make_work, make_x):
    driver, x = make_durable(), make_x(4)
    committing = driver.post(make_work(x, StreamRef(id=1, is_start=True)))
    behind = driver.post(make_work(x, StreamRef(id=1)))
    while not driver.store.commits:
        driver.turn()
        driver.clock.now += 1e-4
    found = {**driver.outcomes, **dict(driver.engine.close())}

    assert isinstance(found[committing], StreamAnswer)
    assert isinstance(found[behind], NotReady | StreamAnswer)
    assert driver.store.closed == 1


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


def test_a_stream_that_others_write_to_all_the_time_is_given_up(make_durable, make_work, make_x):
    driver, x = make_durable(is_shared=True), make_x(2)
    driver.ask(make_work(x, StreamRef(id=7, is_start=True)))
    driver.store.commit = lambda writes: [False] * len(writes)

    assert "others write to the same stream" in str(driver.ask(make_work(x, StreamRef(id=7))))


def test_durable_streams_expire_by_the_clock_on_the_wall(make_durable, make_work, make_x):
    inner, x = MemoryStore(1000), make_x(2)
    driver = make_durable(inner, idle_s=60.0)
    driver.ask(make_work(x, StreamRef(id=7, is_start=True)))
    driver.wall.now -= 1e6  # somebody sets it back
    assert driver.ask(make_work(x, StreamRef(id=7))).step == 1
    driver.wall.now += 1e6

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


class Clients:
    """Clients of several streams, each of which sends its next chunk until it is answered; some repeat and some hurry.

    None has two chunks of its own on the way: only the last answer of a stream is kept for a repetition.
    """

    def __init__(self, works, dice):
        self.works, self.dice = works, dice
        self.got = {name: [] for name in works}
        self.waiting = {}

    @property
    def are_done(self):
        return all(len(self.got[name]) == len(mine) for name, mine in self.works.items())

    def send(self, post):
        for name, mine in self.works.items():
            place = len(self.got[name])
            if place == len(mine) or (name in self.waiting.values() and self.dice.random() > 0.1):
                continue
            self.waiting[post(mine[place])] = name
            if place and self.dice.random() < 0.2:
                post(mine[self.dice.randrange(place)])  # an old one, late
            if place + 2 < len(mine) and self.dice.random() < 0.2:
                post(mine[self.dice.randrange(place + 2, len(mine))])  # one too early

    def take(self, outcomes):
        for ticket in self.waiting.keys() & outcomes.keys():
            name, outcome = self.waiting.pop(ticket), outcomes[ticket]
            got = self.got[name]
            if not isinstance(outcome, StreamAnswer):
                assert isinstance(outcome, StoreUnavailable | StepGap | StreamExists), outcome
            elif outcome.step == len(got):
                got.append(outcome)
            else:  # a second answer to what was sent twice
                assert got[outcome.step].outputs["y"].tobytes() == outcome.outputs["y"].tobytes()


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("seed", range(10))
def test_any_history_of_faults_gives_every_stream_the_bits_of_the_whole(
    make_durable, make_work, make_x, cut, whole_of, seed
):
    """Clients that retry, repeat and hurry; commits that fail before or after they are done; crashes at any turn."""
    dice, inner = random.Random(seed), MemoryStore(1000)
    xs = {name: make_x(30, rows=1 + name % 2, seed=100 * seed + name) for name in range(1, 9)}
    works = {name: [make_work(*part) for part in cut(x, name, seed + name, chunks=6)] for name, x in xs.items()}
    clients, driver = Clients(works, dice), make_durable(inner)

    def maybe_fail(_writes):
        if dice.random() < 0.15:
            raise StoreError("gone")

    while not clients.are_done:
        driver.store.before = driver.store.after = maybe_fail
        clients.send(driver.post)
        for _ in range(dice.randrange(1, 6)):
            driver.turn()
            if driver.engine.wait_s() != 0.0:
                driver.woken.wait(0.001)
                driver.clock.now += 1e-3
        clients.take(driver.outcomes)
        if dice.random() < 0.1:
            driver.engine._port.close()  # what is on its way to the disk may get there; nobody is answered
            driver = make_durable(inner)
            clients.waiting.clear()

    for name, x in xs.items():
        ys = np.concatenate([answer.outputs["y"] for answer in clients.got[name]], axis=1)
        assert ys.tobytes() == whole_of(x)["y"].tobytes()


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
