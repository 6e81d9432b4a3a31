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

from grpc import StatusCode

from ..engine.work import Outcome
from ..errors import NotReady, ServeError
from ..observe.access_log import CLIENT_GONE
from ..observe.request_watch import CLIENT_GONE_CODE, Watch
from ..serving_state import ServingState
from .answer_message import to_parameter
from .call_meter import CallNotes, status_of_error
from .infer_call import InferCall, answer_of, read_call
from .inference_pb2 import ModelInferResponse, ModelStreamInferResponse
from .status import RpcStatus, status_of
from .wire_scan import scan_request

_UNDER_WAY: Final = 256  # requests of one stream that are not answered

_OK: Final = 200
_FINAL: Final = "triton_final_response"  # of a request's answers; there is one

Receive = Callable[[], Awaitable[bytes | None]]
Send = Callable[[bytes], Awaitable[None]]


@dataclass(slots=True, eq=False)
class Asked:
    """A request that was read, compared by identity: when, its `id` in the protocol, and what else is known of it."""

    begun_s: float
    notes: CallNotes
    id: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that the engine is done with."""

    asked: Asked
    call: InferCall
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that the engine never got."""

    asked: Asked
    error: Exception


Ended = Answered | Refused


class InferStream:
    """One stream, from its first request to its end.

    Args:
        serving: the state of this server.
        receive: returns the bytes of the next request, None where the client has sent its last one.
        send: takes the bytes of an answer; returns when the client may get the next one.
        remaining_s: until nobody waits any more; None: as long as it takes.
        watch: is told of each answered request; None: nobody wants to know.
    """

    def __init__(
        self,
        serving: ServingState,
        receive: Receive,
        send: Send,
        remaining_s: Callable[[], float | None],
        watch: Watch | None = None,
    ) -> None:
        self._serving = serving
        self._receive = receive
        self._send = send
        self._remaining_s = remaining_s
        self._watch = watch
        self._room = asyncio.Semaphore(_UNDER_WAY)
        self._under_way: set[Asked] = set()
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
                await self._send(await self._answer(ended))
                self._room.release()
            await reader
        finally:
            reader.cancel()
            for ticket in self._tickets:
                self._serving.engine.cancel(ticket)
            self._note_left()
        if self._stopped.is_set():
            raise NotReady

    async def _read_all(self) -> None:
        try:
            while (body := await self._next()) is not None:
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
        notes = CallNotes(request=None if self._watch is None else self._watch.begin_next())
        asked = Asked(perf_counter(), notes)
        self._under_way.add(asked)
        try:
            facts = scan_request(body)
            asked.id = facts.id
            call = await read_call(self._serving, body, facts, self._remaining_s(), notes)
            self._submit(asked, call)
        except Exception as err:  # noqa: BLE001 - it is told in the answer, and logged where it is a fault of ours
            self._ended.put_nowait(Refused(asked, err))

    def _submit(self, asked: Asked, call: InferCall) -> None:
        def end(outcome: Outcome) -> None:
            self._tickets.discard(ticket)
            if asked.notes.request is not None:
                asked.notes.request.answered()
            self._ended.put_nowait(Answered(asked, call, outcome))

        ticket = self._serving.engine.submit(call.work, end)
        self._tickets.add(ticket)

    async def _answer(self, ended: Ended) -> bytes:
        """Return an answer's bytes; tell whoever counts, and whoever wants to know, how the request ended."""
        asked, request = ended.asked, ended.asked.notes.request
        status, code, rpc_status = _OK, "", StatusCode.OK
        try:
            message = ModelStreamInferResponse(infer_response=await _response_of(ended))
        except Exception as err:  # noqa: BLE001 - as above
            fate = status_of(err, None if request is None else request.request_id)
            status, code, rpc_status = status_of_error(err), str(fate.facts["error_code"]), fate.code
            message = _error_message(asked.id, fate)
        body: bytes = message.SerializeToString()
        self._under_way.discard(asked)
        self._note(asked, status, len(body), code, rpc_status)
        return body

    def _note_left(self) -> None:
        """Nobody waits any more for what was read and not answered."""
        for asked in self._under_way:
            self._note(asked, CLIENT_GONE, 0, CLIENT_GONE_CODE, StatusCode.CANCELLED)

    def _note(self, asked: Asked, status: int, answer_bytes: int, error: str, rpc_status: StatusCode) -> None:
        self._serving.meters.of(asked.notes.model).answered(status, perf_counter() - asked.begun_s)
        if asked.notes.request is not None:
            asked.notes.request.ended(status, answer_bytes, error=error, grpc_status=rpc_status.name)


async def _response_of(ended: Ended) -> ModelInferResponse:
    """Return the answer to a request, or raise what it failed with."""
    if isinstance(ended, Refused):
        raise ended.error
    if isinstance(ended.outcome, ServeError):
        raise ended.outcome
    response = await answer_of(ended.call, ended.outcome)
    response.parameters[_FINAL].bool_param = True
    return response


def _error_message(message_id: str, status: RpcStatus) -> ModelStreamInferResponse:
    """Return an answer that is an error: its sentence, and whose request it was; for programs, code and facts."""
    response = ModelInferResponse(id=message_id)
    for name, value in {"grpc_status": status.code.name, **status.facts, _FINAL: True}.items():
        response.parameters[name].CopyFrom(to_parameter(value))
    return ModelStreamInferResponse(error_message=status.sentence, infer_response=response)
