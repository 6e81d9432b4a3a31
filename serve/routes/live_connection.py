"""A live connection: inference requests as messages of a WebSocket, answered in the order in which they came.

Rules of this file: it knows a WebSocket by two callables and decides nothing about requests: `RequestReader` reads
them, the engine runs them. So many may be under way; then nothing more is read until an answer has gone, so that a
client which does not read its answers holds bounded memory. When the client goes away, its work is cancelled, counted
and told of as left behind; a stream stands where its last committed step left it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Final

from ..engine.work import Outcome
from ..errors import ServeError
from ..infer.answer_form import AnswerForm
from ..infer.infer_answer import render_answer
from ..infer.infer_request import RequestReader, is_large_answer, is_large_body
from ..observe.access_log import CLIENT_GONE
from ..observe.request_meter import RequestMeter
from ..observe.request_watch import CLIENT_GONE_CODE, RequestWatch, Watch
from ..serving_state import ServingState
from .socket_message import Message, answer_message, error_message, size_of, split_message

MOST_UNDER_WAY: Final = 64

Receive = Callable[[], Awaitable[Message | None]]
Send = Callable[[Message], Awaitable[None]]
_OK: Final = 200


@dataclass(slots=True, eq=False)
class Asked:
    """A request under way: when it was read, who is told, what comes of it, the form of its answer where it has one."""

    begun_s: float
    request: RequestWatch | None
    done: "asyncio.Future[Outcome]"
    form: AnswerForm | None = None


class LiveConnection:
    """One connection to one model.

    Args:
        serving: of the application.
        find_reader: returns what reads the model's requests at the moment.
        meter: counts them, whatever their end.
        receive: returns the next message, or None when the client has gone.
        send: sends a message.
        gone: what `receive` and `send` may raise because the client has gone.
        watch: is told of each request at its end; None: nobody wants to know.
    """

    def __init__(
        self,
        serving: ServingState,
        find_reader: Callable[[], RequestReader],
        meter: RequestMeter,
        receive: Receive,
        send: Send,
        gone: tuple[type[Exception], ...] = (),
        watch: Watch | None = None,
    ) -> None:
        self._serving = serving
        self._find_reader = find_reader
        self._meter = meter
        self._receive = receive
        self._send = send
        self._gone = gone
        self._watch = watch
        self._asked: asyncio.Queue[Asked] = asyncio.Queue()
        self._room = asyncio.Semaphore(MOST_UNDER_WAY)
        self._under_way: set[Asked] = set()
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
            for asked in self._under_way:  # nobody waits any more for what was read and not answered
                self._note(asked, CLIENT_GONE, 0, CLIENT_GONE_CODE)
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
        request = None if self._watch is None else self._watch.begin_next()
        asked = Asked(perf_counter(), request, asyncio.get_running_loop().create_future())
        self._under_way.add(asked)
        try:
            queue = self._serving.open_room()
            body, head_bytes = split_message(message)
            read = partial(self._find_reader().read, body, head_bytes)
            work, asked.form = await queue.run(read) if is_large_body(len(body), head_bytes) else read()
            if request is not None:
                work = request.submitted(work)
            ticket = self._serving.engine.submit(work, lambda outcome: self._resolve(ticket, asked, outcome))
            self._tickets.add(ticket)
        except ServeError as err:
            asked.done.set_result(err)
        except Exception as err:  # noqa: BLE001 - as in `_answer_all`
            asked.done.set_exception(err)
            asked.done.exception()  # looked at, for nobody may be left who asks
        return asked

    def _resolve(self, ticket: int, asked: Asked, outcome: Outcome) -> None:
        self._tickets.discard(ticket)
        if asked.request is not None:
            asked.request.answered()
        if not asked.done.done():
            asked.done.set_result(outcome)

    async def _answer_all(self) -> None:
        while True:
            asked = await self._asked.get()
            word, error = None if asked.request is None else asked.request.request_id, ""
            try:
                status, message = _OK, await self._answer(asked)
            except ServeError as err:
                status, message, error = err.status, error_message(err, word), err.code
            except Exception as err:  # noqa: BLE001 - whatever it is, the client gets an answer in its place
                status, message, error = ServeError.status, error_message(err, word), ServeError.code
            self._under_way.discard(asked)
            self._note(asked, status, size_of(message), error)
            await self._send(message)
            self._room.release()
            self._asked.task_done()

    async def _answer(self, asked: Asked) -> Message:
        """Return the message of an answer.

        Raises:
            ServeError: what the request was refused with, or the engine.
        """
        outcome, form = await asked.done, asked.form
        if isinstance(outcome, ServeError):
            raise outcome
        assert form is not None
        if is_large_answer(form):
            return answer_message(await self._serving.open_queue().run(partial(render_answer, form, outcome)))
        return answer_message(render_answer(form, outcome))

    def _note(self, asked: Asked, status: int, answer_bytes: int, error: str) -> None:
        self._meter.answered(status, perf_counter() - asked.begun_s)
        if asked.request is not None:
            asked.request.ended(status, answer_bytes, error=error)
