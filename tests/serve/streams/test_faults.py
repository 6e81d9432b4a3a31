"""Faults on purpose: before and after the run, the commit and the reply; a store that is slow or gone.

The store's thread is real. A crash is an engine that is left where it stands, and another one over what was committed.
"""

import threading

import numpy as np
import pytest

from cellgate.serve.engine.work import StreamAnswer, StreamOrder, StreamRef
from cellgate.serve.errors import DeadlineExceeded, NotReady
from cellgate.serve.stream_errors import StoreUnavailable, StreamDamaged, StreamEnded
from cellgate.serve.streams.memory_store import MemoryStore
from cellgate.serve.streams.record import StreamKey
from cellgate.serve.streams.record_bytes import RecordError
from cellgate.serve.streams.store import DamagedRecordError, StoreError, Write

PATIENCE_S = 30


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


def test_a_store_that_cannot_be_read_costs_503_until_it_can(make_durable, make_work, make_x):
    driver, x = make_durable(), make_x(4)

    def gone(_key):
        raise StoreError("gone")

    driver.store.reading = gone
    assert isinstance(driver.ask(make_work(x, StreamRef(id=1, is_start=True))), StoreUnavailable)
    assert isinstance(driver.ask(make_work(x)), dict)
    driver.store.reading = None
    assert driver.ask(make_work(x, StreamRef(id=1, is_start=True))).step == 0


@pytest.fixture
def damaged(make_durable, make_work, make_x):
    """A server that begins with two streams on the disk; the record of stream 1 is damaged there."""
    inner, x = MemoryStore(1000), make_x(4)
    before = make_durable(inner)
    for name in (1, 2):
        before.ask(make_work(x, StreamRef(id=name, is_start=True, step=0)))
    driver, revision = make_durable(inner), inner.load(StreamKey("steps", 1)).revision

    def read(key):
        record = inner.load(key)
        if record is not None and record.revision == revision:
            raise DamagedRecordError(revision, RecordError("checksum", "a", "b"))

    driver.store.reading = read
    return driver


@pytest.mark.parametrize(
    "ref", [StreamRef(id=1), StreamRef(id=1, step=1), StreamRef(id=1, is_start=True, step=0)], ids=str
)
def test_a_damaged_record_is_told_to_who_goes_on_with_its_stream_and_to_nobody_else(
    damaged, make_work, make_x, caplog, ref
):
    found = damaged.ask(make_work(make_x(4), ref))
    assert isinstance(found, StreamDamaged)
    assert str(found) == (
        "store of streams: of 1 expected its record, found it damaged; end the stream with DELETE, or start it again "
        "without sequence_step"
    )
    assert damaged.ask(make_work(make_x(4), StreamRef(id=2, step=1))).step == 1
    assert "a stream of model steps is damaged: record of a stream: checksum" in caplog.text


def give_order(driver, kind):
    found = []
    driver.engine.order(StreamOrder(kind=kind, model="steps", id=1), found.append)
    while not found:
        driver.turn()
        driver.woken.wait(0.001)
    return found[0]


def test_a_damaged_stream_can_be_closed_and_is_shown_to_be_damaged_until_then(damaged, make_work, make_x):
    assert isinstance(give_order(damaged, "show"), StreamDamaged)
    assert isinstance(give_order(damaged, "export"), StreamDamaged)
    assert give_order(damaged, "close").facts["ended"] == "closed"
    assert isinstance(give_order(damaged, "close"), StreamEnded)

    assert isinstance(damaged.ask(make_work(make_x(4), StreamRef(id=1))), StreamEnded)


def test_a_damaged_stream_can_be_started_again(damaged, make_work, make_x):
    assert damaged.ask(make_work(make_x(4), StreamRef(id=1, is_start=True))).step == 0
    assert damaged.ask(make_work(make_x(4), StreamRef(id=1, step=1))).step == 1


def test_a_store_that_can_be_read_but_takes_nothing_complains_once(make_durable, make_work, make_x, caplog):
    """A full Redis."""
    driver, x = make_durable(), make_x(4)

    def full(_writes):
        raise StoreError("full")

    driver.store.before = full
    for name in range(1, 6):
        assert isinstance(driver.ask(make_work(x, StreamRef(id=name, is_start=True))), StoreUnavailable)
    driver.store.before = None
    driver.ask(make_work(x, StreamRef(id=1, is_start=True)))

    assert [record.getMessage() for record in caplog.records] == [
        "store of streams: writing failed: full",
        "store of streams: writing works again",
    ]


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
