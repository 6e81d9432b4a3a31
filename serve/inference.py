"""One request from tensors to outputs, whatever protocol it came by.

Rules of this file: synchronous, and called off the event loop; it knows the runtime's interface and no JSON text, no
HTTP. The command line's `predict` uses `infer_arrays` directly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .arrays import Array, Arrays
from .datatypes import datatype_of
from .errors import EngineError
from .input_check import check_heads, check_outputs, complete_feeds
from .json_data import array_from_json
from .json_request import parse_request
from .json_response import render_response
from .runtime import Runtime
from .settings import RequestLimits


@dataclass(frozen=True, slots=True)
class ArrayHead:
    """The head of an array in memory."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def infer_arrays(
    runtime: Runtime, arrays: Arrays, limits: RequestLimits, outputs: Sequence[str] = ()
) -> dict[str, Array]:
    """Check arrays, run them and return the outputs.

    Args:
        runtime: open.
        arrays: the sequence, x float32 (B, T, I) or tokens int64 (B, T); optional lengths int32 or int64 (B,), each
            in 1..T, all T where left out; optional states, zero where left out.
        limits: largest B, T, B*T and answer.
        outputs: names; none means all but the states.

    Returns:
        The outputs by name, in the order asked for, all finite.

    Raises:
        BadInput: the arrays do not fit the signature, or hold what it refuses.
        EngineError: the runtime refused the batch or returned a value that is not finite.
    """
    heads = [ArrayHead(name, datatype_of(array.dtype.name), array.shape) for name, array in arrays.items()]
    size = check_heads(runtime.signature, heads, limits)
    names = check_outputs(runtime.signature, outputs, size, limits)
    return _run(runtime, complete_feeds(runtime.signature, arrays, size), names)


def infer_json(runtime: Runtime, name: str, version: str, body: bytes, limits: RequestLimits) -> bytes:
    """Answer a JSON inference request with a JSON inference response.

    Args:
        runtime: open.
        name: of the model, for the answer.
        version: of the model, for the answer.
        body: the request.
        limits: as for `infer_arrays`.

    Raises:
        BadInput: the request is not one, or does not fit the signature.
        EngineError: as for `infer_arrays`.
    """
    request = parse_request(body)
    size = check_heads(runtime.signature, request.inputs, limits)
    names = check_outputs(runtime.signature, request.outputs, size, limits)
    arrays = {
        tensor.name: array_from_json(tensor.name, tensor.datatype, tensor.shape, tensor.data)
        for tensor in request.inputs
    }
    outputs = _run(runtime, complete_feeds(runtime.signature, arrays, size), names)
    return render_response(name, version, request.id, outputs)


def _run(runtime: Runtime, feeds: Arrays, names: tuple[str, ...]) -> dict[str, Array]:
    found = runtime.run(feeds)
    for name in names:
        if not np.isfinite(found[name]).all():
            raise EngineError(f"outputs.{name}: expected finite values, found NaN or infinity")
    return {name: found[name] for name in names}
