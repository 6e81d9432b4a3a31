"""The server: listen, start the processes that open, prove and serve, say where it is, stop.

Rules of this file: the address is taken before the bundles are opened, so that a busy port is told at once; nothing is
accepted before every model is proved; text for people goes through the `echo` that the caller hands in. The work is
done in other processes (`processes`); this one loads no runtime and no web framework.
"""

import json
import shlex
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from types import FrameType
from typing import Any

from .errors import PortBusyError
from .processes.supervisor import Supervisor
from .served_model import BundlePlace
from .settings import Settings

Echo = Callable[[str], None]

_BACKLOG = 1024
_ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - only compared with


def run_server(places: Sequence[BundlePlace], settings: Settings, echo: Echo) -> None:
    """Serve bundles until SIGINT or SIGTERM; return after running requests have ended.

    A second SIGINT ends everything at once. Outside the main thread no signal stops it: use `Supervisor` there.

    Args:
        places: bundles and, optionally, other names for them.
        settings: of this server; port 0 takes a free one.
        echo: gets lines for people; the last ones say where the page is, how to ask, and how to stop.

    Raises:
        PortBusyError: the address cannot be listened on.
        BundleError, ServerStartError: a bundle cannot be served; the message says which and why.
    """
    with closing(bind_listener(settings.host, settings.port)) as listener:
        url = base_url(listener)
        supervisor = Supervisor(places, settings, listener)

        def say(hello: Mapping[str, Any]) -> None:
            models = hello["models"]
            streams = [f"streams:      {hello['streams']}"] if hello.get("streams") else []
            for line in (*model_lines(models), *streams, *ready_lines(models[0], url, settings)):
                echo(line)

        with _signals_stop(supervisor):
            supervisor.run(say)
        echo("stopped")


def bind_listener(host: str, port: int) -> socket.socket:
    """Take the address: connections wait from now on, and nobody accepts them yet.

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
        raise PortBusyError(host, port, (err.strerror or str(err)).lower()) from err
    return listener


def base_url(listener: socket.socket) -> str:
    """Return the address as a URL that works on this machine."""
    host, port = listener.getsockname()[:2]
    if host in _ANY_ADDRESS:
        host = "127.0.0.1" if listener.family == socket.AF_INET else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def model_lines(models: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Return what is served, on what, how it was proved and how it is going to be run.

    Args:
        models: as in the engine's hello (`processes.hello`).
    """
    for note in dict.fromkeys(note for model in models for note in model["facts"]["notes"]):
        yield f"warning: {note}"
    for model in models:
        facts = model["facts"]
        yield (
            f"serving {model['name']} version {model['version']} on {facts['device']} "
            f"({facts['provider']}; {facts['reason']}), onnxruntime {facts['version']}, {facts['threads']} threads"
        )
        yield f"  golden cases: {model['golden_line']}"
        yield f"  plan: {model['plan']}"


def ready_lines(model: Mapping[str, Any], url: str, settings: Settings) -> list[str]:
    """Return the last lines of the start: the workers, the page, a curl line that works as it stands, how to stop.

    Args:
        model: as in the engine's hello.
        url: of this server.
        settings: of this server.
    """
    counted = "1 process" if settings.workers == 1 else f"{settings.workers} processes"
    return [
        f"workers:      {counted} for HTTP, 1 for the engine",
        f"OpenAPI page: {url}/docs",
        f"try it:       {curl_line(model, url, settings)}",
        "stop with Ctrl+C or SIGTERM",
    ]


def curl_line(model: Mapping[str, Any], url: str, settings: Settings) -> str:
    """Return a shell command that asks the model for a prediction.

    Args:
        model: as in the engine's hello.
        url: of this server.
        settings: of this server; may name a file with a request.
    """
    path = settings.example_request_path
    data = f"@{path}" if path else json.dumps(model["example"], separators=(",", ":"))
    words = f"curl -s {url}/v2/models/{model['name']}/infer -H 'Content-Type: application/json' -d"
    return f"{words} {shlex.quote(data)}"


@contextmanager
def _signals_stop(supervisor: Supervisor) -> Iterator[None]:
    """Stop in order at SIGINT or SIGTERM, at once at a second SIGINT; outside the main thread leave signals alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_told = False

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal is_told
        supervisor.stop(now=is_told and number == signal.SIGINT)
        is_told = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
