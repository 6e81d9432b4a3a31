"""ModelStreamInfer: one connection, many requests, each answered when its answer is there.

    requests ──▶ read, in their order ──▶ engine ──▶ answers, in the order in which they come

Rules of this file: a request that fails is answered with its error, and the stream goes on. Work is handed over in the
order of the requests, so that those of one sequence reach the engine in theirs. So many are under way and no more: who
does not read answers is not read from. However it ends, no work of it stays in the engine.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from ..engine.work import Outcome
from ..errors import NotReady, ServeError
from ..serving_state import ServingState
from .answer_message import to_parameter
from .call_meter import status_of_error
from .infer_call import InferCall, answer_of, read_call
from .inference_pb2 import ModelInferResponse, ModelStreamInferResponse
from .status import status_of
from .wire_scan import scan_request

_UNDER_WAY: Final = 256  # requests of one stream that are not answered

_OK: Final = 200
_FINAL: Final = "triton_final_response"  # of a request's answers; there is one

Receive = Callable[[], Awaitable[bytes | None]]
Send = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that the engine is done with."""

    begun_s: float
    request_id: str
    call: InferCall
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that the engine never got."""

    begun_s: float
    request_id: str
    error: Exception


Ended = Answered | Refused


class InferStream:
    """One stream, from its first request to its end.

    Args:
        serving: the state of this server.
        receive: returns the bytes of the next request, None where the client has sent its last one.
        send: takes the bytes of an answer; returns when the client may get the next one.
        remaining_s: until nobody waits any more; None: as long as it takes.
    """

    def __init__(
        self, serving: ServingState, receive: Receive, send: Send, remaining_s: Callable[[], float | None]
    ) -> None:
        self._serving = serving
        self._receive = receive
        self._send = send
        self._remaining_s = remaining_s
        self._room = asyncio.Semaphore(_UNDER_WAY)
        self._under_way = 0
        self._ended: asyncio.Queue[Ended | None] = asyncio.Queue()  # None: the last request was read
        self._tickets: set[int] = set()
        self._receiving: asyncio.Future[bytes | None] | None = None
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Read no further request; those that were read are answered."""
        self._stopped.set()
        if self._receiving is not None:
            self._receiving.cancel()

    async def run(self) -> None:
        """Answer every request; return when the last one is answered.

        Raises:
            NotReady: stopped before the client had sent its last request.
        """
        reader = asyncio.ensure_future(self._read_all())
        try:
            is_read = False
            while not is_read or self._under_way:
                ended = await self._ended.get()
                if ended is None:
                    is_read = True
                    continue
                status, message = await _message_of(ended)
                model = ended.call.model.name if isinstance(ended, Answered) else None
                self._serving.meters.of(model).answered(status, perf_counter() - ended.begun_s)
                await self._send(message.SerializeToString())
                self._under_way -= 1
                self._room.release()
            await reader
        finally:
            reader.cancel()
            for ticket in self._tickets:
                self._serving.engine.cancel(ticket)
        if self._stopped.is_set():
            raise NotReady

    async def _read_all(self) -> None:
        try:
            while (body := await self._next()) is not None:
                self._under_way += 1
                await self._begin(body)
        finally:
            self._ended.put_nowait(None)

    async def _next(self) -> bytes | None:
        await self._room.acquire()
        if self._stopped.is_set():
            return None
        self._receiving = asyncio.ensure_future(self._receive())
        try:
            return await self._receiving
        except asyncio.CancelledError:
            if self._stopped.is_set():
                return None
            raise

    async def _begin(self, body: bytes) -> None:
        begun_s, request_id = perf_counter(), ""
        try:
            facts = scan_request(body)
            request_id = facts.request_id
            call = await read_call(self._serving, body, facts, self._remaining_s())
            self._submit(begun_s, request_id, call)
        except Exception as err:  # noqa: BLE001 - it is told in the answer, and logged where it is a fault of ours
            self._ended.put_nowait(Refused(begun_s, request_id, err))

    def _submit(self, begun_s: float, request_id: str, call: InferCall) -> None:
        def end(outcome: Outcome) -> None:
            self._tickets.discard(ticket)
            self._ended.put_nowait(Answered(begun_s, request_id, call, outcome))

        ticket = self._serving.engine.submit(call.work, end)
        self._tickets.add(ticket)


async def _message_of(ended: Ended) -> tuple[int, ModelStreamInferResponse]:
    """Return the status that HTTP would give, and the message."""
    if isinstance(ended, Refused):
        return status_of_error(ended.error), _error_message(ended.request_id, ended.error)
    if isinstance(ended.outcome, ServeError):
        return ended.outcome.status, _error_message(ended.request_id, ended.outcome)
    try:
        response = await answer_of(ended.call, ended.outcome)
    except Exception as err:  # noqa: BLE001 - as above
        return status_of_error(err), _error_message(ended.request_id, err)
    response.parameters[_FINAL].bool_param = True
    return _OK, ModelStreamInferResponse(infer_response=response)


def _error_message(request_id: str, error: Exception) -> ModelStreamInferResponse:
    """Return an answer that is an error: its sentence, and whose request it was; for programs, code and facts."""
    status = status_of(error)
    response = ModelInferResponse(id=request_id)
    for name, value in {"grpc_status": status.code.name, **status.facts, _FINAL: True}.items():
        response.parameters[name].CopyFrom(to_parameter(value))
    return ModelStreamInferResponse(error_message=status.sentence, infer_response=response)
