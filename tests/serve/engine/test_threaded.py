"""The engine in a thread keeps the port's contract."""

import asyncio
import threading

import anyio
import pytest

from cellgate.serve.engine.port import infer
from cellgate.serve.engine.threaded import ThreadedEngine
from cellgate.serve.errors import EngineError, QueueFull

from .waiters import WAIT_S, Breakable, Done, in_a_run, settle


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

    engine = Breakable(Engine([make_model(make_runtime())], make_limits()))
    waits = iter([0.002, 0.001])
    real = engine.wait_s
    engine.wait_s = lambda: next(waits, None) or real()
    port = ThreadedEngine(engine)
    port.start(asyncio.get_running_loop())

    with anyio.fail_after(WAIT_S):
        answer = await infer(port, make_work(2))
    port.close()

    assert "y" in answer
