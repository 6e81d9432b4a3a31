"""Faults on purpose: before and after the run, the commit and the reply; a store that fails.

The store's thread is real. A crash is an engine that is left where it stands, and another one over what was committed.
"""

import threading

import numpy as np
import pytest

from cellgate.serve.engine.work import StreamAnswer, StreamRef
from cellgate.serve.errors import NotReady
from cellgate.serve.stream_errors import StoreUnavailable
from cellgate.serve.streams.memory_store import MemoryStore
from cellgate.serve.streams.store import StoreError


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


def test_a_store_that_cannot_be_read_costs_503_until_it_can(make_durable, make_work, make_x):
    driver, x = make_durable(), make_x(4)

    def gone(_key):
        raise StoreError("gone")

    driver.store.reading = gone
    assert isinstance(driver.ask(make_work(x, StreamRef(id=1, is_start=True))), StoreUnavailable)
    assert isinstance(driver.ask(make_work(x)), dict)
    driver.store.reading = None
    assert driver.ask(make_work(x, StreamRef(id=1, is_start=True))).step == 0


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
