"""What becomes of a request of a stream: it runs, it was applied already, or it is refused. One pure function.

    the stream is        and the request           then
    -------------------  ------------------------  ---------------------------------------------------------------
    unknown              is no start               404
    unknown              starts (step none or 0)   runs from the states given, or zero
    any                  starts with a step > 0    409, expected_step 0
    any                  starts without a step     takes over: runs as if the stream were unknown
    live or ended at 0   repeats start and step 0  the stored answer
    live                 starts with step 0        409, expected_step n + 1
    dead                 starts with step 0        410: a duplicate that comes late must not raise the dead
    ended by step n      repeats step n            the stored answer
    dead                 is anything else          410
    live, other bundle   goes on                   409 model_changed
    live, at step n      repeats step n            the stored answer
    live, at step n      has step n, other payload 422
    live, at step n      has step n + 1, or none   runs
    live, at step n      has another step          409, expected_step n + 1

Dead is what has ended, expired, or is damaged in its store. A repetition is one on the same bundle only: the answer of
another one would come under this one's version.

A request without a step is applied each time it comes, as Triton does, and counts as one; what it left behind cannot be
repeated, so that the same number is a 409 then. Both kinds may follow each other in one stream.

Rules of this file: pure; it reads no clock and no store, and knows no queue.
"""

from dataclasses import dataclass

from ..arrays import Array
from ..engine.work import StreamAnswer, Work
from ..errors import BadInput, ServeError
from ..stream_errors import (
    ModelChanged,
    StepConflict,
    StepGap,
    StreamDamaged,
    StreamEnded,
    StreamExists,
    StreamExpired,
    UnknownStream,
)
from .record import DAMAGED, END, EXPIRED, StreamRecord


@dataclass(frozen=True, slots=True)
class RunStep:
    """The request runs from these states, None for zeros, and is this step of its stream afterwards."""

    states: tuple[Array | None, ...]
    step: int


Verdict = RunStep | StreamAnswer


def check_request(work: Work, *, is_streamable: bool) -> None:
    """Refuse what no stream takes, whatever its record says.

    Args:
        work: with a stream.
        is_streamable: whether the network's chunks give what the whole gives, as its export proved.

    Raises:
        BadInput: the network is no such one, or states come with a request that starts nothing.
    """
    assert work.stream is not None
    if not is_streamable:
        raise BadInput("sequence_id", "a streamable network", f"{work.model}, which is none", "send whole sequences")
    if not work.stream.is_start and any(state is not None for state in work.states):
        remedy = "the server keeps the state of a stream"
        raise BadInput("inputs", "states only beside sequence_start", "some in a later request", remedy)


def judge(record: StreamRecord | None, work: Work, digest: str, payload: bytes | None) -> Verdict:
    """Decide about the next request of a stream.

    Args:
        record: as of now (`StreamRecord.as_of`), or None where nothing is known.
        work: with a stream; `check_request` let it pass.
        digest: of the bundle that is served.
        payload: `payload_hash` of the work where it says its step, else None.

    Returns:
        What to run, or the stored answer.

    Raises:
        ServeError: see the table.
    """
    ref = work.stream
    assert ref is not None
    if ref.is_start:
        return _judge_start(record, work, payload, digest)
    if record is None:
        raise UnknownStream(ref.id)
    if record.ended is not None:
        if record.ended == END and _is_repeated(record, ref.step, payload, digest):
            return _stored(record)
        raise no_more_of(ref.id, record)
    if record.digest != digest:
        raise ModelChanged(ref.id, record.digest, digest)
    if _is_repeated(record, ref.step, payload, digest):
        return _stored(record)
    if ref.step == record.step and record.payload_hash is not None:
        raise StepConflict(record.step)
    if ref.step not in (None, record.step + 1):
        raise StepGap(record.step + 1, ref.step)
    if work.rows != record.rows:
        raise BadInput("inputs", f"the {record.rows} rows that the stream began with", str(work.rows))
    return RunStep(record.states, record.step + 1)


def _judge_start(record: StreamRecord | None, work: Work, payload: bytes | None, digest: str) -> Verdict:
    ref = work.stream
    assert ref is not None
    if ref.step is None:
        return RunStep(work.states, 0)
    if ref.step != 0:
        raise StepGap(0, ref.step)
    if record is None:
        return RunStep(work.states, 0)
    if record.step == 0 and record.ended in (None, END) and _is_repeated(record, 0, payload, digest):
        return _stored(record)
    if record.ended is None:
        raise StreamExists(ref.id, record.step + 1)
    raise no_more_of(ref.id, record)


def no_more_of(stream: int | str, record: StreamRecord) -> ServeError:
    """Return what to tell whoever goes on with a stream that does not live."""
    if record.ended == DAMAGED:
        return StreamDamaged(stream)
    return StreamExpired(stream) if record.ended == EXPIRED else StreamEnded(stream)


def _is_repeated(record: StreamRecord, step: int | None, payload: bytes | None, digest: str) -> bool:
    is_same = payload is not None and payload == record.payload_hash
    return is_same and step == record.step and digest == record.digest


def _stored(record: StreamRecord) -> StreamAnswer:
    assert record.answer is not None
    return StreamAnswer(outputs=record.answer, step=record.step, is_replayed=True)
