"""The loop of the engine's process: one thread reads frames, advances the engine by one run, and writes frames.

    every turn:  wait (not at all while the engine has something to run) -> read what came -> one run -> send what ended

Each turn is noted on this process's page, where the supervisor sees whether there are any (`hang_watch`).

Rules of this file: nothing here blocks but the wait at the top of a turn. Memory is bounded: what waits, by the engine;
what is not sent, by not reading from a frontend that does not read its answers.
"""

import logging
import math
import os
import socket
import time
from collections.abc import Callable, Sequence
from selectors import EVENT_READ, EVENT_WRITE, SelectSelector
from typing import Any, Final

from ..engine.port import DrivenEngine, Order, no_streams
from ..engine.work import Outcome
from ..observe.counter_layout import TURN, CounterLayout
from ..observe.counter_page import CounterPage
from .desk import Desk
from .engine_connection import EngineConnection, Ticket
from .frames import FrameError
from .wishes import Wishes

logger = logging.getLogger("cellgate.engine")

_SOCKET_BYTES: Final = 2**20  # asked of the kernel for each direction; it may grant less
_MAX_UNSENT_BYTES: Final = 2**24
_FEW: Final = 8  # requests inside
_STOP: Final = b"!"
_LOOK: Final = b"m"
_WAKE: Final = b"."


