"""One inference request by gRPC: read its bytes, and make the message of its answer.

Rules of this file: what depends on how a request came, alone or in a stream, is not here. What would hold up the event
loop is read and rendered in the queue's threads, as HTTP's requests are.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

from ..engine.work import Reply, Work
from ..infer.answer_form import AnswerForm
from ..infer.infer_request import is_large_answer, is_large_body
from ..models.served_model import ServedModel
from ..serving_state import ServingState
from ..work_queue import WorkQueue
from .answer_message import answer_message
from .call_meter import CallNotes
from .infer_message import parse_message, request_parts
from .inference_pb2 import ModelInferResponse
from .wire_scan import WireFacts

_LARGE_TYPED_BYTES: Final = 2**16  # of an answer in typed fields, whose elements become objects


@dataclass(frozen=True, slots=True)
class InferCall:
    """A request that was read.

    Attributes:
        queue: for what would hold up the event loop.
        model: asked for.
        work: for the engine.
        form: of the answer.
        raw: whether its tensors came as raw bytes.
    """

    queue: WorkQueue
    model: ServedModel
    work: Work
    form: AnswerForm
    raw: bool


async def read_call(
    serving: ServingState, body: bytes, facts: WireFacts, remaining_s: float | None, notes: CallNotes
) -> InferCall:
    """Read a request.

    Args:
        serving: the state of this server.
        body: bytes of its message.
        facts: what `scan_request` found in them.
        remaining_s: until nobody waits for the answer any more; None: as long as it takes.
        notes: of the request, to be filled in.

    Raises:
        NotReady: the server has not started, or has stopped, or there is no engine at the moment.
        QueueFull: as many wait as may wait.
        UnknownModel: no such model, or not in this version.
        BadInput: the bytes are no request, or it does not fit the model.
    """
    queue = serving.open_room()
    read = partial(_read, serving, queue, body, remaining_s, notes)
    if is_large_body(len(body), len(body) - facts.raw_bytes):
        return await queue.run(read)
    return read()


async def answer_of(call: InferCall, answer: Reply) -> ModelInferResponse:
    """Return the message of an answer.

    Raises:
        QueueFull: as many wait to be rendered as may wait.
        EngineError: the answer is not of the form, or not finite.
    """
    make = partial(answer_message, call.form, answer, raw=call.raw)
    if is_large_answer(call.form) or (not call.raw and call.form.binary_bytes > _LARGE_TYPED_BYTES):
        return await call.queue.run(make)
    return make()


def _read(
    serving: ServingState, queue: WorkQueue, body: bytes, remaining_s: float | None, notes: CallNotes
) -> InferCall:
    message = parse_message(body)
    model, reader = serving.reader_for(message.model_name, message.model_version or None)
    notes.model = model.name
    if notes.request is not None:
        notes.request.found(model)
    request, buffers = request_parts(message, remaining_s)
    work, form = reader.read_parts(request, buffers)
    if notes.request is not None:
        work = notes.request.submitted(work)
    return InferCall(queue, model, work, form, raw=bool(buffers))
