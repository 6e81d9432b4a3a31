"""A load: sequences sent to a server, in a closed loop or at scheduled moments, and what became of each.

Rules of this file: one event loop, one object for one run; every request that was begun is written down exactly once,
as an answer or as what went wrong. What the numbers mean is `latency`'s.

Closed loop: as many requests are under way as there are connections; the next leaves when an answer arrives. Open loop:
sequences are due at given moments and never wait for answers; connections are opened as needed. One for which no
connection is free waits here, and its latency counts from the moment at which it was due.
"""

import asyncio
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from .address import Address
from .connection import Connection
from .errors import ServerGoneError
from .http_answer import Answer
from .infer_request import some_stream
from .jobs import Job
from .load_plan import LoadPlan
from .pool import Pool
from .samples import GARBLED, LOST, OK, TIMEOUT, Recorder

Clock = Callable[[], float]

_SWEEP_S: Final = 0.1


class Load:
    """One run of a load.

    Args:
        address: of the server.
        jobs: sequences, at least one; gone round as often as needed.
        plan: how and how long.
        arrivals: seconds after the start at which a sequence is due, ascending, without end; None: closed loop.
        clock: monotonic, in seconds.
    """

    def __init__(
        self, address: Address, jobs: Sequence[Job], plan: LoadPlan, arrivals: Iterator[float] | None, clock: Clock
    ) -> None:
        self._url, self._plan, self._clock = address.url, plan, clock
        self._jobs, self._streams = itertools.cycle(jobs), itertools.count(some_stream())
        self._arrivals = arrivals
        self._pool = Pool(address, self, plan.connections, clock)
        self._due: deque[float] = deque()
        self._under_way = 0
        self._counted = 0
        self._none_to_come = False
        self._begin_s = self._measured_from_s = self._end_s = math.inf
        self._alive_s = 0.0
        self._over: asyncio.Future[None] | None = None
        self.recorder = Recorder()
        self.held_back = 0

    async def run(self, on_progress: Callable[[float], None] = lambda _: None) -> tuple[float, float]:
        """Run until the plan's time or number is reached and every request has ended.

        Args:
            on_progress: called a few times a second with the seconds since the start.

        Returns:
            When measuring began, and from when on nothing was begun any more, on the clock.

        Raises:
            UnreachableError: fewer connections than asked for could be opened.
            ServerGoneError: the server took no connection for the plan's `gone_s`.
        """
        plan, self._over = self._plan, asyncio.get_running_loop().create_future()
        sweeper: asyncio.Task[None] | None = None
        try:
            await self._pool.open_first(
                plan.connections if self._arrivals is None else min(plan.first, plan.connections)
            )
            self._start()
            sweeper = asyncio.create_task(self._sweep(self._over, on_progress))
            await self._over
        finally:
            if sweeper is not None:
                sweeper.cancel()
            self._pool.close()
            await asyncio.sleep(0)  # for the transports to close
        return self._measured_from_s, self._end_s

    def on_open(self, connection: Connection) -> None:
        """Take a new connection into use."""
        self._pool.live.add(connection)
        self._release(connection)

    def on_answer(self, connection: Connection, answer: Answer) -> None:
        """Write down an answer and go on: the next part of the stream, or the next sequence."""
        now = self._alive_s = self._clock()
        job, place = connection.job, connection.place + 1
        if job is None:  # an answer to nothing
            connection.abort()
            return
        self._write(connection, now, answer.status)
        if answer.status == OK and place < len(job.parts) and answer.keeps_alive:
            self._send(connection, job, place, now, answer.body)
            return
        connection.job = None
        self._under_way -= 1
        if answer.keeps_alive:
            self._release(connection)
        else:
            connection.abort()

    def on_garbled(self, connection: Connection) -> None:
        """Give up a connection that speaks something else."""
        self._fail(connection, GARBLED)

    def on_closed(self, connection: Connection) -> None:
        """Write down what was under way as lost; a connection that is needed is replaced."""
        self._pool.forget(connection)
        self._fail(connection, LOST)
        if self._arrivals is None or self._due:
            self._pool.open_one()
        self._check_over()

    def _start(self) -> None:
        self._begin_s = self._alive_s = self._clock()
        self._measured_from_s = self._begin_s + self._plan.warm_up_s
        self._end_s = self._measured_from_s + self._plan.seconds
        if self._arrivals is not None:
            self._wait_for(next(self._arrivals), self._arrivals)
            return
        for connection in self._pool.take_all_idle():
            self._release(connection)

    def _wait_for(self, moment: float, arrivals: Iterator[float]) -> None:
        """Wait for the next arrival, which may already be past."""
        if self._is_over(self._begin_s + moment):
            self._none_to_come = True
            self._check_over()
            return
        delay = max(0.0, self._begin_s + moment - self._clock())
        asyncio.get_running_loop().call_later(delay, self._arrive, moment, arrivals)

    def _arrive(self, moment: float, arrivals: Iterator[float]) -> None:
        """Begin every sequence that is due by now."""
        now = self._clock()
        while self._begin_s + moment <= now and not self._is_over(self._begin_s + moment):
            self._begin_due(self._begin_s + moment)
            moment = next(arrivals)
        self._wait_for(moment, arrivals)

    def _begin_due(self, due_s: float) -> None:
        self._counted += due_s >= self._measured_from_s
        connection = self._pool.take_idle()
        if connection is not None:
            self._begin(connection, due_s)
            return
        self._due.append(due_s)
        self.held_back += not self._pool.open_one()

    def _release(self, connection: Connection) -> None:
        """Give a free connection something to do, or keep it."""
        now = self._clock()
        if self._due:
            self._begin(connection, self._due.popleft())
        elif self._arrivals is None and self._begin_s <= now and not self._is_over(now):
            self._counted += now >= self._measured_from_s
            self._begin(connection, now)
        else:
            self._pool.keep(connection)
            self._check_over()

    def _begin(self, connection: Connection, due_s: float) -> None:
        self._under_way += 1
        connection.stream = next(self._streams)
        self._send(connection, next(self._jobs), 0, due_s, b"")

    def _send(self, connection: Connection, job: Job, place: int, due_s: float, answer: bytes) -> None:
        part = job.parts[place]
        connection.job, connection.part, connection.place = job, part, place
        connection.scheduled_s, connection.sent_s = due_s, self._clock()
        try:
            payload = part.request(connection.stream, answer)
        except (ValueError, KeyError, TypeError):  # the answer held no state to go on with
            self._fail(connection, GARBLED)
            return
        connection.send(payload)

    def _write(self, connection: Connection, now: float, status: int) -> None:
        job, part = connection.job, connection.part
        if job is not None and part is not None:
            self.recorder.add(connection.scheduled_s, connection.sent_s, now, job.length, part.steps, status)

    def _fail(self, connection: Connection, status: int) -> None:
        """Write down what was under way, if anything was, as failed, and close."""
        if connection.job is not None:
            self._write(connection, self._clock(), status)
            connection.job = None
            self._under_way -= 1
        connection.abort()

    def _is_over(self, now: float) -> bool:
        """Whether nothing is begun any more at this moment."""
        if now < self._end_s and self._counted < self._plan.count:
            return False
        self._end_s = min(self._end_s, now)
        return True

    def _check_over(self) -> None:
        if self._over is None or self._over.done() or self._under_way or self._due or self._begin_s == math.inf:
            return
        if self._none_to_come if self._arrivals is not None else self._is_over(self._clock()):
            self._over.set_result(None)

    async def _sweep(self, over: asyncio.Future[None], on_progress: Callable[[float], None]) -> None:
        """Give up what takes too long, and everything where the server went away."""
        while not over.done():
            await asyncio.sleep(_SWEEP_S)
            now = self._clock()
            on_progress(now - self._begin_s)
            for connection in tuple(self._pool.live):
                if connection.job is not None and now - connection.sent_s > self._plan.timeout_s:
                    self._fail(connection, TIMEOUT)
            while self._due and now - self._due[0] > self._plan.timeout_s:
                self.recorder.add(self._due.popleft(), now, now, 0, 0, TIMEOUT)
            self._alive_s = now if self._pool.live else self._alive_s
            self._check_over()
            if now - self._alive_s > self._plan.gone_s and not over.done():
                over.set_exception(ServerGoneError(self._url, self.recorder.answers, now - self._alive_s))
