"""The service as gRPC sees it: which call is whose, and how a call ends.

Rules of this file: the only place that ends calls with a status. Messages are parsed by the calls themselves, so that
bytes that are no message are the client's fault and said so.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import Message

from ..errors import NotReady, ServeError
from ..observe.access_log import CLIENT_GONE
from ..observe.request_id import given_id
from ..observe.request_watch import CLIENT_GONE_CODE, RequestWatch, Watch, watch_requests
from ..serving_state import ServingState
from .call_meter import status_of_error
from .calls import SERVICE, Call, Calls
from .errors import UnknownCall
from .infer_stream import InferStream
from .status import status_of

INFER: Final = f"/{SERVICE}/ModelInfer"
STREAM: Final = f"/{SERVICE}/ModelStreamInfer"
HOLD_S: Final = 0.25

_OK: Final = 200
_REQUEST_ID: Final = "request-id"  # in trailing metadata

Context = Any  # grpc.aio.ServicerContext, whose stubs leave out what is used here


class Service(grpc.GenericRpcHandler):
    """All calls of this server.

    Args:
        serving: its state.
        calls: all there are, by their full names, in the place of those that a server for inference has.
    """

    def __init__(self, serving: ServingState, calls: Mapping[str, Call] | None = None) -> None:
        self._serving = serving
        self._infers = calls is None
        self._infer = Calls(serving).infer
        self._calls = Calls(serving).by_path() if calls is None else calls
        self._streams: set[InferStream] = set()
        self._accepted = 0  # calls for inference that have not ended
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_ending = asyncio.Event()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        """Return what answers a call, by its full name."""
        path = str(handler_call_details.method)
        headers = _headers_of(handler_call_details.invocation_metadata)
        method = path.rpartition("/")[2]
        watch = watch_requests(self._serving, protocol="grpc", method=method, path=path, headers=headers)
        try:
            self._serving.admission.admit("POST", path.encode(), headers, None)
        except ServeError as err:
            return self._refusing(err, watch)
        if path == STREAM and self._infers:
            return grpc.stream_stream_rpc_method_handler(self._streaming(watch))
        request = None if watch is None else watch.begin()
        call = self._inferring(request) if path == INFER and self._infers else self._calls.get(path)
        if call is not None:
            return grpc.unary_unary_rpc_method_handler(self._unary(call, request))
        return self._refusing(UnknownCall(path), watch)

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

    def _inferring(self, request: RequestWatch | None) -> Call:
        async def infer(body: bytes, remaining_s: float | None) -> Message:
            await self._hold()
            with self._accept():
                return await self._infer(body, remaining_s, request)

        return infer

    def _unary(self, call: Call, request: RequestWatch | None) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def answer(body: bytes, context: Context) -> bytes:
            try:
                message = await call(body, context.time_remaining())
            except Exception as err:
                await self._end(context, err, request)
                raise  # it never comes so far
            except asyncio.CancelledError:
                if request is not None:
                    request.ended(CLIENT_GONE, error=CLIENT_GONE_CODE, grpc_status=grpc.StatusCode.CANCELLED.name)
                raise
            found: bytes = message.SerializeToString()
            if request is not None:
                context.set_trailing_metadata(((_REQUEST_ID, request.request_id),))
                request.ended(_OK, len(found), grpc_status=grpc.StatusCode.OK.name)
            return found

        return answer

    def _streaming(self, watch: Watch | None) -> Callable[[Any, Context], Awaitable[None]]:
        async def stream(_requests: Any, context: Context) -> None:
            async def receive() -> bytes | None:
                found = await context.read()
                return None if found is grpc.aio.EOF else found

            one = InferStream(self._serving, receive, context.write, context.time_remaining, watch)
            self._streams.add(one)
            try:
                await self._hold()
                with self._accept():
                    await one.run()
            except Exception as err:  # noqa: BLE001 - told as status, and logged where it is a fault of ours
                await self._end(context, err, None if watch is None else watch.begin())
            finally:
                self._streams.discard(one)

        return stream

    def _refusing(self, error: ServeError, watch: Watch | None) -> "grpc.RpcMethodHandler[Any, Any]":
        async def refuse(_requests: Any, context: Context) -> None:
            await self._end(context, error, None if watch is None else watch.begin())

        return grpc.stream_stream_rpc_method_handler(refuse)

    async def _end(self, context: Context, error: Exception, request: RequestWatch | None) -> None:
        """End the call with the status of an error; does not return."""
        if request is None:
            word = self._serving.ids.take(given_id(_headers_of(context.invocation_metadata()))).decode("ascii")
        else:
            word = request.request_id
        status = status_of(error, word)
        trailing = dict(status.trailing)
        if request is not None:
            trailing[_REQUEST_ID] = word
            code = str(status.facts["error_code"])
            request.ended(status_of_error(error), error=code, grpc_status=status.code.name)
        await context.abort(status.code, status.sentence, tuple(trailing.items()))


def _headers_of(metadata: Any) -> list[tuple[bytes, bytes]]:
    """Return the metadata of a call as headers; names come in lower case, values as text or, where so marked, bytes."""
    return [(key.encode(), value if isinstance(value, bytes) else value.encode()) for key, value in metadata or ()]
