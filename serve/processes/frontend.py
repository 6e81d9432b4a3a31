"""A frontend's process: holds connections, parses and renders; the engine is another process.

    python -m cellgate.serve.processes.frontend    started by the supervisor, see `child_border`

Rules of this file: composition, and uvicorn's ways. Stopping is orderly: no new connections, every accepted request
answered, then the end.
"""

import asyncio
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from math import ceil
from typing import Any, Final

import uvicorn
from fastapi import FastAPI

from ..app import create_app
from ..connection.connection_sweep import ConnectionSweep
from ..connection.guarded_protocol import GuardedProtocol
from ..connection.hot_surface import http_protocol
from ..connection.live_protocol import LiveProtocol
from ..observe.access_log import access_logging
from ..observe.operation_log import operation_logging
from ..observe.tracing import open_tracer
from ..serving_state import ServingState
from ..settings import Settings
from .child_border import ChildBorder, child_main, settings_of
from .counter_files import counters_of
from .crowd import Crowd
from .engine_client import HELLO_PATIENCE_S, EngineClient, table_of
from .hello import offers_of
from .open_files import allow_connections

logger = logging.getLogger("cellgate.serve")

_BACKLOG: Final = 4096
# uvicorn logs these as errors: whenever a WebSocket is refused as HTTP, which is what a refusal should be, and, with a
# traceback, where a client's text is none, for which it closes the connection with 1007.
_OF_CLIENTS: Final = (
    "ASGI callable returned without completing handshake.",
    "Invalid UTF-8 sequence received from client.",
)
_TICKS_A_LOOK: Final = 10  # of uvicorn, which ticks ten times a second


def serve_frontend(border: ChildBorder, config: dict[str, Any]) -> None:
    """Build the application, report that it listens, and serve until SIGTERM or the lifeline's end.

    Raises:
        KeysFileError, CertificateError: a file of keys, or a certificate, cannot be used any more.
    """
    settings = settings_of(config)
    name = config["counters"]["own"] if "counters" in config else "frontend"
    with operation_logging(settings.log_format, name), access_logging(name, enabled=settings.access_log):
        _serve(border, config, _within_limits(settings))


def _serve(border: ChildBorder, config: dict[str, Any], settings: Settings) -> None:
    hello = config["hello"]
    client = EngineClient(config["engine_path"], settings)
    counters = counters_of(config, hello["names"])
    tracer = open_tracer(settings.otel_endpoint)
    table = table_of(offers_of(hello))
    app = create_app(table, settings, client, partial(client.running, HELLO_PATIENCE_S), counters, tracer)
    client.on_models = app.state.serving.take_models
    listener = socket.socket(fileno=config["listener"])
    server = FrontendServer(
        uvicorn_config(app, settings), app.state.serving, border.lifeline, lambda: border.report({"listening": True})
    )
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.msg not in _OF_CLIENTS)
    gc.collect()
    gc.freeze()  # the application stays: the collector need not look at it between two requests
    server.run(sockets=[listener])


def uvicorn_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Return how uvicorn serves the application."""
    config = uvicorn.Config(
        app,
        http=http_protocol(app, settings),
        loop="uvloop",
        ws=LiveProtocol,
        ws_max_size=settings.max_body_bytes,
        ws_per_message_deflate=False,  # a short message could become a long one
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # whoever says so may say anything, and nobody here asks
        backlog=_BACKLOG,
        timeout_keep_alive=ceil(settings.keep_alive_s),
        timeout_graceful_shutdown=ceil(settings.shutdown_grace_s),
    )
    config.load()
    tls = app.state.serving.tls
    if tls is not None:
        config.ssl = tls.context
    return config


def _within_limits(settings: Settings) -> Settings:
    """Return the settings with as many connections as this process may hold; say so where those are fewer."""
    connections = allow_connections(settings.max_connections)
    if connections < settings.max_connections:
        logger.warning(
            "max_connections: expected open files for %d connections of a process, found some for %d, and no more are "
            "taken; raise the limit on open files (ulimit -n), or set it lower",
            settings.max_connections,
            connections,
        )
    return replace(settings, max_connections=connections)


class FrontendServer(uvicorn.Server):
    """uvicorn's server, which says when it listens, is not ready while it stops, and leaves SIGINT to the supervisor.

    Once a second it looks for clients that are late; at SIGHUP it reads the keys and the certificate again.

    Args:
        config: of uvicorn.
        state: of the application.
        lifeline: a file whose end means that the supervisor is gone.
        on_listening: called once.
    """

    def __init__(
        self, config: uvicorn.Config, state: ServingState, lifeline: int, on_listening: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._state = state
        self._lifeline = lifeline
        self._on_listening = on_listening
        self._sweep = ConnectionSweep()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGTERM only, and do not raise it again after the orderly stop."""
        signal.signal(signal.SIGTERM, self._stop)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        config = self.config
        if sockets:
            processes = self._state.settings.workers
            make: Any = Crowd(sockets[0], config.http_protocol_class, config.ssl, processes)
            config.http_protocol_class = make  # uvicorn only calls it
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._lifeline, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._state.read_keys)
        self._on_listening()

    async def on_tick(self, counter: int) -> bool:
        """Look for late clients."""
        if counter % _TICKS_A_LOOK == 0:
            connections: list[Any] = list(self.server_state.connections)
            self._sweep.look([one for one in connections if isinstance(one, GuardedProtocol)], time.monotonic())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Be not ready, then stop as uvicorn does; what a connection does then is its class's to say."""
        self._state.draining = True
        self._state.stop_live()
        asyncio.get_running_loop().remove_reader(self._lifeline)
        await super().shutdown(sockets)

    def _stop(self, *_: object) -> None:
        self.should_exit = True


if __name__ == "__main__":
    sys.exit(child_main(serve_frontend))