class EngineLoop:
    """Serves frontends from one engine.

    Args:
        engine: driven by this loop alone; closed when the loop ends.
        desk: of the models that it serves.
        listener: where frontends connect; not closed here, for its owner hands it to the next process.
        max_frame_bytes: a longer frame is refused.
        grace_s: for accepted work to end after `stop`.
        max_unsent_bytes: above, a frontend is not read from until it has taken its answers.
        order: of the engine, where it has streams.
        clock: monotonic, in seconds.
        is_traced: tell before each answer when the work was in the engine.
        page: where each turn is noted; None: nobody looks.
        beat_s: longest wait at the top of a turn; None: until something comes.
    """

    def __init__(
        self,
        engine: DrivenEngine,
        desk: Desk,
        listener: socket.socket,
        *,
        max_frame_bytes: int,
        grace_s: float,
        max_unsent_bytes: int = _MAX_UNSENT_BYTES,
        order: Order = no_streams,
        clock: Callable[[], float] = time.monotonic,
        is_traced: bool = False,
        page: CounterPage | None = None,
        beat_s: float | None = None,
    ) -> None:
        self._engine = engine
        self._desk = desk
        self._listener = listener
        self._max_frame_bytes = max_frame_bytes
        self._grace_s = grace_s
        self._max_unsent_bytes = max_unsent_bytes
        self._order = order
        self._clock = clock
        self._is_traced = is_traced
        self._page = CounterPage(CounterLayout()) if page is None else page
        self._turn_place = self._page.layout.place(TURN)
        self._beat_s = beat_s
        # Not epoll: it waits whole milliseconds, and the engine asks for less. The files are few, their numbers small.
        self._selector = SelectSelector()
        self._connections: set[EngineConnection] = set()
        self._stop_at_s: float | None = None
        self._is_over = False
        self._wishes = Wishes()

    def run(self, lifeline: int | None = None) -> None:
        """Serve until `stop`, and until all accepted work has ended; at once where the lifeline ends.

        Args:
            lifeline: a file whose end means that nobody watches over this process any more.
        """
        self._listener.setblocking(False)
        self._selector.register(self._listener, EVENT_READ, self._accept)
        self._selector.register(self._wishes, EVENT_READ, self._heed_wishes)
        if lifeline is not None:
            self._selector.register(lifeline, EVENT_READ, lambda _events: self._read_lifeline(lifeline))
        try:
            while not self._is_over:
                self._turn()
        finally:
            self._close()

    def stop(self) -> None:
        """Take no more work and end when the accepted one has. May be called by a signal's handler or any thread."""
        self._wishes.make(_STOP)

    def wake(self) -> None:
        """Look at once whether the engine has something to do. May be called by any thread."""
        self._wishes.make(_WAKE)

    def look(self) -> None:
        """Look at once whether a model is to come or go. May be called by any thread."""
        self._wishes.make(_LOOK)

    def statistics(self) -> dict[str, Any]:
        """Return what the engine counts, and what its frontends have in it, as plain JSON values."""
        frontends = {
            "connected": len(self._connections),
            "inside": sum(connection.live for connection in self._connections),
            "unsent_bytes": sum(connection.unsent_bytes for connection in self._connections),
        }
        return {**self._engine.statistics(), "frontends": frontends}

    def _turn(self) -> None:
        ready = self._selector.select(self._wait_s())
        self._page.cells[self._turn_place] = self._clock()
        for key, events in ready:
            key.data(events)
        look_s = self._desk.next_look_s
        if look_s is not None and (look_s == 0.0 or look_s <= self._clock()):
            self._look_at_models()
        self._deliver(self._engine.run_once())
        self._flush()
        if sum(connection.live for connection in self._connections) <= _FEW:
            os.sched_yield()  # a frontend on this CPU may have more, and company makes the next run cheaper
        if self._stop_at_s is not None:
            done = not any(connection.live or connection.unsent_bytes for connection in self._connections)
            self._is_over |= done or self._clock() >= self._stop_at_s

    def _look_at_models(self) -> None:
        """Let models come and go, and tell all frontends."""
        taken = min((connection.taken for connection in self._connections), default=math.inf)
        if self._desk.look(taken):
            hello = self._desk.hello()
            for connection in self._connections:
                connection.send(hello)

    def _wait_s(self) -> float | None:
        wait_s = self._engine.wait_s()
        if wait_s == 0.0:
            return wait_s
        moments = (self._stop_at_s, self._desk.next_look_s)
        waits = [max(0.0, moment - self._clock()) for moment in moments if moment is not None]
        return min([*waits, *(one for one in (wait_s, self._beat_s) if one is not None)], default=None)

    def _deliver(self, results: Sequence[tuple[object, Outcome]]) -> None:
        for ticket, outcome in results:
            assert isinstance(ticket, Ticket)
            ticket.connection.answer(ticket, outcome)

    def _flush(self) -> None:
        for connection in tuple(self._connections):
            try:
                connection.flush()
            except OSError:
                self._drop(connection)
            else:
                self._watch(connection)

    def _watch(self, connection: EngineConnection) -> None:
        """Wait for what the connection can do now."""
        events = EVENT_WRITE if connection.unsent_bytes else 0
        if connection.unsent_bytes <= self._max_unsent_bytes:
            events |= EVENT_READ
        key = self._selector.get_key(connection.socket)
        if key.events != events:
            self._selector.modify(connection.socket, events, key.data)

    def _accept(self, _events: int) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:  # whoever was there is gone again
            return
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BYTES)
        connection = EngineConnection(
            sock,
            self._engine,
            self._desk,
            self._max_frame_bytes,
            self.statistics,
            is_traced=self._is_traced,
            order=self._order,
        )
        connection.is_draining = self._stop_at_s is not None
        connection.send(self._desk.hello())
        self._connections.add(connection)
        self._selector.register(sock, EVENT_READ, lambda events: self._read(connection, events))

    def _read(self, connection: EngineConnection, events: int) -> None:
        if not events & EVENT_READ:  # it takes answers again; the flush of this turn sends them
            return
        try:
            connection.read()
        except FrameError as err:
            logger.warning("a frontend broke the protocol and is cut off: %s", err)
            self._drop(connection)
        except OSError:
            self._drop(connection)

    def _drop(self, connection: EngineConnection) -> None:
        self._connections.discard(connection)
        if self._desk.next_look_s is not None:  # something may have waited for this one
            self._desk.next_look_s = 0.0
        self._selector.unregister(connection.socket)
        connection.close()

    def _read_lifeline(self, lifeline: int) -> None:
        self._is_over = not os.read(lifeline, 4096)

    def _heed_wishes(self, _events: int) -> None:
        wishes = self._wishes.take()
        if _LOOK in wishes:
            self._desk.next_look_s = 0.0
        if _STOP in wishes:
            self._begin_to_stop()

    def _begin_to_stop(self) -> None:
        if self._stop_at_s is None:
            self._stop_at_s = self._clock() + self._grace_s
        for connection in self._connections:
            connection.is_draining = True

    def _close(self) -> None:
        """Tell everybody who still waits, as far as they listen, and give everything back."""
        self._deliver(self._engine.close())
        self._flush()
        self._desk.close()
        self._flush()
        for connection in tuple(self._connections):
            self._drop(connection)
        self._selector.close()
        self._wishes.close()
