"""The service as gRPC sees it: which call is whose, and how a call ends.

Rules of this file: the only place that ends calls with a status. Messages are parsed by the calls themselves, so that
bytes that are no message are the client's fault and said so.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio

from ..serving_state import ServingState
from .calls import SERVICE, Call, Calls
from .errors import UnknownCall
from .infer_stream import InferStream
from .status import status_of

STREAM: Final = f"/{SERVICE}/ModelStreamInfer"

Context = Any  # grpc.aio.ServicerContext, whose stubs leave out what is used here


class Service(grpc.GenericRpcHandler):
    """All calls of this server.

    Args:
        serving: its state.
    """

    def __init__(self, serving: ServingState) -> None:
        self._serving = serving
        self._calls = Calls(serving).by_path()
        self._streams: set[InferStream] = set()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        """Return what answers a call, by its full name."""
        path = str(handler_call_details.method)
        if path == STREAM:
            return grpc.stream_stream_rpc_method_handler(self._stream)
        call = self._calls.get(path)
        if call is not None:
            return grpc.unary_unary_rpc_method_handler(_unary(call))

        async def refuse(_requests: Any, context: Context) -> None:
            await _end(context, UnknownCall(path))

        return grpc.stream_stream_rpc_method_handler(refuse)

    def stop_streams(self) -> None:
        """Read no further request from any stream; those that were read are answered."""
        for stream in self._streams:
            stream.stop()

    async def _stream(self, _requests: Any, context: Context) -> None:
        async def receive() -> bytes | None:
            found = await context.read()
            return None if found is grpc.aio.EOF else found

        stream = InferStream(self._serving, receive, context.write, context.time_remaining)
        self._streams.add(stream)
        try:
            await stream.run()
        except Exception as err:  # noqa: BLE001 - told as status, and logged where it is a fault of ours
            await _end(context, err)
        finally:
            self._streams.discard(stream)


def _unary(call: Call) -> Callable[[bytes, Context], Awaitable[bytes]]:
    async def answer(body: bytes, context: Context) -> bytes:
        try:
            message = await call(body, context.time_remaining())
        except Exception as err:
            await _end(context, err)
            raise  # it never comes so far
        found: bytes = message.SerializeToString()
        return found

    return answer


async def _end(context: Context, error: Exception) -> None:
    """End the call with the status of an error; does not return."""
    status = status_of(error)
    await context.abort(status.code, status.sentence, status.trailing)
