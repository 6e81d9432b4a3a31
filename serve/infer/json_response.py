"""JSON bytes: the numbers of an answer, and every smaller object.

Rules of this file: pure. NaN and infinity never reach it (`answer_form` refuses them), for JSON has no word for them
and the renderer would write null.
"""

from typing import Any

import orjson

from ..arrays import Array

# The renderer holds the interpreter's lock while it works: a few milliseconds at a time let other requests through.
_CHUNK = 65_536


def render_object(value: Any) -> bytes:
    """Render a plain JSON value, compact."""
    return orjson.dumps(value)


def render_numbers(array: Array) -> bytes:
    """Render an array as a flat JSON array in row-major order.

    Args:
        array: finite.
    """
    flat = array.reshape(-1)
    if flat.size <= _CHUNK:
        return orjson.dumps(flat, option=orjson.OPT_SERIALIZE_NUMPY)
    chunks = (
        orjson.dumps(flat[start : start + _CHUNK], option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
        for start in range(0, flat.size, _CHUNK)
    )
    return b"[" + b",".join(chunks) + b"]"
