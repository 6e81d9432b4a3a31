"""The places of a server: the engine's and the frontends', what each child runs, inherits, and is told at its start.

    engine              inherits the listener of its socket
    frontend 0, 1, ...  the listener of HTTP
    gRPC frontend       no listener: gRPC's server opens its own socket
    control frontend    the listener of orders to load and unload

Rules of this file: as those of `slot`. What a child is told is JSON, and `child_border` reads it.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..settings import Settings
from .child_process import ChildProcess
from .slot import Slot

if TYPE_CHECKING:
    from ..models.served_model import BundlePlace  # its file needs arrays

ENGINE: Final = "cellgate.serve.processes.engine_child"
FRONTEND: Final = "cellgate.serve.processes.frontend"
RPC_FRONTEND: Final = "cellgate.serve.processes.rpc_frontend"
CONTROL: Final = "cellgate.serve.processes.control_frontend"


class ControlListeners(NamedTuple):
    """Where orders to load and unload are taken.

    Attributes:
        listener: of HTTP, bound and listening; closed when the server stops.
        rpc_address: of gRPC, as `rpc_address` of the supervisor.
    """

    listener: socket.socket
    rpc_address: tuple[str, int] | None = None


class Slots:
    """The places of one server.

    Args:
        places: bundles to serve.
        settings: of the server.
        listener: of HTTP.
        rpc_address: of gRPC, or None.
        control: for orders, or None.
        engine: listener of the engine's socket, and its path.

    Attributes:
        engine: the engine's.
        frontends: all others, in the order in which they are started.
        engine_path: of the engine's socket.
    """

    def __init__(
        self,
        places: Sequence["BundlePlace"],
        settings: Settings,
        listener: socket.socket,
        rpc_address: tuple[str, int] | None,
        control: ControlListeners | None,
        engine: tuple[socket.socket, str],
    ) -> None:
        engine_listener, self.engine_path = engine
        self._told = {
            "places": [[os.fspath(place.path), place.name] for place in places],
            "settings": asdict(settings),
            "engine_path": self.engine_path,
            "rpc_address": rpc_address,
            "control_rpc_address": None if control is None else control.rpc_address,
        }
        self.engine = Slot("engine", ENGINE, (engine_listener.fileno(),))
        files = (listener.fileno(),)
        self.frontends = [Slot(f"frontend {number}", FRONTEND, files) for number in range(settings.workers)]
        if rpc_address is not None:
            self.frontends.append(Slot("gRPC frontend", RPC_FRONTEND, ()))
        if control is not None:
            self.frontends.append(Slot("control frontend", CONTROL, (control.listener.fileno(),)))

    @property
    def names(self) -> list[str]:
        """Of all places."""
        return [slot.name for slot in (self.engine, *self.frontends)]

    def living(self) -> list[tuple[Slot, ChildProcess]]:
        """Return the children that there are, each with its place, the engine last."""
        return [(slot, slot.child) for slot in (*self.frontends, self.engine) if slot.child is not None]

    def config(self, slot: Slot, counters: Any, hello: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return what a child is told.

        Args:
            slot: its place.
            counters: of `CounterFiles.config`.
            hello: what is served; None: nothing was yet.
        """
        return {
            **self._told,
            "listener": slot.files[0] if slot.files else None,
            "counters": counters,
            "hello": hello,
            "names": () if hello is None else hello["names"],
            "is_restart": hello is not None,
        }
