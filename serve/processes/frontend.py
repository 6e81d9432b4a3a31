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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from math import ceil
from typing import Any, Final

import uvicorn
from fastapi import FastAPI

from ..app import create_app
from ..hot_surface import http_protocol
from ..served_model import served_model_from_hello
from ..serving_state import ServingState
from ..settings import Settings
from .child_border import ChildBorder, places_of, run_child, settings_of
from .cpu_share import stand_behind_runs
from .engine_client import EngineClient

_HELLO_PATIENCE_S: Final = 1.0  # before listening without an engine, which readiness tells
_BACKLOG: Final = 1024


def serve_frontend(border: ChildBorder, config: dict[str, Any]) -> None:
    """Build the application, report that it listens, and serve until SIGTERM or the lifeline's end.

    Raises:
        BundleError, ServerStartError: a bundle is not the one that the engine serves.
    """
    settings = settings_of(config)
    entries = config["hello"]["models"]
    models = [served_model_from_hello(place, entry) for place, entry in zip(places_of(config), entries, strict=True)]
    client = EngineClient(config["engine_path"], models, settings)
    app = create_app(models, settings, client, partial(client.running, _HELLO_PATIENCE_S))
    listener = socket.socket(fileno=config["listener"])
    server = FrontendServer(
        uvicorn_config(app, settings), app.state.serving, border.lifeline, lambda: border.report({"listening": True})
    )
    with access_logging(enabled=settings.access_log):
        gc.collect()
        gc.freeze()  # the application stays: the collector need not look at it between two requests
        stand_behind_runs()
        server.run(sockets=[listener])


def uvicorn_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Return how uvicorn serves the application."""
    return uvicorn.Config(
        app,
        http=http_protocol(app, settings),
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


class FrontendServer(uvicorn.Server):
    """uvicorn's server, which says when it listens, is not ready while it stops, and leaves SIGINT to the supervisor.

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

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGTERM only, and do not raise it again after the orderly stop."""
        signal.signal(signal.SIGTERM, self._stop)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        asyncio.get_running_loop().add_reader(self._lifeline, self._stop)
        self._on_listening()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Be not ready, then stop as uvicorn does."""
        self._state.draining = True
        asyncio.get_running_loop().remove_reader(self._lifeline)
        await super().shutdown(sockets)

    def _stop(self, *_: object) -> None:
        self.should_exit = True


@contextmanager
def access_logging(*, enabled: bool) -> Iterator[None]:
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


def main() -> int:
    """Run this process; SIGINT is the supervisor's to judge."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return run_child(ChildBorder.of_this_process(), serve_frontend)


if __name__ == "__main__":
    sys.exit(main())
