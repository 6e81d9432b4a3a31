"""A short inference request that works, made from a golden case: for the OpenAPI page and the start-up curl line.

Rules of this file: pure. People copy the line, so it is one row of two steps, or of the fewest that the network takes,
with rounded values.
"""

from collections.abc import Mapping
from math import inf, log10
from typing import Any

from ...bundle.golden import GoldenCase
from ...bundle.manifest import GraphSignature, Manifest, TensorSpec
from ..arrays import Array
from ..datatypes import datatype_of

_DIGITS = 3


def example_request(signature: GraphSignature, golden: tuple[GoldenCase, ...]) -> dict[str, Any]:
    """Return a request body: the first row and first steps of a golden case, states left out.

    Args:
        signature: of the graph.
        golden: at least one case.
    """
    steps = max(2, signature.least_steps + (signature.lengths is not None))  # a row beside it may be shorter
    sequences = (case.inputs[signature.sequence] for case in golden)
    sequence = min(sequences, key=lambda found: _unfitness(found, steps))[:1, :steps]
    specs = {spec.name: spec for spec in signature.inputs}
    inputs = [_tensor(specs[signature.sequence], sequence)]
    if signature.lengths is not None:
        inputs.append({"name": signature.lengths, "shape": [1], "datatype": "INT32", "data": [sequence.shape[1]]})
    return {"inputs": inputs}


def further_examples(example: Mapping[str, Any], manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Return more requests by what they show: rows of unequal length with final states, and a chunk of a stream.

    Args:
        example: what ``example_request`` gave.
        manifest: of the same bundle.
    """
    signature = manifest.graph
    found: dict[str, dict[str, Any]] = {}
    steps = example["inputs"][0]["shape"][1]
    if signature.lengths is not None and steps > signature.least_steps:
        names = [spec.name for spec in signature.outputs]
        sequence, lengths = example["inputs"]
        inputs = _two_rows(sequence, lengths, signature.least_steps)
        found["two sequences and their states"] = {"inputs": inputs, "outputs": [{"name": name} for name in names]}
    if manifest.streamable:
        parameters = {"sequence_id": 7, "sequence_start": True, "sequence_step": 0}
        found["first chunk of a stream"] = {"parameters": parameters, "inputs": example["inputs"]}
    return found


def _two_rows(sequence: Mapping[str, Any], lengths: Mapping[str, Any], least: int) -> list[dict[str, Any]]:
    """The second row is the beginning of the first one, as short as it may be, and zeros after it."""
    _, steps, *features = sequence["shape"]
    begin = sequence["data"][: len(sequence["data"]) // steps * least]
    padding = [0] * (len(sequence["data"]) - len(begin))
    data = [*sequence["data"], *begin, *padding]
    return [
        {**sequence, "shape": [2, steps, *features], "data": data},
        {**lengths, "shape": [2], "data": [steps, least]},
    ]


def _unfitness(sequence: Array, steps: int) -> tuple[int, float]:
    """Order sequences for show: enough steps first, then values like those of real data, neither huge nor all zero."""
    size = float(abs(sequence.astype("float64")).mean())
    return -min(steps, sequence.shape[1]), abs(log10(size)) if size > 0 else inf


def _tensor(spec: TensorSpec, array: Array) -> dict[str, Any]:
    values = array if array.dtype.kind == "i" else array.astype("float64").round(_DIGITS)
    return {
        "name": spec.name,
        "shape": list(array.shape),
        "datatype": datatype_of(spec.dtype),
        "data": values.reshape(-1).tolist(),
    }
