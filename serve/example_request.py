"""A short inference request that works, made from a golden case: for the OpenAPI page and the start-up curl line.

Rules of this file: pure. People copy the line, so it is one row of at most two steps with rounded values.
"""

from math import inf, log10
from typing import Any

from ..bundle.golden import GoldenCase
from ..bundle.manifest import GraphSignature, TensorSpec
from .arrays import Array
from .datatypes import datatype_of

_STEPS = 2
_DIGITS = 3


def example_request(signature: GraphSignature, golden: tuple[GoldenCase, ...]) -> dict[str, Any]:
    """Return a request body: the first row and first steps of a golden case, states left out.

    Args:
        signature: of the graph.
        golden: at least one case.
    """
    sequence = min((case.inputs[signature.sequence] for case in golden), key=_unfitness)[:1, :_STEPS]
    specs = {spec.name: spec for spec in signature.inputs}
    inputs = [_tensor(specs[signature.sequence], sequence)]
    if signature.lengths is not None:
        inputs.append({"name": signature.lengths, "shape": [1], "datatype": "INT32", "data": [sequence.shape[1]]})
    return {"inputs": inputs}


def _unfitness(sequence: Array) -> tuple[int, float]:
    """Order sequences for show: enough steps first, then values like those of real data, neither huge nor all zero."""
    size = float(abs(sequence.astype("float64")).mean())
    return -min(_STEPS, sequence.shape[1]), abs(log10(size)) if size > 0 else inf


def _tensor(spec: TensorSpec, array: Array) -> dict[str, Any]:
    values = array if array.dtype.kind == "i" else array.astype("float64").round(_DIGITS)
    return {
        "name": spec.name,
        "shape": list(array.shape),
        "datatype": datatype_of(spec.dtype),
        "data": values.reshape(-1).tolist(),
    }
