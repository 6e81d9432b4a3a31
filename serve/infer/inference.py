"""Arrays in memory to outputs, on a runtime that is given: what the command line's `predict` does.

Rules of this file: synchronous; it knows the runtime's interface, no engine, no JSON text, no HTTP. What passes here
and what passes `infer_request` is checked by the same functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..arrays import Array, Arrays
from ..datatypes import datatype_of
from ..errors import EngineError
from ..runtime.runtime import Runtime
from .input_check import check_heads, check_outputs
from .request_limits import RequestLimits
from .value_check import complete_feeds, is_finite


@dataclass(frozen=True, slots=True)
class ArrayHead:
    """The head of an array in memory."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def infer_arrays(
    runtime: Runtime, arrays: Arrays, limits: RequestLimits, outputs: Sequence[str] = (), *, first_row: int = 0
) -> dict[str, Array]:
    """Check arrays, run them and return the outputs.

    Args:
        runtime: open.
        arrays: the sequence, x float32 (B, T, I) or tokens int64 (B, T); optional lengths int32 or int64 (B,), each
            in 1..T, all T where left out; optional states, zero where left out.
        limits: largest B, T, B*T and answer.
        outputs: names; none means all but the states.
        first_row: number of the first row where these are some of many, for messages.

    Returns:
        The outputs by name, in the order asked for, all finite.

    Raises:
        BadInput: the arrays do not fit the signature, or hold what it refuses.
        EngineError: the runtime refused the batch or returned a value that is not finite.
    """
    heads = [ArrayHead(name, datatype_of(array.dtype.name), array.shape) for name, array in arrays.items()]
    size = check_heads(runtime.signature, heads, limits)
    names = check_outputs(runtime.signature, outputs, size, limits)
    found = runtime.run(complete_feeds(runtime.signature, arrays, size, first_row=first_row))
    for name in names:
        if not is_finite(found[name]):
            raise EngineError(f"outputs.{name}: expected finite values, found NaN or infinity")
    return {name: found[name] for name in names}
