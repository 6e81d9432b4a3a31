"""Answers as JSON bytes: inference responses and every smaller object.

Rules of this file: pure. NaN and infinity never reach it (`inference` refuses them), for JSON has no word for them and
the renderer would write null.
"""

from typing import Any

import orjson

from .arrays import Array, Arrays
from .datatypes import datatype_of

# The renderer holds the interpreter's lock while it works: a few milliseconds at a time let other requests through.
_CHUNK = 65_536


def render_object(value: Any) -> bytes:
    """Render a plain JSON value, compact."""
    return orjson.dumps(value)


def render_response(name: str, version: str, request_id: str | None, outputs: Arrays) -> bytes:
    """Render an inference response; tensors are flat, in row-major order.

    Args:
        name: of the model.
        version: of the model.
        request_id: echoed; None where the request had none.
        outputs: finite arrays by name, in the order of the answer.
    """
    head: dict[str, Any] = {"model_name": name, "model_version": version}
    if request_id is not None:
        head["id"] = request_id
    tensors = b",".join(_render_tensor(output, array) for output, array in outputs.items())
    return orjson.dumps(head)[:-1] + b',"outputs":[' + tensors + b"]}"


def _render_tensor(name: str, array: Array) -> bytes:
    head = {"name": name, "datatype": datatype_of(array.dtype.name), "shape": list(array.shape)}
    flat = array.reshape(-1)
    chunks = (
        orjson.dumps(flat[start : start + _CHUNK], option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
        for start in range(0, flat.size, _CHUNK)
    )
    return orjson.dumps(head)[:-1] + b',"data":[' + b",".join(chunks) + b"]}"
