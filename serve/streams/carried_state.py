"""State that the client carries: signed, so that any server with the key can go on, and nobody can make one up.

    text     base64 of: 32 bytes of HMAC-SHA256, then the record (`record_bytes`), without an answer
    signed   "cellgate-state-1", 0, the model's name, 0, the record

It is signed, not secret: whoever holds it can read the numbers. Two requests with the same state are two futures of one
past, and both are right; whoever needs each chunk to count once keeps the stream on the server.

Rules of this file: pure; keys and the time are handed in. The signature is checked, in constant time, before anything
is read.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ..arrays import Array
from ..errors import BadInput
from ..infer.value_check import is_finite
from ..start_errors import ServerStartError
from ..stream_errors import ModelChanged, StreamExpired
from .record import StreamRecord
from .record_bytes import RecordError, pack_record, unpack_record
from .served_streams import ServedStreams

MIN_KEY_BYTES: Final = 16
_MAC_BYTES: Final = 32
_CONTEXT: Final = b"cellgate-state-1\0"
_PLACE: Final = "parameters.sequence_state"


def read_state_keys(path: Path) -> tuple[bytes, ...]:
    """Read keys from a file, one a line: the first one signs, all of them are believed.

    Raises:
        ServerStartError: the file cannot be read, or holds no key, or a short one.
    """
    try:
        keys = tuple(line.strip() for line in path.read_bytes().splitlines() if line.strip())
    except OSError as err:
        raise ServerStartError(f"state keys {path}: expected a file of keys, found: {err.strerror}") from err
    if not keys or min(map(len, keys)) < MIN_KEY_BYTES:
        expected = f"expected a key a line, each of {MIN_KEY_BYTES} characters or more"
        raise ServerStartError(f"state keys {path}: {expected}, found others; openssl rand -hex 32 makes one")
    return keys


def sign_state(
    keys: Sequence[bytes],
    model: str,
    served: ServedStreams,
    *,
    step: int,
    states: tuple[Array, ...],
    rows: int,
    now_s: float,
) -> str:
    """Return the text that stands for a state.

    Args:
        keys: the first one signs.
        model: name.
        served: its streams.
        step: of the request that led to it.
        states: in the order of the signature.
        rows: B.
        now_s: on the clock on the wall.
    """
    record = StreamRecord(
        revision=0,
        step=step,
        digest=served.digest,
        rows=rows,
        states=states,
        payload_hash=None,
        answer=None,
        ended=None,
        touched_s=now_s,
    )
    data = pack_record(record)
    return base64.b64encode(_mac(keys[0], model, data) + data).decode("ascii")


def read_state(
    keys: Sequence[bytes], model: str, served: ServedStreams, text: str, *, rows: int, now_s: float, idle_s: float
) -> StreamRecord:
    """Return the state that a text stands for.

    Args:
        keys: all of them are believed.
        model: name.
        served: its streams.
        text: of `sign_state`.
        rows: B of the request.
        now_s: on the clock on the wall.
        idle_s: an older state has expired.

    Raises:
        BadInput: no state that one of the keys signed for this model, or of other rows.
        StreamExpired: it is too old.
        ModelChanged: it is of another bundle.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as err:
        raise BadInput(_PLACE, "base64, as an answer gave it", "other text") from err
    mac, body = data[:_MAC_BYTES], data[_MAC_BYTES:]
    # Every key is tried, so that the time says nothing about which one was nearly right.
    if not sum(hmac.compare_digest(mac, _mac(key, model, body)) for key in keys):
        raise BadInput(_PLACE, "a state that this server, or one with its key, gave", "another")
    try:
        record = unpack_record(body)
    except RecordError as err:  # signed by us, in another layout
        raise BadInput(_PLACE, "a state of this version", str(err)) from err
    if record.as_of(now_s, idle_s).ended is not None:
        raise StreamExpired(None)
    if record.digest != served.digest:
        raise ModelChanged(None, record.digest, served.digest)
    if record.rows != rows:
        raise BadInput("inputs", f"the {record.rows} rows of sequence_state", str(rows))
    if not served.fits(record) or not all(is_finite(state) for state in record.states):
        raise BadInput(_PLACE, "finite states of this model", "others")
    return record


def _mac(key: bytes, model: str, data: bytes) -> bytes:
    return hmac.new(key, _CONTEXT + model.encode() + b"\0" + data, hashlib.sha256).digest()
