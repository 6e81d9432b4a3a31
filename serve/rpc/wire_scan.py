"""What a request's bytes are made of, before they are parsed.

Rules of this file: pure, and it reads no more than the outermost fields. A message of empty fields, two bytes each,
takes many times its memory once it is parsed: their number is limited before there are any objects.
Source: the protocol buffers' encoding: a field is a tag, which is a varint of number and wire type, and its value.
"""

from dataclasses import dataclass
from typing import Final

from ..errors import BadInput
from ..infer.request_record import MAX_ID
from .inference_pb2 import ModelInferRequest

MAX_FIELDS: Final = 1024  # outermost ones: inputs, their bytes, outputs, parameters
_RAW: Final = ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER
_ID: Final = ModelInferRequest.ID_FIELD_NUMBER
_FIXED_BYTES: Final = {1: 8, 5: 4}  # by wire type
_VARINT: Final = 0
_SIZED: Final = 2
_MORE: Final = 0x80  # another byte of the varint follows
_LONGEST_VARINT: Final = 10


@dataclass(frozen=True, slots=True)
class WireFacts:
    """Of a message: how many of its bytes are tensors that nobody parses, and its field `id`, to answer it with."""

    raw_bytes: int
    id: str


def scan_request(body: bytes) -> WireFacts:
    """Walk over the outermost fields of an inference request.

    Raises:
        BadInput: they are none, or too many.
    """
    at, end, fields, raw_bytes, message_id = 0, len(body), 0, 0, b""
    while at < end:
        fields += 1
        if fields > MAX_FIELDS:
            raise BadInput("request", f"at most {MAX_FIELDS} fields", "more")
        tag, at = _varint(body, at)
        kind = tag & 7
        if kind == _SIZED:
            size, at = _varint(body, at)
            if tag >> 3 == _RAW:
                raw_bytes += size
            elif tag >> 3 == _ID:
                message_id = body[at : at + min(size, MAX_ID)]
            at += size
        elif kind == _VARINT:
            _, at = _varint(body, at)
        elif kind in _FIXED_BYTES:
            at += _FIXED_BYTES[kind]
        else:  # groups, of which the protocol has none
            raise malformed()
    if at > end:
        raise malformed()
    return WireFacts(raw_bytes, message_id.decode(errors="replace"))


def malformed() -> BadInput:
    """Return the error of bytes that are no message."""
    return BadInput("request", "a protobuf message of this method", "bytes that are none")


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place, byte in enumerate(body[at : at + _LONGEST_VARINT]):
        value |= (byte & ~_MORE) << 7 * place
        if byte < _MORE:
            return value, at + place + 1
    raise malformed()
