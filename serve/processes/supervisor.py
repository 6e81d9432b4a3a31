"""The process that watches over the engine and the frontends: starts them, starts again what dies, stops in order.

    start    the engine; when it is ready, all frontends; when they listen, the server is up
    death    before the server is up: the start has failed, with the child's own sentence;
             later: the child is started again at once, or, where it was not ready yet, after a pause that grows
    opening  an engine that dies of one bundle again and again is not started for ever (`opening`)
    hang     an engine whose loop stands still is killed, and so started again
    stop     in order (`shutdown`)

Rules of this file: no work of its own, so that nothing can take it down: no arrays, no HTTP. One thread and one wait;
signals and other threads only wish (`wishes`).
"""

import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from selectors import EVENT_READ, DefaultSelector
from typing import TYPE_CHECKING, Any, Final

from ..observe.counter_layout import ENGINE_RESTARTS, FRONTEND_RESTARTS, TURN
from ..settings import Settings
from ..start_errors import ServerStartError
from .child_process import ChildProcess
from .counter_files import CounterFiles
from .engine_socket import engine_listener
from .error_words import ended_early, how_it_ended, start_error_from_report
from .hang_watch import HangWatch
from .opening import Opening, Stage, without_retired
from .shutdown import Shutdown
from .slot import Slot
from .slots import ControlListeners, Slots
from .wishes import Wishes

if TYPE_CHECKING:
    from ..models.served_model import BundlePlace  # its file needs arrays

logger = logging.getLogger("cellgate.supervisor")

_STOP: Final = b"."
_STOP_NOW: Final = b"!"
_READ_KEYS: Final = b"k"

OnUp = Callable[[Mapping[str, Any]], None]


