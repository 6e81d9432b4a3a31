"""How the engine's thread asks a store: it posts what it wants, and takes what was done later.

    InlinePort     does it at once, on the engine's own thread: for the memory store
    StoreThread    does it on a thread; everything that piled up meanwhile goes out as one commit

Rules of this file: the engine's thread alone posts, flushes and takes; the store belongs to whoever runs it. Nothing
that a store does raises here: it comes back as the error of what was asked.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import ServeError
from ..stream_errors import StoreUnavailable
from .record import StreamKey, StreamRecord, damaged_record
from .store import DamagedRecordError, StoreError, StreamStore, Write

logger = logging.getLogger("cellgate.streams")

READING, WRITING, SWEEPING = "reading", "writing", "sweeping"


@dataclass(frozen=True, slots=True)
class Load:
    """Asks for the record of a stream."""

    key: StreamKey


@dataclass(frozen=True, slots=True)
class Sweep:
    """Asks to forget what is old."""

    now_s: float


Order = Load | Write | Sweep


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """What became of an order.

    Attributes:
        order: it.
        record: of a load; None where there is none; `DAMAGED` where it is none.
        won: of a write.
        expired: of a sweep, by model.
        error: what to answer where it failed, else None.
    """

    order: Order
    record: StreamRecord | None = None
    won: bool = False
    expired: dict[str, int] | None = None
    error: ServeError | None = None


class StorePort(Protocol):
    """What the engine's thread sees of a store."""

    def post(self, order: Order) -> None: ...  # noqa: D102 - the rules say it
    def flush(self) -> None: ...  # noqa: D102
    def take(self) -> list[Done]: ...  # noqa: D102
    @property
    def has_done(self) -> bool: ...  # noqa: D102
    def close(self) -> list[Done]: ...  # noqa: D102


class Complaints:
    """Logs that a store fails, and that it does not any more, once each, for reading, writing and sweeping.

    Not for all of them together: a store that is full can be read, and would fail and work in turn for every request.
    """

    def __init__(self) -> None:
        self._failing: set[str] = set()

    def failed(self, what: str, err: StoreError) -> StoreUnavailable:
        """Return what to answer."""
        if what not in self._failing:
            logger.warning("store of streams: %s failed: %s", what, err)
        self._failing.add(what)
        return StoreUnavailable("that it failed")

    def worked(self, what: str) -> None:
        """Something was done."""
        if what in self._failing:
            logger.warning("store of streams: %s works again", what)
        self._failing.discard(what)


def carry_out(store: StreamStore, orders: Sequence[Order], complaints: Complaints) -> list[Done]:
    """Do what was asked: one commit for all writes, then the rest one by one."""
    writes = [order for order in orders if isinstance(order, Write)]
    done: list[Done] = []
    if writes:
        try:
            won = store.commit(writes)
        except StoreError as err:
            # One error for each: an exception that is raised twice collects tracebacks.
            done += [Done(order=write, error=complaints.failed(WRITING, err)) for write in writes]
        else:
            complaints.worked(WRITING)
            done += [Done(order=write, won=one) for write, one in zip(writes, won, strict=True)]
    for order in orders:
        if isinstance(order, Load):
            done.append(_load(store, order, complaints))
        elif isinstance(order, Sweep):
            done.append(_sweep(store, order, complaints))
    return done


def _load(store: StreamStore, order: Load, complaints: Complaints) -> Done:
    try:
        record = store.load(order.key)
    except StoreError as err:
        return Done(order=order, error=complaints.failed(READING, err))
    except DamagedRecordError as err:
        logger.warning("store of streams: a stream of model %s is damaged: %s", order.key.model, err)
        record = damaged_record(err.revision)
    complaints.worked(READING)
    return Done(order=order, record=record)


def _sweep(store: StreamStore, order: Sweep, complaints: Complaints) -> Done:
    try:
        expired = store.sweep(order.now_s)
    except StoreError as err:
        return Done(order=order, error=complaints.failed(SWEEPING, err))
    complaints.worked(SWEEPING)
    return Done(order=order, expired=expired)


class InlinePort:
    """Does everything at `flush`.

    Args:
        store: quick enough for the engine's own thread.
    """

    def __init__(self, store: StreamStore) -> None:
        self._store = store
        self._orders: list[Order] = []
        self._done: list[Done] = []
        self._complaints = Complaints()

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
            self._done += carry_out(self._store, orders, self._complaints)

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
        self._complaints = Complaints()
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
                done = self._carry_out(orders)
                self._done.extend(done)
                self._wake()
        finally:
            self._store.close()

    def _next_orders(self) -> list[Order]:
        """Wait for something to do; empty at the end."""
        with self._changed:
            while not (self._orders or self._is_closing):
                self._changed.wait()
            orders, self._orders = self._orders, []
        return orders

    def _carry_out(self, orders: list[Order]) -> list[Done]:
        try:
            return carry_out(self._store, orders, self._complaints)
        except Exception:  # a fault that nobody foresaw must leave nobody waiting
            logger.exception("the store of streams failed")
            return [Done(order=order, error=StoreUnavailable("a fault in it")) for order in orders]
