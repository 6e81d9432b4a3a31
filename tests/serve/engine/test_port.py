"""The coroutine on top of the port: an answer, an error raised, and nothing left where the caller goes away."""

import anyio
import pytest

from cellgate.serve.engine.port import infer
from cellgate.serve.errors import EngineError, QueueFull


class HandPort:
    """A port that answers when the test says so."""

    is_ready = True

    def __init__(self, refusal=None):
        self.refusal = refusal
        self.waiting = {}
        self.cancelled = []

    def has_room(self):
        return self.refusal is None

    def submit(self, work, on_done):
        if self.refusal is not None:
            raise self.refusal
        ticket = len(self.waiting) + 1
        self.waiting[ticket] = on_done
        return ticket

    def cancel(self, ticket):
        self.cancelled.append(ticket)


async def test_answer_is_returned(make_work):
    port = HandPort()
    answer = {}
    found = []

    async def ask():
        found.append(await infer(port, make_work(2)))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        port.waiting[1](answer)

    assert found[0] is answer
    assert port.cancelled == []


async def test_error_is_raised(make_work):
    port = HandPort()
    error = EngineError("no")

    async def ask():
        with pytest.raises(EngineError) as caught:
            await infer(port, make_work(2))
        assert caught.value is error

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        port.waiting[1](error)


async def test_refusal_is_raised_at_once(make_work):
    port = HandPort(QueueFull(3))

    with pytest.raises(QueueFull):
        await infer(port, make_work(2))


async def test_cancelled_caller_cancels_its_work(make_work):
    port = HandPort()

    async with anyio.create_task_group() as group:
        group.start_soon(infer, port, make_work(2))
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()

    assert port.cancelled == [1]


async def test_answer_that_meets_a_cancelled_caller_is_dropped_without_an_error(make_work):
    """Both in one turn of the loop: the answer finds the future cancelled and the task not yet told."""
    port = HandPort()

    async with anyio.create_task_group() as group:
        group.start_soon(infer, port, make_work(2))
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
        port.waiting[1]({})

    assert port.cancelled == [1]
