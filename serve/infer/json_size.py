"""How much a JSON text would become once it is parsed, counted before it is.

Rules of this file: pure, and only for long texts: what 64 KiB of JSON can become is harmless whatever they say, and
that they are nested otherwise than the protocol's objects is seen after parsing. Of long ones the parser would make
twenty times their size: `[],[],[],…` is 3 bytes for each 64 of a list.
"""

import re
from typing import Final

import numpy as np

from ..errors import BadInput

MAX_DEPTH: Final = 32
_SHORT_BYTES: Final = 2**16
_MAX_STRINGS: Final = 2**16  # names of fields and tensors; values are numbers
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"[{")], _STEPS[list(b"]}")] = 1, -1


def check_json_size(text: bytes, max_elements: int) -> None:
    """Refuse a text of too many values or too many levels.

    Args:
        text: JSON, or not; whether it is one the parser says. What stands in its strings counts like the rest.
        max_elements: values, arrays and objects together.

    Raises:
        BadInput: too many of either.
    """
    if len(text) <= _SHORT_BYTES:
        return
    opened, closed = (text.count(pair[:1]) + text.count(pair[1:]) for pair in (b"[{", b"]}"))
    elements = text.count(b",") + max(opened, closed)
    if elements > max_elements:
        raise BadInput(
            "body", f"at most {max_elements} values, arrays and objects", "more", "send fewer rows a request"
        )
    if text.count(b'"') > 2 * _MAX_STRINGS:
        raise BadInput("body", f"at most {_MAX_STRINGS} strings", "more")
    if _depth(text) > MAX_DEPTH:
        raise BadInput("body", f"at most {MAX_DEPTH} levels of arrays and objects", "more")


def _depth(text: bytes) -> int:
    brackets = _STRING.sub(b"", text).translate(None, _NO_BRACKETS)
    if len(brackets) <= MAX_DEPTH:
        return 0
    return int(_STEPS[np.frombuffer(brackets, np.uint8)].cumsum(dtype=np.int32).max())
