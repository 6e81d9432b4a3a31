"""How the engine's thread asks a store: it posts what it wants, and takes what was done later.

    InlinePort     does it at once, on the engine's own thread: for the memory store
    StoreThread    does it on a thread; everything that piled up meanwhile goes out as one commit

Rules of this file: the engine's thread alone posts, flushes and takes; the store belongs to whoever runs it. Nothing
that a store does raises here (`store_orders`).
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from ..stream_errors import StoreUnavailable
from .store import StreamStore
from .store_orders import Done, Order, StoreVisits

logger = logging.getLogger("cellgate.streams")


class StorePort(Protocol):
    """What the engine's thread sees of a store."""

    def post(self, order: Order) -> None: ...  # noqa: D102 - the rules say it
    def flush(self) -> None: ...  # noqa: D102
    def take(self) -> list[Done]: ...  # noqa: D102
    @property
    def has_done(self) -> bool: ...  # noqa: D102
    def close(self) -> list[Done]: ...  # noqa: D102


class InlinePort:
    """Does everything at `flush`.

    Args:
        store: quick enough for the engine's own thread.
    """

    def __init__(self, store: StreamStore) -> None:
        self._store = store
        self._orders: list[Order] = []
        self._done: list[Done] = []
        self._visits = StoreVisits(store)

    @property
    def has_done(self) -> bool:
        """Whether `take` has something."""
        return bool(self._done)

    def post(self, order: Order) -> None:
        """Ask for something."""
        self._orders.append(order)

    def flush(self) -> None:
        """Do what was asked."""
        if self._orders:
            orders, self._orders = self._orders, []
            self._done += self._visits.carry_out(orders, lambda: False)

    def take(self) -> list[Done]:
        """Return what was done."""
        done, self._done = self._done, []
        return done

    def close(self) -> list[Done]:
        """Do the last of it and close the store."""
        self.flush()
        self._store.close()
        return self.take()


class StoreThread:
    """Does everything on a thread of its own, which it starts.

    Args:
        store: used by that thread alone from now on.
        wake: called on that thread when something was done.
    """

    def __init__(self, store: StreamStore, wake: Callable[[], None]) -> None:
        self._store = store
        self._wake = wake
        self._visits = StoreVisits(store)
        self._buffer: list[Order] = []
        self._changed = threading.Condition()
        self._orders: list[Order] = []
        self._done: deque[Done] = deque()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="cellgate-streams", daemon=True)
        self._thread.start()

    @property
    def has_done(self) -> bool:
        """Whether `take` has something."""
        return bool(self._done)

    def post(self, order: Order) -> None:
        """Ask for something; it is begun at the next flush, so that all of a run is one commit."""
        self._buffer.append(order)

    def flush(self) -> None:
        """Hand over what was asked."""
        if self._buffer:
            with self._changed:
                self._orders += self._buffer
                self._changed.notify()
            self._buffer = []

    def take(self) -> list[Done]:
        """Return what was done."""
        done = []
        while self._done:
            done.append(self._done.popleft())
        return done

    def close(self, patience_s: float = 5.0) -> list[Done]:
        """Do the last of it, end the thread and close the store; return what was done, as far as it was in time."""
        self.flush()
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(patience_s)
        return self.take()

    def _run(self) -> None:
        try:
            while orders := self._next_orders():
                self._done.extend(self._carry_out(orders))
                self._wake()
        finally:
            self._store.close()

    def _next_orders(self, *, may_wait: bool = True) -> list[Order]:
        """Return what there is to do, and wait for it if told; empty at the end."""
        with self._changed:
            while may_wait and not (self._orders or self._is_closing):
                self._changed.wait()
            orders, self._orders = self._orders, []
        return orders

    def _carry_out(self, orders: list[Order]) -> list[Done]:
        try:
            done = self._visits.carry_out(orders, lambda: self._is_closing)
            return done + self._visits.give_up(self._next_orders(may_wait=False)) if self._visits.is_down else done
        except Exception:  # a fault that nobody foresaw must leave nobody waiting
            logger.exception("the store of streams failed")
            return [Done(order=order, error=StoreUnavailable("a fault in it")) for order in orders]
