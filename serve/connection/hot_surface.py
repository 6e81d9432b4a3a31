"""Which protocol class a server takes: with the hot route or without, or uvicorn's own where neither would fit.

Rules of this file: whatever the installed uvicorn looks like, the server starts; what both classes lean on is looked
for beforehand, on an instance that serves nobody.
"""

import asyncio
import logging

import uvicorn
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from ..settings import Settings
from .hot_protocol import hot_protocol
from .pausing_protocol import pausing_protocol

logger = logging.getLogger("cellgate.serve")

_CALLBACKS = (
    "_should_upgrade",
    "connection_lost",
    "connection_made",
    "data_received",
    "handle_websocket_upgrade",
    "on_body",
    "on_header",
    "on_headers_complete",
    "on_message_begin",
    "on_message_complete",
    "on_response_complete",
    "on_url",
    "pause_writing",
    "resume_writing",
    "shutdown",
    "timeout_keep_alive_handler",
)
_ATTRIBUTES = (
    "client",
    "connections",
    "cycle",
    "expect_100_continue",
    "flow",
    "loop",
    "parser",
    "pipeline",
    "server_state",
    "timeout_keep_alive",
    "timeout_keep_alive_task",
    "transport",
)
_PARSER = ("feed_data", "get_http_version", "get_method", "should_keep_alive", "should_upgrade")


def http_protocol(app: FastAPI, settings: Settings) -> type[asyncio.Protocol]:
    """Return what to give to `uvicorn.Config(http=...)`.

    Args:
        app: of `create_app`.
        settings: `hot_route` says whether to try; a server that is traced does not.
    """
    missing = surface_gaps()
    if missing:
        logger.warning(
            "uvicorn %s lacks %s: the hot route is off, and so are the limits on connections, heads, chunks and times",
            uvicorn.__version__,
            ", ".join(missing),
        )
        return HttpToolsProtocol
    state = app.state.serving
    is_hot = settings.hot_route and state.tracer is None  # the hot route notes no moments
    return hot_protocol(state) if is_hot else pausing_protocol(state)


def surface_gaps(base: type[asyncio.Protocol] = HttpToolsProtocol) -> list[str]:
    """Return what the hot route needs of uvicorn's protocol and does not find; empty where all is well."""
    missing = [name for name in _CALLBACKS if not callable(getattr(base, name, None))]
    try:
        config = uvicorn.Config(_nobody, http="httptools", ws="none", lifespan="off", log_config=None)
        probe = base(config=config, server_state=ServerState(), app_state={}, _loop=_NoLoop())  # type: ignore[call-arg]
    except Exception as err:  # noqa: BLE001 - another constructor fails in ways of its own
        return [*missing, f"the constructor ({err})"]
    missing += [name for name in _ATTRIBUTES if not hasattr(probe, name)]
    missing += [f"parser.{name}" for name in _PARSER if not hasattr(getattr(probe, "parser", None), name)]
    if not hasattr(getattr(probe, "server_state", None), "default_headers"):
        missing.append("server_state.default_headers")
    return missing


class _NoLoop:
    """Stands for an event loop that is never asked for anything."""


async def _nobody(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """Serve nobody."""
