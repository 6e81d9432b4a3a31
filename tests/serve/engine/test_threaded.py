"""The engine in a thread keeps the port's contract, and nobody waits for ever whatever happens in the thread."""

import asyncio
import logging
import threading
from contextlib import suppress

import anyio
import pytest

from cellgate.serve.engine.port import infer
from cellgate.serve.engine.threaded import ThreadedEngine
from cellgate.serve.errors import EngineError, NotReady, QueueFull, ServeError

WAIT_S = 5.0  # far more than anything here takes; only a failing test waits so long


class Gate:
    """Lets the engine's thread into a run only when told."""

    def __init__(self):
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, feeds):
        self.entered.set()
        assert self.opened.wait(WAIT_S)


class Done:
    """What a waiter was told, and in which thread; can be awaited."""

    def __init__(self):
        self.outcomes = []
        self.threads = []
        self._event = asyncio.Event()

    def __call__(self, outcome):
        self.outcomes.append(outcome)
        self.threads.append(threading.get_ident())
        self._event.set()

    async def outcome(self):
        with anyio.fail_after(WAIT_S):
            await self._event.wait()
        return self.outcomes[0]


@pytest.fixture
async def start(make_engine, make_model):
    """Start an engine over a runtime on this loop; closed at the end."""
    opened = []

    async def start_it(runtime, **limits):
        engine, _ = make_engine(make_model(runtime), **limits)
        port = ThreadedEngine(engine)
        port.start(asyncio.get_running_loop())
        opened.append(port)
        return port

    yield start_it
    for port in opened:
        port.close()
        await anyio.wait_all_tasks_blocked()


@pytest.fixture
def gate():
    found = Gate()
    yield found
    found.opened.set()


async def in_a_run(gate):
    await asyncio.get_running_loop().run_in_executor(None, gate.entered.wait, WAIT_S)


async def settle():
    """Let everything happen that is already on its way to the loop."""
    for _ in range(3):
        await anyio.lowlevel.checkpoint()


async def test_answer_comes_on_the_loop_after_submit_has_returned(start, make_runtime, make_work, expected_of, is_same):
    port = await start(make_runtime())
    done, work = Done(), make_work(3, 5, states=True)

    ticket = port.submit(work, done)
    assert done.outcomes == []

    assert is_same(await done.outcome(), expected_of(work))
    assert done.threads == [threading.get_ident()]
    assert isinstance(ticket, int)
    await settle()
    assert len(done.outcomes) == 1


async def test_many_callers_get_their_own_answers(start, make_runtime, make_work, expected_of, is_same):
    port = await start(make_runtime())
    works = [make_work(1 + seed % 17, 1 + seed % 5, seed=seed) for seed in range(200)]
    answers = {}

    async def ask(number):
        answers[number] = await infer(port, works[number])

    with anyio.fail_after(WAIT_S):
        async with anyio.create_task_group() as group:
            for number in range(len(works)):
                group.start_soon(ask, number)

    assert all(is_same(answers[number], expected_of(work)) for number, work in enumerate(works))


async def test_cancelled_work_is_never_told(start, make_runtime, make_work, gate):
    port = await start(make_runtime(fault=gate))
    running, waiting, other = Done(), Done(), Done()
    first = port.submit(make_work(3), running)
    await in_a_run(gate)
    second = port.submit(make_work(3), waiting)
    port.submit(make_work(3), other)

    port.cancel(first)
    port.cancel(second)
    port.cancel(second)
    gate.opened.set()

    assert isinstance(await other.outcome(), dict)
    await settle()
    assert (running.outcomes, waiting.outcomes) == ([], [])
    port.cancel(first)
    assert (await port.statistics())["requests"]["inside"] == 0


async def test_answer_on_its_way_to_the_loop_is_not_told_after_a_cancel(start, make_runtime, make_work):
    """The loop does not turn between the answer and the cancel."""
    port = await start(make_runtime())
    done = Done()
    ticket = port.submit(make_work(3), done)
    while port.engine.statistics()["requests"]["answered"] == 0:  # the thread works while the loop stands
        pass

    port.cancel(ticket)
    await settle()

    assert done.outcomes == []


async def test_caller_that_goes_away_frees_its_lane(start, make_runtime, make_work, gate):
    port = await start(make_runtime(fault=gate))

    async with anyio.create_task_group() as group:
        group.start_soon(infer, port, make_work(3))
        await in_a_run(gate)
        group.cancel_scope.cancel()
    gate.opened.set()

    with anyio.fail_after(WAIT_S):
        found = await port.statistics()
    assert (found["requests"]["inside"], found["models"]["sum"]["lanes"]) == (0, 0)


async def test_statistics_are_those_of_the_engine(start, make_runtime, make_work):
    port = await start(make_runtime())
    await infer(port, make_work(4))

    found = await port.statistics()

    assert found["requests"]["answered"] == 1
    assert found["models"]["sum"]["useful_steps"] == 4


async def test_statistics_that_nobody_waits_for_trouble_nobody(start, make_runtime, make_work, gate):
    port = await start(make_runtime(fault=gate))
    done = Done()
    port.submit(make_work(2), done)
    await in_a_run(gate)

    with anyio.CancelScope() as scope:
        scope.cancel()
        await port.statistics()
    gate.opened.set()

    assert isinstance(await done.outcome(), dict)


async def test_full_queue_is_told_and_the_others_are_answered(start, make_runtime, make_work, gate):
    port = await start(make_runtime(fault=gate), max_waiting=1)
    first, second, third = Done(), Done(), Done()
    port.submit(make_work(2), first)
    await in_a_run(gate)

    port.submit(make_work(2), second)  # both are taken on when the first has ended
    port.submit(make_work(2), third)
    gate.opened.set()

    assert isinstance(await third.outcome(), QueueFull)
    assert isinstance(await first.outcome(), dict)
    assert isinstance(await second.outcome(), dict)


async def test_failed_run_is_told_and_the_next_succeeds(start, make_runtime, make_work):
    def refuse(feeds):
        raise EngineError("no")

    runtime = make_runtime(fault=refuse)
    port = await start(runtime)

    with pytest.raises(EngineError):
        await infer(port, make_work(2))
    runtime.fault = None
    assert "y" in await infer(port, make_work(2))


async def test_idle_engine_wakes_for_work(start, make_runtime, make_work):
    port = await start(make_runtime())

    for _ in range(5):
        assert "y" in await infer(port, make_work(2))
        assert (await port.statistics())["requests"]["inside"] == 0


async def test_held_run_runs_though_nobody_else_comes(make_runtime, make_model, make_limits, make_work):
    """The thread sleeps for as long as the engine says, by the real clock."""
    from cellgate.serve.engine.engine import Engine

    engine = Engine([make_model(make_runtime())], make_limits())
    waits = iter([0.002, 0.001])
    real = engine.wait_s
    engine.wait_s = lambda: next(waits, None) or real()
    port = ThreadedEngine(engine)
    port.start(asyncio.get_running_loop())

    with anyio.fail_after(WAIT_S):
        answer = await infer(port, make_work(2))
    port.close()

    assert "y" in answer


# The end


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


# Faults in the thread


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
