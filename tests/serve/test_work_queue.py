"""Threads wait on events that the test sets; nothing sleeps."""

import threading

import anyio
import pytest
from anyio.lowlevel import checkpoint

from cellgate.serve.errors import QueueFull
from cellgate.serve.work_queue import QueueStatistics, WorkQueue

PATIENCE_S = 10


@pytest.fixture
def gate():
    """Work that blocks its thread until the test opens the gate."""
    opened = threading.Event()

    def wait():
        assert opened.wait(PATIENCE_S)
        return "done"

    wait.open = opened.set
    yield wait
    opened.set()


async def settle():
    """Let every task reach its await."""
    await anyio.wait_all_tasks_blocked()


async def test_work_runs_off_the_event_loop_and_returns():
    assert await WorkQueue(1, 0).run(threading.get_ident) != threading.get_ident()


async def test_exception_of_the_work_reaches_the_caller_and_leaves_the_queue_empty():
    queue = WorkQueue(1, 0)

    with pytest.raises(ZeroDivisionError):
        await queue.run(lambda: 1 / 0)

    assert queue.statistics() == QueueStatistics(0, 0, 1, 0)


async def test_full_queue_refuses_at_once_and_takes_again_afterwards(gate):
    queue = WorkQueue(1, 2)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(queue.run, gate)
            await settle()
            assert queue.statistics() == QueueStatistics(1, 2, 1, 2)

            with pytest.raises(QueueFull, match="expected fewer than 2 waiting"):
                await queue.run(gate)
            with pytest.raises(QueueFull):
                queue.check_room()

            gate.open()
        assert await queue.run(gate) == "done"
    assert queue.statistics() == QueueStatistics(0, 0, 1, 2)


async def test_requests_run_in_the_order_of_arrival(gate):
    queue, order = WorkQueue(1, 8), []
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(queue.run, gate)
            await settle()
            for number in range(8):
                group.start_soon(queue.run, lambda number=number: order.append(number))
                await settle()
            gate.open()

    assert order == list(range(8))


async def test_cancelled_waiter_gives_its_place_back(gate):
    queue = WorkQueue(1, 1)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(queue.run, gate)
            await settle()
            with anyio.CancelScope() as scope:
                scope.cancel()
                await queue.run(gate)
            assert scope.cancelled_caught
            assert queue.statistics().waiting == 0
            gate.open()
            await checkpoint()
