"""The fingerprint of a request's payload: two requests with the same one are the same step of the same stream.

Rules of this file: pure. Everything that can change the answer or the state is in it; priority, deadline and the form
of the answer (JSON or binary) are not.
"""

import hashlib
from struct import Struct
from typing import Final

from ..engine.work import Work

_HEAD: Final = Struct("<BBIIQ")


def payload_hash(work: Work) -> bytes:
    """Return the SHA-256 of a request's payload, 32 bytes.

    Args:
        work: of a stream.
    """
    assert work.stream is not None
    given = sum(1 << place for place, state in enumerate(work.states) if state is not None)
    found = hashlib.sha256(_HEAD.pack(work.stream.is_start, work.stream.is_end, work.rows, work.steps, given))
    found.update("\0".join(work.outputs).encode() + b"\0\0")
    found.update(work.lengths.tobytes())
    found.update(work.sequence.tobytes())
    for state in work.states:
        if state is not None:
            found.update(state.tobytes())
    return found.digest()
