"""The gRPC frontend's process: holds its connections, parses and renders; the engine is another process.

    python -m cellgate.serve.processes.rpc_frontend    started by the supervisor, see `child_border`

Rules of this file: composition, and the process's own affairs. Stopping is orderly: nothing new is taken, every
accepted request answered, then the end.
"""

import asyncio
import gc
import signal
import sys
from typing import Any, Final

import uvloop

from ..gate.admission import Admission, admission_rules
from ..observe.access_log import access_logging
from ..observe.operation_log import operation_logging
from ..observe.tracing import open_tracer
from ..rpc.server import running
from ..rpc.service import Service
from ..serving_state import ServingState
from .child_border import ChildBorder, child_main, settings_of
from .counter_files import counters_of
from .engine_client import HELLO_PATIENCE_S, EngineClient, table_of
from .hello import offers_of

_NAME: Final = "gRPC frontend"


def serve_rpc(border: ChildBorder, config: dict[str, Any]) -> None:
    """Report that it listens, and serve until SIGTERM or the lifeline's end.

    Raises:
        PortBusyError: the address is taken.
        KeysFileError, CertificateError: a file of keys, or a certificate, cannot be used any more.
    """
    settings = settings_of(config)
    hello = config["hello"]
    client = EngineClient(config["engine_path"], settings)
    serving = ServingState(
        table=table_of(offers_of(hello)),
        settings=settings,
        engine=client,
        admission=Admission(admission_rules(settings)),
        counters=counters_of(config, hello["names"]),
        protocol="grpc",
        tracer=open_tracer(settings.otel_endpoint),
    )
    client.on_models = serving.take_models
    host, port = config["rpc_address"]
    gc.collect()
    gc.freeze()  # what is made stays: the collector need not look at it between two requests
    with (
        operation_logging(settings.log_format, _NAME),
        access_logging(_NAME, enabled=settings.access_log),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_serve(border, serving, client, host, port))


async def _serve(border: ChildBorder, serving: ServingState, client: EngineClient, host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    is_told = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, is_told.set)
    loop.add_signal_handler(signal.SIGHUP, serving.read_keys)
    loop.add_reader(border.lifeline, is_told.set)
    async with client.running(HELLO_PATIENCE_S):
        serving.start_queue()
        async with running(Service(serving), serving, host, port):
            border.report({"listening": True})
            await is_told.wait()
            loop.remove_reader(border.lifeline)
    if serving.tracer is not None:
        serving.tracer.close()


if __name__ == "__main__":
    sys.exit(child_main(serve_rpc))
