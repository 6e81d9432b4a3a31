"""The control frontend's process: takes orders to load and unload on its own listener, and passes them to the engine.

    python -m cellgate.serve.processes.control_frontend    started by the supervisor, see `child_border`

Rules of this file: composition only; it serves as a frontend does, and answers no request for inference.
"""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

from ..errors import ServeError
from ..gate.admission import Admission, admission_rules
from ..observe.access_log import access_logging
from ..observe.operation_log import operation_logging
from ..routes.control_app import create_control_app
from ..serving_state import ServingState
from .child_border import ChildBorder, child_main, settings_of
from .counter_files import counters_of
from .engine_client import HELLO_PATIENCE_S, EngineClient, table_of
from .frontend import FrontendServer, uvicorn_config
from .hello import offers_of

_GIVE_UP_PATIENCE_S: Final = 1.0
_NAME: Final = "control frontend"


def serve_control(border: ChildBorder, config: dict[str, Any]) -> None:
    """Report that it listens, and serve until SIGTERM or the lifeline's end."""
    settings = replace(settings_of(config), hot_route=False)
    hello = config["hello"]
    client = EngineClient(config["engine_path"], settings)
    state = ServingState(
        table=table_of(offers_of(hello)),
        settings=settings,
        engine=client,
        admission=Admission(admission_rules(settings)),
        counters=counters_of(config, hello["names"]),
    )
    client.on_models = state.take_models
    app = create_control_app(state, client, partial(_running, client, state, config["control_rpc_address"]))
    listener = socket.socket(fileno=config["listener"])
    config_of_uvicorn = uvicorn_config(app, settings)
    server = ControlServer(config_of_uvicorn, state, border.lifeline, lambda: border.report({"listening": True}))
    server.client = client
    with (
        operation_logging(settings.log_format, _NAME),
        access_logging(_NAME, enabled=settings.access_log),
    ):
        server.run(sockets=[listener])


class ControlServer(FrontendServer):
    """A frontend's server that keeps no stop waiting for a trial: whoever asked for the load is told 503 at once.

    Attributes:
        client: reaches the engine; set before it runs.
    """

    client: EngineClient

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Have the engine give up what is not opened yet, then stop as a frontend does."""
        with suppress(ServeError, TimeoutError):
            await asyncio.wait_for(self.client.control("give_up", ""), _GIVE_UP_PATIENCE_S)
        await super().shutdown(sockets)


@asynccontextmanager
async def _running(client: EngineClient, state: ServingState, address: tuple[str, int] | None) -> AsyncIterator[None]:
    """Stay connected to the engine inside, and serve gRPC where there is an address for it."""
    async with client.running(HELLO_PATIENCE_S):
        if address is None:
            yield
            return
        from ..rpc.control_calls import ControlCalls  # noqa: PLC0415 - packages that not every server has
        from ..rpc.server import running  # noqa: PLC0415
        from ..rpc.service import Service  # noqa: PLC0415

        async with running(Service(state, ControlCalls(state, client).by_path()), state, *address):
            yield


if __name__ == "__main__":
    sys.exit(child_main(serve_control))
