"""Orders about a stream: look at it, take its record along, bring a record, close it.

    show      facts of the stream, live or ended
    export    the same, and its record as bytes: another server, or another id, can go on from there
    bring     a record becomes this stream, which must not be alive
    close     the stream ends; who goes on with it is told 410

An order waits for its turn among the requests of its stream, so that it sees a state between two of them. A fork is an
export and a bring under another id: both go on from the same state, and the last step can be repeated in both.

Rules of this file: pure.
"""

from dataclasses import replace
from typing import Any, Final

from ..engine.work import StreamOrder, StreamReport
from ..errors import BadInput
from ..infer.value_check import is_finite
from ..stream_errors import ModelChanged, StreamExists, UnknownStream
from .judge import no_more_of
from .record import CLOSED, DAMAGED, StreamKey, StreamRecord
from .record_bytes import RecordError, pack_record, unpack_record
from .versions import Versions

_MOST_STEPS: Final = 2**53  # nobody counts so far, and what is counted on from there has room in a record


def decide_order(
    order: StreamOrder, record: StreamRecord | None, versions: Versions, now_s: float, max_record_bytes: int
) -> StreamReport | StreamRecord:
    """Decide about an order.

    Args:
        order: whose turn it is.
        record: of its stream, as of now.
        versions: that are served.
        now_s: on the clock of the store.
        max_record_bytes: that may be given out.

    Returns:
        The answer, or the record to be written, whose revision is not set yet.

    Raises:
        ServeError: the stream, or what is brought, does not allow it.
    """
    if order.kind == "bring":
        return _brought(order, record, versions, now_s)
    if record is None:
        raise UnknownStream(order.id)
    if order.kind == "show" and record.ended != DAMAGED:
        return report_of(StreamKey(order.model, order.id), record, now_s)
    if record.ended is not None and not (order.kind == "close" and record.ended == DAMAGED):
        raise no_more_of(order.id, record)
    if order.kind == "export":
        data = pack_record(record)
        if len(data) > max_record_bytes:
            remedy = "a shorter request leaves a shorter answer, and larger max_answer_elements let more pass"
            raise BadInput("stream", f"a record of at most {max_record_bytes} bytes", str(len(data)), remedy)
        return replace(report_of(StreamKey(order.model, order.id), record, now_s), data=data)
    return replace(record.tombstone(CLOSED), touched_s=now_s)


def report_of(key: StreamKey, record: StreamRecord, now_s: float) -> StreamReport:
    """Return what is told of a stream."""
    facts: dict[str, Any] = {
        "model_name": key.model,
        "sequence_id": key.id,
        "sequence_step": record.step,
        "rows": record.rows,
        "ended": record.ended,
        "idle_s": round(max(0.0, now_s - record.touched_s), 3),
        "state_bytes": record.state_bytes,
        "repeatable": record.payload_hash is not None,
        "bundle_digest": record.digest,
    }
    return StreamReport(facts=facts)


def _brought(order: StreamOrder, there: StreamRecord | None, versions: Versions, now_s: float) -> StreamRecord:
    try:
        record = unpack_record(order.data)
    except RecordError as err:
        raise BadInput("body", "the state of a stream, as GET …/state gives it", f"none ({err})") from err
    if record.ended is not None:
        raise BadInput("body", "the state of a stream that lives", "that of one that has ended")
    model = versions.of_bundle(order.model, record.digest)
    if model is None:
        raise ModelChanged(order.id, record.digest, versions.any_of(order.model).digest)
    if not model.is_streamable or not model.fits(record):
        raise BadInput("body", "the states of the model", "others")
    arrays = (*record.states, *(record.answer or {}).values())
    if not all(is_finite(array) for array in arrays) or not model.fits_answer(record):
        raise BadInput("body", "finite values of the model's outputs", "others")
    if record.step > _MOST_STEPS:
        raise BadInput("body", f"a stream of at most {_MOST_STEPS} requests", str(record.step))
    if there is not None and there.ended is None:
        raise StreamExists(order.id, there.step + 1)
    return replace(record, touched_s=now_s)
