"""The service as gRPC sees it: which call is whose, and how a call ends.

Rules of this file: the only place that ends calls with a status. Messages are parsed by the calls themselves, so that
bytes that are no message are the client's fault and said so.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import Message

from ..errors import NotReady, ServeError
from ..serving_state import ServingState
from .calls import SERVICE, Call, Calls
from .errors import UnknownCall
from .infer_stream import InferStream
from .status import status_of

INFER: Final = f"/{SERVICE}/ModelInfer"
STREAM: Final = f"/{SERVICE}/ModelStreamInfer"
HOLD_S: Final = 0.25

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
        self._accepted = 0  # calls for inference that have not ended
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_ending = asyncio.Event()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        """Return what answers a call, by its full name."""
        path = str(handler_call_details.method)
        try:
            self._serving.admission.admit("POST", path.encode(), _headers_of(handler_call_details), None)
        except ServeError as err:
            return _refusing(err)
        if path == STREAM:
            return grpc.stream_stream_rpc_method_handler(self._stream)
        call = self._calls.get(path)
        if call is not None:
            return grpc.unary_unary_rpc_method_handler(_unary(self._counted(call) if path == INFER else call))
        return _refusing(UnknownCall(path))

    def stop_streams(self) -> None:
        """Read no further request from any stream; those that were read are answered."""
        for stream in self._streams:
            stream.stop()

    def end(self) -> None:
        """Refuse those who are held, for the connections end."""
        self._is_ending.set()

    async def drained(self) -> None:
        """Return when no accepted request waits for its answer."""
        await self._idle.wait()

    async def _hold(self) -> None:
        """While the server stops, take a moment to refuse a call.

        Who is refused asks again at once, and would do so on this connection at the very moment at which it ends.
        """
        if self._serving.draining:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_ending.wait(), HOLD_S)

    @contextmanager
    def _accept(self) -> Iterator[None]:
        """Count a call for inference.

        Raises:
            NotReady: the server stops, and takes no more of them.
        """
        if self._serving.draining:
            raise NotReady
        self._accepted += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._accepted -= 1
            if not self._accepted:
                self._idle.set()

    def _counted(self, call: Call) -> Call:
        async def counted(body: bytes, remaining_s: float | None) -> Message:
            await self._hold()
            with self._accept():
                return await call(body, remaining_s)

        return counted

    async def _stream(self, _requests: Any, context: Context) -> None:
        async def receive() -> bytes | None:
            found = await context.read()
            return None if found is grpc.aio.EOF else found

        stream = InferStream(self._serving, receive, context.write, context.time_remaining)
        self._streams.add(stream)
        try:
            await self._hold()
            with self._accept():
                await stream.run()
        except Exception as err:  # noqa: BLE001 - told as status, and logged where it is a fault of ours
            await _end(context, err)
        finally:
            self._streams.discard(stream)


def _headers_of(details: grpc.HandlerCallDetails) -> list[tuple[bytes, bytes]]:
    """Return the metadata of a call as headers; names come in lower case, values as text or, where so marked, bytes."""
    found: Any = details.invocation_metadata or ()
    return [(key.encode(), value if isinstance(value, bytes) else value.encode()) for key, value in found]


def _refusing(error: ServeError) -> "grpc.RpcMethodHandler[Any, Any]":
    async def refuse(_requests: Any, context: Context) -> None:
        await _end(context, error)

    return grpc.stream_stream_rpc_method_handler(refuse)


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
