"""What the engine's thread may ask a store, what becomes of it, and how a store is asked for several things at once.

    writes           go out as one commit
    loads, sweeps    one by one behind them
    nobody there     (`StoreDownError`) fails all that is left and all that came meanwhile: each would wait as long
    closing          nobody waits for what is only read any more, and a store that was down is not asked again

Rules of this file: nothing that a store does raises here: it comes back as the error of what was asked. It knows no
thread.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import ServeError
from ..stream_errors import StoreUnavailable
from .record import StreamKey, StreamRecord, damaged_record
from .store import DamagedRecordError, StoreDownError, StoreError, StreamStore, Write

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
        record: of a load; None: there is none; one that has ended as `DAMAGED` where what lies there is no record.
        won: of a write.
        expired: of a sweep, by model.
        error: what to answer where it failed, else None.
    """

    order: Order
    record: StreamRecord | None = None
    won: bool = False
    expired: dict[str, int] | None = None
    error: ServeError | None = None


class StoreVisits:
    """Asks a store, and logs once that it fails, and once that it does not any more, for reading, writing and sweeping.

    Not for all of them together: a store that is full can be read, and would fail and work in turn for every request.

    Args:
        store: used by whoever calls `carry_out`.
    """

    def __init__(self, store: StreamStore) -> None:
        self._store = store
        self._failing: set[str] = set()
        self._down: StoreDownError | None = None  # found in these orders, or at the end of all in those before

    def carry_out(self, orders: Sequence[Order], is_closing: Callable[[], bool]) -> list[Done]:
        """Do what was asked.

        Args:
            orders: of different streams, as far as they are writes.
            is_closing: whether nothing more will be asked; looked at before each order that only reads.
        """
        if not is_closing():
            self._down = None  # what was asked before says nothing of now
        writes = [order for order in orders if isinstance(order, Write)]
        done = self._commit(writes) if writes else []
        for order in orders:
            if isinstance(order, Write):
                continue
            if is_closing():
                done.append(Done(order=order, error=StoreUnavailable("that the server stops")))
            elif isinstance(order, Load):
                done.append(self._load(order))
            else:
                done.append(self._sweep(order))
        return done

    @property
    def is_down(self) -> bool:
        """Whether nobody answered the orders that were carried out last."""
        return self._down is not None

    def give_up(self, orders: Sequence[Order]) -> list[Done]:
        """Fail what came while nobody answered, for it would wait as long again."""
        kinds = {Write: WRITING, Load: READING, Sweep: SWEEPING}
        assert self._down is not None
        return [Done(order=order, error=self._failed(kinds[type(order)], self._down)) for order in orders]

    def _commit(self, writes: Sequence[Write]) -> list[Done]:
        try:
            self._check_up()
            won = self._store.commit(writes)
        except StoreError as err:
            # One error for each: an exception that is raised twice collects tracebacks.
            return [Done(order=write, error=self._failed(WRITING, err)) for write in writes]
        self._worked(WRITING)
        return [Done(order=write, won=one) for write, one in zip(writes, won, strict=True)]

    def _load(self, order: Load) -> Done:
        try:
            self._check_up()
            record = self._store.load(order.key)
        except StoreError as err:
            return Done(order=order, error=self._failed(READING, err))
        except DamagedRecordError as err:
            logger.warning("store of streams: a stream of model %s is damaged: %s", order.key.model, err)
            record = damaged_record(err.revision)
        self._worked(READING)
        return Done(order=order, record=record)

    def _sweep(self, order: Sweep) -> Done:
        try:
            self._check_up()
            expired = self._store.sweep(order.now_s)
        except StoreError as err:
            return Done(order=order, error=self._failed(SWEEPING, err))
        self._worked(SWEEPING)
        return Done(order=order, expired=expired)

    def _check_up(self) -> None:
        if self._down is not None:
            raise StoreDownError(str(self._down))

    def _failed(self, what: str, err: StoreError) -> StoreUnavailable:
        """Return what to answer."""
        if isinstance(err, StoreDownError):
            self._down = err
        if what not in self._failing:
            logger.warning("store of streams: %s failed: %s", what, err)
        self._failing.add(what)
        return StoreUnavailable("that it failed")

    def _worked(self, what: str) -> None:
        if what in self._failing:
            logger.warning("store of streams: %s works again", what)
        self._failing.discard(what)
