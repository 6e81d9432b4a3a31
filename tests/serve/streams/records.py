"""Records of streams, when two of them are equal, and one that is written."""

import numpy as np

from cellgate.serve.streams.record import StreamKey, StreamRecord
from cellgate.serve.streams.store import Write

DIGEST = "ab" * 32


def record_of(step=0, *, rows=2, ended=None, payload=b"\1" * 32, revision=5, touched_s=1000.0, digest=DIGEST, fill=1.0):
    """A record as a store may hold it; a payload of None is of a request that said no step."""
    states = () if ended else tuple(np.full((1, rows, 3), fill + place, np.float32) for place in range(2))
    return StreamRecord(
        revision=revision,
        step=step,
        digest=digest,
        rows=rows,
        states=states,
        payload_hash=payload,
        answer=None if payload is None else {"y": np.full((rows, 2, 4), fill, np.float32)},
        ended=ended,
        touched_s=touched_s,
    )


def same_record(actual, expected):
    """Equal in every field, arrays in dtype, shape and bytes."""
    plain = ("revision", "step", "digest", "rows", "payload_hash", "ended", "touched_s")
    if any(getattr(actual, name) != getattr(expected, name) for name in plain):
        return False
    if (actual.answer is None) != (expected.answer is None) or len(actual.states) != len(expected.states):
        return False
    pairs = list(zip(actual.states, expected.states, strict=True))
    if expected.answer is not None:
        if list(actual.answer) != list(expected.answer):
            return False
        pairs += [(actual.answer[name], expected.answer[name]) for name in expected.answer]
    return all((a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()) for a, b in pairs)


def put(store, record, expected=None):
    """Write the stream 7 of the model m, to be kept for ever."""
    write = Write(key=StreamKey("m", 7), expected=expected, record=record, expires_s=1e12, keep_until_s=1e12)
    return store.commit([write])
