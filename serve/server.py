"""The process: listen, open, prove, serve, stop.

Rules of this file: the address is taken before the bundles are opened, so that a busy port is told at once; nothing is
accepted before every model is proved; text for people goes through the `echo` that the caller hands in.
"""

import json
import logging
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from math import ceil
from types import FrameType

import uvicorn
from fastapi import FastAPI

from .app import create_app
from .errors import PortBusyError
from .served_model import BundlePlace, ServedModel, open_models
from .serving_state import ServingState
from .settings import Settings

Echo = Callable[[str], None]

_BACKLOG = 1024
_ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - only compared with


def run_server(places: Sequence[BundlePlace], settings: Settings, echo: Echo) -> None:
    """Serve bundles until SIGINT or SIGTERM; return after running requests have ended.

    Args:
        places: bundles and, optionally, other names for them.
        settings: of this server; port 0 takes a free one.
        echo: gets lines for people; the last ones say where the page is, how to ask, and how to stop.

    Raises:
        PortBusyError: the address cannot be listened on.
        BundleError, ServerStartError: a bundle cannot be served; the message says which and why.
    """
    with ExitStack() as stack:
        listener = stack.enter_context(closing(bind_listener(settings.host, settings.port)))
        stack.enter_context(_access_logging(enabled=settings.access_log))
        models = open_models(places, settings)
        for model in models:
            stack.callback(model.runtime.close)
        app = create_app(models, settings)
        url = base_url(listener)
        lines = [*_model_lines(models), *ready_lines(models[0], url, settings)]
        stack.enter_context(_quiet_signals())
        _Server(_config(app, settings), app.state.serving, lambda: _echo_all(echo, lines)).run(sockets=[listener])
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


def ready_lines(model: ServedModel, url: str, settings: Settings) -> list[str]:
    """Return the last lines of the start: the page, a curl line that works as it stands, how to stop."""
    return [
        f"OpenAPI page: {url}/docs",
        f"try it:       {curl_line(model, url, settings)}",
        "stop with Ctrl+C or SIGTERM",
    ]


def curl_line(model: ServedModel, url: str, settings: Settings) -> str:
    """Return a shell command that asks the model for a prediction."""
    path = settings.example_request_path
    data = f"@{path}" if path else json.dumps(model.example, separators=(",", ":"))
    words = f"curl -s {url}/v2/models/{model.name}/infer -H 'Content-Type: application/json' -d"
    return f"{words} {shlex.quote(data)}"


def _model_lines(models: Sequence[ServedModel]) -> Iterator[str]:
    for note in dict.fromkeys(note for model in models for note in model.runtime.facts.notes):
        yield f"warning: {note}"
    for model in models:
        facts = model.runtime.facts
        yield (
            f"serving {model.name} version {model.version} on {facts.device} ({facts.provider}; {facts.reason}), "
            f"onnxruntime {facts.version}, {facts.threads} threads"
        )
        yield f"  golden cases: {model.golden.cases} reproduced, {model.golden.summary()}"


def _echo_all(echo: Echo, lines: Sequence[str]) -> None:
    for line in lines:
        echo(line)


def _config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=ceil(settings.keep_alive_s),
        timeout_graceful_shutdown=ceil(settings.shutdown_grace_s),
    )


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it really listens and is not ready while it stops."""

    def __init__(self, config: uvicorn.Config, state: ServingState, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._state = state
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._state.draining = True
        await super().shutdown(sockets)


@contextmanager
def _quiet_signals() -> Iterator[None]:
    """Swallow the signals that uvicorn raises a second time after its orderly stop, so that the exit status is 0."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _ignore) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the signal was obeyed already."""


@contextmanager
def _access_logging(*, enabled: bool) -> Iterator[None]:
    """Send the access log to stderr while the server runs, one JSON line a request."""
    logger = logging.getLogger("cellgate.access")
    if not enabled:
        yield
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        with suppress(ValueError):  # stderr may be closed by now
            handler.flush()
