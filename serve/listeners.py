"""The addresses of a server: taken before anything else is done, so that a busy port is told at once.

Rules of this file: connections wait from the moment an address is taken, and nobody accepts them yet.
"""

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Final

from .processes.slots import ControlListeners
from .rpc.port import hold_port, missing_package
from .settings import Settings
from .start_errors import PortBusyError

_BACKLOG: Final = 4096
_LOOPBACK: Final = "127.0.0.1"
_ANY_ADDRESS: Final = ("0.0.0.0", "::")  # noqa: S104 - only compared with


@dataclass(frozen=True, kw_only=True, slots=True)
class Listeners:
    """What a server holds.

    Attributes:
        http: listens.
        rpc: holds the port of gRPC; None: there is none.
        control: listens for orders to load and unload; None: there are none.
        control_rpc: holds the port of gRPC for these.
    """

    http: socket.socket
    rpc: socket.socket | None = None
    control: socket.socket | None = None
    control_rpc: socket.socket | None = None

    @property
    def rpc_address(self) -> tuple[str, int] | None:
        """Numeric host and port of gRPC."""
        return _address_of(self.rpc)

    @property
    def orders(self) -> ControlListeners | None:
        """Where orders are taken."""
        return None if self.control is None else ControlListeners(self.control, _address_of(self.control_rpc))


@contextmanager
def open_listeners(settings: Settings) -> Iterator[Listeners]:
    """Take all addresses of a server inside.

    Raises:
        PortBusyError: one cannot be listened on; says which.
    """
    with ExitStack() as opened:

        def hold(made: socket.socket) -> socket.socket:
            return opened.enter_context(closing(made))

        has_rpc = settings.grpc and missing_package() is None
        http = hold(bind_listener(settings.host, settings.port))
        rpc = control = control_rpc = None
        if has_rpc:
            rpc = hold(hold_port(bind_listener(settings.host, settings.rpc_port, "--grpc-port")))
        if settings.control:
            control = hold(bind_listener(_LOOPBACK, settings.control_port, "--control-port"))
        if settings.control and has_rpc:
            control_rpc = hold(hold_port(bind_listener(_LOOPBACK, settings.control_rpc_port, "--control-port")))
        yield Listeners(http=http, rpc=rpc, control=control, control_rpc=control_rpc)


def bind_listener(host: str, port: int, option: str = "--port") -> socket.socket:
    """Take the address: connections wait from now on, and nobody accepts them yet.

    Args:
        host: address or name.
        port: 0 takes a free one.
        option: gives another port, for the message.

    Raises:
        PortBusyError: in use, not allowed, or no address of this machine; says which.
    """
    listener: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Another server may have bound the address too and listen already; only listening finds out.
        listener.listen(_BACKLOG)
    except OSError as err:
        if listener is not None:
            listener.close()
        is_elsewhere = isinstance(err, socket.gaierror) or err.errno == errno.EADDRNOTAVAIL
        wrong = "--host" if is_elsewhere else option
        raise PortBusyError(host, port, (err.strerror or str(err)).lower(), wrong) from err
    return listener


def scheme_of(settings: Settings) -> str:
    """Return how the addresses of HTTP begin."""
    return "http" if settings.tls_cert is None else "https"


def base_url(listener: socket.socket, scheme: str = "http") -> str:
    """Return the address as a URL that works on this machine."""
    return f"{scheme}://{target(listener)}"


def target(listener: socket.socket) -> str:
    """Return host and port that work on this machine."""
    host, port = listener.getsockname()[:2]
    if host in _ANY_ADDRESS:
        host = "127.0.0.1" if listener.family == socket.AF_INET else "::1"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _address_of(holder: socket.socket | None) -> tuple[str, int] | None:
    if holder is None:
        return None
    host, port = holder.getsockname()[:2]
    return host, port
