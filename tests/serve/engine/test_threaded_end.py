"""The engine in a thread ends in order, and whatever breaks in the thread, nobody waits for ever."""

import asyncio
import logging
import threading
from contextlib import suppress

import anyio
import pytest

from cellgate.serve.engine.port import infer
from cellgate.serve.engine.threaded import ThreadedEngine
from cellgate.serve.errors import NotReady, ServeError

from .waiters import WAIT_S, Done, in_a_run, settle


async def test_before_the_start_and_after_the_end_nothing_is_taken(make_engine, make_model, make_runtime, make_work):
    runtime = make_runtime()
    engine, _ = make_engine(make_model(runtime))
    port = ThreadedEngine(engine)
    taken = []

    async def refuses():
        assert not port.is_ready
        with pytest.raises(NotReady):
            port.submit(make_work(2), taken.append)
        with pytest.raises(NotReady):
            await port.statistics()

    await refuses()
    port.start(asyncio.get_running_loop())
    assert port.is_ready
    port.close()
    await refuses()
    assert runtime.closed
    assert taken == []


async def test_engine_that_was_never_started_is_closed_too(make_engine, make_model, make_runtime):
    runtime = make_runtime()
    engine, _ = make_engine(make_model(runtime))
    port = ThreadedEngine(engine)

    port.close()
    port.close()

    assert runtime.closed
    assert not port.is_ready


async def test_close_refuses_everything_that_waits_once(start, make_runtime, make_work, gate):
    runtime = make_runtime(fault=gate)
    port = await start(runtime, max_lanes=1)
    waiters = [Done() for _ in range(5)]
    port.submit(make_work(2), waiters[0])
    await in_a_run(gate)
    for done in waiters[1:]:
        port.submit(make_work(2), done)

    async def close():
        await asyncio.get_running_loop().run_in_executor(None, port.close)

    with anyio.fail_after(WAIT_S):
        async with anyio.create_task_group() as group:
            group.start_soon(close)
            while port.is_ready:
                await anyio.lowlevel.checkpoint()
            gate.opened.set()
    port.close()
    await settle()

    outcomes = [done.outcomes for done in waiters]
    assert [len(found) for found in outcomes] == [1] * 5
    assert [type(found[0]) for found in outcomes] == [dict] + [NotReady] * 4
    assert runtime.closed
    assert runtime.runs == 1


def test_loop_that_closed_early_does_no_harm(make_engine, make_model, make_runtime, make_work, gate):
    runtime = make_runtime(fault=gate)
    engine, _ = make_engine(make_model(runtime))
    port = ThreadedEngine(engine)
    loop = asyncio.new_event_loop()
    port.start(loop)
    told = []

    async def submit():
        port.submit(make_work(2), told.append)
        await in_a_run(gate)
        port.submit(make_work(2), told.append)

    loop.run_until_complete(submit())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    gate.opened.set()
    port.close()

    assert runtime.closed
    assert told == []
    assert not [thread for thread in threading.enumerate() if thread.name == "cellgate-engine" and thread.is_alive()]


def break_engine(engine, monkeypatch, name):
    def fail(*_):
        raise ZeroDivisionError(name)

    monkeypatch.setattr(engine, name, fail)


@pytest.mark.parametrize("name", ["run_once", "submit", "cancel", "statistics", "wait_s"])
async def test_fault_in_the_engine_leaves_nobody_waiting(
    start, make_runtime, make_work, gate, monkeypatch, caplog, name
):
    """Whatever breaks, everybody is told something, and the port says that it is not ready any more."""
    runtime = make_runtime(fault=gate)
    port = await start(runtime)
    waiters = [Done() for _ in range(4)]
    with caplog.at_level(logging.CRITICAL + 1):
        port.submit(make_work(50), waiters[0])
        await in_a_run(gate)
        break_engine(port.engine, monkeypatch, name)
        for done in waiters[1:]:
            ticket = port.submit(make_work(2), done)
        cancelled = Done()
        port.cancel(port.submit(make_work(2), cancelled))
        asked = asyncio.ensure_future(port.statistics())
        await settle()
        gate.opened.set()

        for done in waiters:
            assert isinstance(await done.outcome(), ServeError | dict)
        with anyio.fail_after(WAIT_S):
            while port.is_ready:
                await anyio.lowlevel.checkpoint()
            with suppress(NotReady):
                await asked
    await settle()
    assert ticket
    assert cancelled.outcomes == []
    assert [len(done.outcomes) for done in waiters] == [1] * 4
    with pytest.raises(NotReady):
        port.submit(make_work(2), waiters[0])
    port.close()
    assert runtime.closed


async def test_engine_that_cannot_even_close_leaves_nobody_waiting(
    start, make_runtime, make_work, gate, monkeypatch, caplog
):
    port = await start(make_runtime(fault=gate))
    done = Done()
    port.submit(make_work(2), done)
    await in_a_run(gate)
    later = Done()
    port.submit(make_work(2), later)
    break_engine(port.engine, monkeypatch, "close")
    break_engine(port.engine, monkeypatch, "submit")
    gate.opened.set()

    assert isinstance(await done.outcome(), ServeError | dict)
    assert isinstance(await later.outcome(), ServeError)


async def test_waiter_that_raises_takes_no_answer_from_the_others(start, make_runtime, make_work, gate, caplog):
    port = await start(make_runtime(fault=gate))
    first, last = Done(), Done()

    def broken(outcome):
        raise ZeroDivisionError("in a waiter")

    port.submit(make_work(2), first)
    await in_a_run(gate)
    port.submit(make_work(2), broken)
    port.submit(make_work(2), last)
    with caplog.at_level(logging.ERROR):
        gate.opened.set()
        assert isinstance(await last.outcome(), dict)
    assert "in a waiter" in caplog.text


async def test_caller_cancelled_as_its_answer_arrives_takes_none_from_the_others(start, make_runtime, make_work, gate):
    """Its future is cancelled and its task not yet told, when the answers of the run reach the loop."""
    port = await start(make_runtime(fault=gate))
    last = Done()
    first = Done()
    port.submit(make_work(2), first)
    await in_a_run(gate)
    task = asyncio.ensure_future(infer(port, make_work(2)))
    await settle()
    port.submit(make_work(2), last)
    loop = asyncio.get_running_loop()
    delivered = threading.Event()
    call = loop.call_soon_threadsafe
    port._loop = _Spy(loop, call, delivered)
    gate.opened.set()

    for _ in range(2):  # both runs have ended, and the loop has not turned since
        assert delivered.wait(WAIT_S)
        delivered.clear()
        if port.engine.statistics()["requests"]["answered"] == 3:
            break
    task.cancel()

    assert isinstance(await last.outcome(), dict)
    with pytest.raises(asyncio.CancelledError):
        await task


class _Spy:
    """A loop that says when something was called from another thread."""

    def __init__(self, loop, call, delivered):
        self.loop, self.call, self.delivered = loop, call, delivered

    def call_soon_threadsafe(self, callback):
        handle = self.call(callback)
        self.delivered.set()
        return handle
