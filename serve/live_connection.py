"""A live connection: inference requests as messages of a WebSocket, answered in the order in which they came.

Rules of this file: it knows a WebSocket by two callables and decides nothing about requests: `RequestReader` reads
them, the engine runs them. So many may be under way; then nothing more is read until an answer has gone, so that a
client which does not read its answers holds bounded memory. When the client goes away, its work is cancelled; a stream
stands where its last committed step left it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter
from typing import Final, NamedTuple

from .answer_form import AnswerForm
from .engine.work import Outcome
from .errors import ServeError
from .infer_answer import render_answer
from .infer_request import RequestReader, is_large_answer, is_large_body
from .request_meter import RequestMeter
from .serving_state import ServingState
from .socket_message import Message, answer_message, error_message, split_message

MOST_UNDER_WAY: Final = 64

Receive = Callable[[], Awaitable[Message | None]]
Send = Callable[[Message], Awaitable[None]]
_OK: Final = 200


class Asked(NamedTuple):
    """A request under way: when it was read, the form of its answer where it has one, and what comes of it."""

    begun_s: float
    form: AnswerForm | None
    done: "asyncio.Future[Outcome]"


class LiveConnection:
    """One connection to one model.

    Args:
        serving: of the application.
        reader: of the model's requests.
        meter: counts them.
        receive: returns the next message, or None when the client has gone.
        send: sends a message.
        gone: what `receive` and `send` may raise because the client has gone.
    """

    def __init__(
        self,
        serving: ServingState,
        reader: RequestReader,
        meter: RequestMeter,
        receive: Receive,
        send: Send,
        gone: tuple[type[Exception], ...] = (),
    ) -> None:
        self._serving = serving
        self._reader = reader
        self._meter = meter
        self._receive = receive
        self._send = send
        self._gone = gone
        self._asked: asyncio.Queue[Asked] = asyncio.Queue()
        self._room = asyncio.Semaphore(MOST_UNDER_WAY)
        self._tickets: set[int] = set()
        self._stopped = asyncio.Event()
        self._receiving: asyncio.Future[Message | None] | None = None

    def stop(self) -> None:
        """Read no further message: those that were read are answered, then `run` returns."""
        self._stopped.set()
        if self._receiving is not None:
            self._receiving.cancel()

    async def run(self) -> None:
        """Serve until the client goes away, which either side of the work may notice first, or until `stop`."""
        tasks = [asyncio.create_task(self._read_all()), asyncio.create_task(self._answer_all())]
        self._serving.live.add(self)
        if self._serving.draining:
            self.stop()
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._stopped.is_set():
                tasks.append(asyncio.create_task(self._asked.join()))
                await asyncio.wait(tasks[1:], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._serving.live.discard(self)
            for task in tasks:
                task.cancel()
            for ticket in self._tickets:
                self._serving.engine.cancel(ticket)
            found = await asyncio.gather(*tasks, return_exceptions=True)
        for fault in found:
            if isinstance(fault, Exception) and not isinstance(fault, self._gone):
                raise fault

    async def _read_all(self) -> None:
        while (message := await self._next()) is not None:
            await self._room.acquire()
            self._asked.put_nowait(await self._ask(message))

    async def _next(self) -> Message | None:
        """Return the next message; None where there is none to come, or none is to be read any more."""
        if self._stopped.is_set():
            return None
        self._receiving = asyncio.ensure_future(self._receive())
        try:
            return await self._receiving
        except asyncio.CancelledError:
            if self._stopped.is_set() and self._receiving.cancelled():
                return None
            raise
        finally:
            self._receiving.cancel()
            self._receiving = None

    async def _ask(self, message: Message) -> Asked:
        begun_s, done = perf_counter(), asyncio.get_running_loop().create_future()
        try:
            queue = self._serving.open_room()
            body, head_bytes = split_message(message)
            read = partial(self._reader.read, body, head_bytes)
            work, form = await queue.run(read) if is_large_body(len(body), head_bytes) else read()
            ticket = self._serving.engine.submit(work, lambda outcome: self._resolve(ticket, done, outcome))
            self._tickets.add(ticket)
        except ServeError as err:
            done.set_result(err)
            return Asked(begun_s, None, done)
        return Asked(begun_s, form, done)

    def _resolve(self, ticket: int, done: "asyncio.Future[Outcome]", outcome: Outcome) -> None:
        self._tickets.discard(ticket)
        if not done.done():
            done.set_result(outcome)

    async def _answer_all(self) -> None:
        while True:
            asked = await self._asked.get()
            status, message = await self._answer(asked.form, await asked.done)
            self._meter.answered(status, perf_counter() - asked.begun_s)
            await self._send(message)
            self._room.release()
            self._asked.task_done()

    async def _answer(self, form: AnswerForm | None, outcome: Outcome) -> tuple[int, Message]:
        """Return the status that HTTP would give, and the message."""
        if isinstance(outcome, ServeError):
            return outcome.status, error_message(outcome)
        assert form is not None
        try:
            if is_large_answer(form):
                return _OK, answer_message(await self._serving.open_queue().run(partial(render_answer, form, outcome)))
            return _OK, answer_message(render_answer(form, outcome))
        except ServeError as err:
            return err.status, error_message(err)
        except Exception as err:  # noqa: BLE001 - whatever it is, the client gets an answer in its place
            return ServeError.status, error_message(err)