class Supervisor:
    """Engine and frontends of one server.

    Args:
        places: bundles to serve.
        settings: of the server.
        listener: bound and listening; closed when the server stops, so that nobody waits in its queue for ever.
        rpc_address: numeric host and port of gRPC, held by the caller; None: no gRPC.
        control: for loading and unloading; None: neither can be done.

    Raises:
        ServerStartError: there is no folder for the engine's socket.
    """

    def __init__(
        self,
        places: Sequence["BundlePlace"],
        settings: Settings,
        listener: socket.socket,
        rpc_address: tuple[str, int] | None = None,
        control: ControlListeners | None = None,
    ) -> None:
        self._opened = ExitStack()
        engine = self._opened.enter_context(engine_listener())
        self._slots = Slots(places, settings, listener, rpc_address, control, engine)
        self._engine, self._frontends = self._slots.engine, self._slots.frontends
        listeners = [listener] if control is None else [listener, control.listener]
        self._shutdown = Shutdown(self._slots, listeners, settings.shutdown_grace_s)
        self._counters = CounterFiles(self._slots.names)
        self._opened.callback(self._counters.close)
        self._watch = HangWatch(settings.engine_hang_s, time.monotonic())
        self._hello: Mapping[str, Any] | None = None  # what is served, which the next engine serves too
        self._first_names: Sequence[str] | None = None
        self._on_up: OnUp | None = None
        self._opening = Opening()
        self._failure: Exception | None = None  # that ends the server, after an orderly stop
        self._wishes = self._opened.enter_context(closing(Wishes()))
        self._selector = self._opened.enter_context(DefaultSelector())
        self._selector.register(self._wishes, EVENT_READ, self._heed_wishes)

    @property
    def engine_path(self) -> str:
        """Path of the socket where the engine is reached, whichever process it is."""
        return self._slots.engine_path

    @property
    def engine_pid(self) -> int | None:
        """Number of the engine's process, where there is one."""
        return None if self._engine.child is None else self._engine.child.pid

    @property
    def frontend_pids(self) -> tuple[int, ...]:
        """Numbers of the frontends' processes."""
        return tuple(slot.child.pid for slot in self._frontends if slot.child is not None)

    def stop(self, *, now: bool = False) -> None:
        """Stop in order, or at once. May be called by a signal's handler and from any thread, any number of times."""
        self._wishes.make(_STOP_NOW if now else _STOP)

    def read_keys(self) -> None:
        """Have the frontends read the files of keys and of TLS again. May be called as `stop` may."""
        self._wishes.make(_READ_KEYS)

    def run(self, on_up: OnUp) -> None:
        """Serve until `stop`; return when every child has ended. To be called once.

        Args:
            on_up: called once with the engine's hello, when all frontends listen.

        Raises:
            BundleError, ServerStartError: the server cannot start, or not go on.
        """
        self._on_up = on_up
        try:
            self._fill(self._engine)
            while not (self._shutdown.is_begun and not self._slots.living()):
                for key, _ in self._selector.select(self._wait_s()):
                    key.data()
                self._act(time.monotonic())
        finally:
            self._close()
        if self._failure is not None:
            raise self._failure

    def _wait_s(self) -> float | None:
        """Return how long nothing is due, or None: until something happens."""
        due = [slot.start_at_s for slot in (*self._frontends, self._engine) if not self._shutdown.is_begun]
        moments = [moment for moment in (*due, self._shutdown.kill_at_s, self._watch.look_at_s) if moment is not None]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _act(self, now: float) -> None:
        """Do what is due at this moment."""
        self._look_at_engine(now)
        if self._shutdown.is_begun:
            self._shutdown.act(now)
            return
        for slot in (self._engine, *self._frontends):
            if slot.start_at_s is not None and slot.start_at_s <= now:
                self._fill(slot)

    def _look_at_engine(self, now: float) -> None:
        slot, watch = self._engine, self._watch
        if watch.is_due(now) and watch.look(self._counters.read(slot.name, TURN) if slot.is_ready else None, now):
            slot.condemn(ServerStartError(watch.complaint))

    def _fill(self, slot: Slot) -> None:
        config = self._slots.config(slot, self._counters.config(slot.name, self._first_names), self._hello)
        try:
            child = ChildProcess(slot.module, config, (*slot.files, *self._counters.files))
        except OSError as err:
            slot.failure = ServerStartError(f"{slot.name}: expected to start its process, found: {err}")
            self._bury(slot, None)
            return
        slot.fill(child)
        if slot is self._engine:
            self._opening.begin()
        self._selector.register(child.reports, EVENT_READ, partial(self._hear, slot, child))

    def _hear(self, slot: Slot, child: ChildProcess) -> None:
        reports = child.read_reports()
        if reports is None:
            self._selector.unregister(child.reports)
            self._bury(slot, child.reap())
            return
        for report in reports:
            if "error" in report:
                slot.failure = start_error_from_report(report)
            elif "opening" in report:
                self._opening.hear(Stage(*report["opening"]))
            elif "models" in report:
                self._hello = report["models"]
            elif slot is self._engine:
                self._greet_engine(report["ready"])
            else:
                slot.is_ready = True
                slot.have_keys_read()
                self._tell_up()

    def _greet_engine(self, hello: Mapping[str, Any]) -> None:
        is_first, self._hello = self._hello is None, hello
        self._engine.is_ready, self._opening = True, Opening()
        if is_first:
            self._first_names = hello["names"]
            for slot in self._frontends:
                self._fill(slot)
        else:
            logger.warning("engine: ready again")

    def _tell_up(self) -> None:
        if self._on_up is not None and self._hello is not None and all(slot.is_ready for slot in self._frontends):
            on_up, self._on_up = self._on_up, None
            logger.info("up: models %s", ", ".join(model["name"] for model in self._hello["models"]))
            on_up(self._hello)

    def _bury(self, slot: Slot, status: int | None) -> None:
        """A child has ended, or could not be started."""
        if slot is self._engine and not slot.is_ready and slot.failure is None:
            slot.failure = self._opening.died(status)
        if self._on_up is not None and not self._shutdown.is_begun:
            raise slot.failure or ended_early(slot.name, status)
        if not self._shutdown.is_begun:
            slot.complain(str(slot.failure or f"its process ended with {how_it_ended(status)}; it is started again"))
            self._counters.add(ENGINE_RESTARTS if slot is self._engine else FRONTEND_RESTARTS)
        slot.leave(time.monotonic())
        if slot is self._engine and not self._shutdown.is_begun:
            self._do_without()

    def _do_without(self) -> None:
        """Leave out a bundle of which one engine after the other has died; where that cannot be, it is the end."""
        hopeless = self._opening.hopeless
        if hopeless is None or self._hello is None:
            return
        hello = without_retired(self._hello, hopeless)
        if hello is None:
            self._failure = self._engine.failure
            self._shutdown.begin(time.monotonic())
        else:
            self._hello, self._opening = hello, Opening()
            logger.warning("engine: it starts without that bundle, which was replaced; its streams are told")

    def _heed_wishes(self) -> None:
        wishes = self._wishes.take()
        if _READ_KEYS in wishes:
            for slot in self._frontends:
                slot.owes_keys = True
                slot.have_keys_read()
        if wishes.strip(_READ_KEYS) and not self._shutdown.is_begun:
            self._shutdown.begin(time.monotonic())
        if _STOP_NOW in wishes:
            self._shutdown.kill_all()

    def _close(self) -> None:
        """Leave no process and no file behind, however it came to this."""
        for slot, child in self._slots.living():
            child.kill()
            child.reap()
            slot.child = None
        self._shutdown.close_listeners()
        self._opened.close()
