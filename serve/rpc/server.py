"""The gRPC server: its limits, its address, its orderly stop.

Rules of this file: every limit is one of the settings, or argued here. Nothing is inflated: a compressed message of the
longest length may stand for a thousand times as many bytes, and gRPC counts them before it inflates.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import grpc
import grpc.aio

from ..gate.tls import ListenerTls
from ..serving_state import ServingState
from ..settings import Settings
from ..start_errors import PortBusyError
from .certificate import CertificateGiver
from .service import Service

_NO_COMPRESSION: Final = 1 << 0  # a bit for each algorithm: identity only
_TELL_S: Final = 0.05  # for a word to a client, and what it does then
_LAST_CALLS_S: Final = 0.2  # for answers that are on their way, and questions about health
_SLACK_CALLS: Final = 64  # for questions about health while as many requests wait as may wait
_MOST_PENDING: Final = 2**20
_MAX_METADATA_BYTES: Final = 2**16  # as of HTTP's headers


def make_server(service: Service, settings: Settings) -> grpc.aio.Server:
    """Return a server that does not listen yet.

    Args:
        service: answers its calls.
        settings: of this server.
    """
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", settings.max_body_bytes),
            ("grpc.max_send_message_length", -1),  # the limit on answers' elements holds before they are computed
            ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
            ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
            ("grpc.compression_enabled_algorithms_bitset", _NO_COMPRESSION),
            ("grpc.so_reuseport", 1),  # the supervisor holds the port; see `rpc_port`
            ("grpc.enable_http_proxy", 0),
            # Calls that nobody has looked at yet: above 1,000 and 3,000, by default, gRPC itself tells them CANCELLED,
            # which nobody tries again. What bounds them instead is the number of calls of each connection.
            ("grpc.server.max_pending_requests", _MOST_PENDING),
            ("grpc.server.max_pending_requests_hard_limit", _MOST_PENDING),
            ("grpc.max_concurrent_streams", settings.max_waiting + _SLACK_CALLS),
        ],
        maximum_concurrent_rpcs=settings.max_waiting + _SLACK_CALLS,
    )
    server.add_generic_rpc_handlers((service,))
    return server


def listen(server: grpc.aio.Server, host: str, port: int, tls: ListenerTls | None) -> None:
    """Take the address.

    Args:
        server: not yet started.
        host: a numeric address.
        port: from 1 on.
        tls: of this process's listeners, or None.

    Raises:
        PortBusyError: somebody else listens there.
    """
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if tls is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, CertificateGiver(tls).credentials())
    except RuntimeError as err:
        raise PortBusyError(host, port, "it in use", "--grpc-port") from err


@asynccontextmanager
async def running(service: Service, serving: ServingState, host: str, port: int) -> AsyncIterator[None]:
    """Serve inside; see `listen` and `stop`."""
    server = make_server(service, serving.settings)
    listen(server, host, port, serving.tls)
    await server.start()
    try:
        yield
    finally:
        await stop(server, service, serving)


async def stop(server: grpc.aio.Server, service: Service, serving: ServingState) -> None:
    """Refuse what comes, answer what was accepted, and return when all is answered or the time is over.

    gRPC's own stop comes last: a call that arrives while it begins is told CANCELLED, which nobody tries again. So
    those who would ask at that moment are held, and refused when their connections have been told to end.
    """
    serving.draining = True
    service.stop_streams()
    with suppress(TimeoutError):
        await asyncio.wait_for(service.drained(), serving.settings.shutdown_grace_s)
    await asyncio.sleep(_TELL_S)  # who was answered last asks again by now, and is held
    stopping = asyncio.ensure_future(server.stop(_LAST_CALLS_S))
    await asyncio.sleep(_TELL_S)
    service.end()
    await stopping
