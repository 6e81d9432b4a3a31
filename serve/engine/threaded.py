"""The engine in this process: a thread of its own behind the port, for embedding and tests. `serve` uses a child.

Rules of this file: the thread alone touches the engine; the event loop and the thread exchange lists under one lock;
answers reach the loop in one call for each run.
"""

import asyncio
import itertools
import logging
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from ..errors import NotReady, ServeError
from .engine import Result
from .port import DrivenEngine, OnDone, Order, no_streams
from .work import StreamOrder, StreamReport, Work

_JOIN_S = 60.0  # a run cannot be interrupted; none is that long

logger = logging.getLogger("cellgate.serve")

Command = Callable[[], list[Result]]


class ThreadedEngine:
    """An `EnginePort` over an engine in this process.

    Args:
        engine: nobody else uses it from now on; closed by `close`.
        order: of the same engine, where it has streams.
    """

    def __init__(self, engine: DrivenEngine, order: Order = no_streams) -> None:
        self._engine = engine
        self._order = order
        self._changed = threading.Condition()
        self._commands: list[Command] = []
        self._pending: dict[Hashable, OnDone] = {}
        self._asked: set[asyncio.Future[Any]] = set()
        self._tickets = itertools.count(1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._is_closing = False
        self._is_woken = False

    @property
    def engine(self) -> DrivenEngine:
        """The engine; only its constant facts may be read from outside its thread."""
        return self._engine

    @property
    def is_ready(self) -> bool:
        """Whether it was started and not closed."""
        return self._thread is not None and not self._is_closing

    def has_room(self) -> bool:
        """True: the engine says itself that it is full, in its own thread."""
        return True

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the thread; answers go to this loop."""
        self._loop = loop
        self._thread = threading.Thread(target=self._run, name="cellgate-engine", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look at once whether the engine has something to do. May be called by any thread."""
        with self._changed:
            self._is_woken = True
            self._changed.notify()

    def close(self) -> None:
        """Refuse what waits, end the thread and close the engine. Closing twice is fine. Blocks for a run at most."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._thread is None:
            self._engine.close()
        else:
            self._thread.join(_JOIN_S)

    def submit(self, work: Work, on_done: OnDone) -> int:
        """Hand work over; see `EnginePort.submit`. A full queue is told through `on_done`, by the engine's thread."""
        if not self.is_ready:
            raise NotReady
        ticket = next(self._tickets)
        self._pending[ticket] = on_done
        self._post(lambda: self._accept(ticket, work))
        return ticket

    def cancel(self, ticket: int) -> None:
        """See `EnginePort.cancel`."""
        if self._pending.pop(ticket, None) is not None:
            self._post(lambda: self._cancel(ticket))

    async def order(self, order: StreamOrder) -> StreamReport:
        """See `EnginePort.order`."""
        if not self.is_ready:
            raise NotReady
        found: asyncio.Future[StreamReport] = asyncio.get_running_loop().create_future()
        self._asked.add(found)
        self._post(lambda: self._pass_on(order, found))
        try:
            return await found
        finally:
            self._asked.discard(found)

    async def statistics(self) -> Mapping[str, Any]:
        """See `EnginePort.statistics`."""
        if not self.is_ready:
            raise NotReady
        found: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked.add(found)
        self._post(lambda: self._tell_statistics(found))
        try:
            return await found
        finally:
            self._asked.discard(found)

    def _post(self, command: Command) -> None:
        with self._changed:
            self._commands.append(command)
            self._changed.notify()

    def _run(self) -> None:
        try:
            while not self._is_closing:
                results = [result for command in self._wait_for_commands() for result in command()]
                self._deliver([*results, *self._engine.run_once()])
        except Exception:
            logger.exception("the engine's thread failed; nothing more is taken")
        finally:
            self._is_closing = True
            self._end()
            self._call_soon(self._refuse_rest)

    def _end(self) -> None:
        with self._changed:
            self._commands = []  # `_refuse_rest` tells those who posted them
        try:
            self._deliver([*self._engine.close()])
        except Exception:
            logger.exception("the engine could not be closed in order")

    def _refuse_rest(self) -> None:
        """On the loop, when the thread has ended: whoever is left gets an error."""
        self._resolve([(ticket, NotReady()) for ticket in self._pending])
        for found in self._asked:
            if not found.done():
                found.set_exception(NotReady())

    def _wait_for_commands(self) -> list[Command]:
        """Return what was posted, at once where a run is due, and none where a held run has become due."""
        with self._changed:
            while not self._has_news() and (wait_s := self._engine.wait_s()) != 0.0:
                self._changed.wait(wait_s)
                if wait_s is not None:
                    break
            self._is_woken = False
            commands, self._commands = self._commands, []
        return commands

    def _has_news(self) -> bool:
        return bool(self._commands) or self._is_closing or self._is_woken

    def _accept(self, ticket: int, work: Work) -> list[Result]:
        try:
            self._engine.submit(ticket, work)
        except ServeError as err:
            return [(ticket, err)]
        return []

    def _cancel(self, ticket: int) -> list[Result]:
        self._engine.cancel(ticket)
        return []

    def _pass_on(self, order: StreamOrder, found: "asyncio.Future[StreamReport]") -> list[Result]:
        def settle(outcome: StreamReport | ServeError) -> None:
            if found.done():
                return
            if isinstance(outcome, ServeError):
                found.set_exception(outcome)
            else:
                found.set_result(outcome)

        def on_done(outcome: StreamReport | ServeError) -> None:
            self._call_soon(lambda: settle(outcome))

        try:
            self._order(order, on_done)
        except ServeError as err:
            on_done(err)
        return []

    def _tell_statistics(self, found: "asyncio.Future[Mapping[str, Any]]") -> list[Result]:
        statistics = self._engine.statistics()
        self._call_soon(lambda: None if found.done() else found.set_result(statistics))
        return []

    def _deliver(self, results: list[Result]) -> None:
        if results:
            self._call_soon(lambda: self._resolve(results))

    def _call_soon(self, callback: Callable[[], object]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # the loop is closed: nobody waits any more
            self._pending.clear()

    def _resolve(self, results: list[Result]) -> None:
        for ticket, outcome in results:
            on_done = self._pending.pop(ticket, None)
            if on_done is None:
                continue
            try:
                on_done(outcome)
            except Exception:
                logger.exception("a waiter failed at its answer; the others get theirs")
