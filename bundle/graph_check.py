"""Whether an ONNX file may be served: the decision over the facts that graph_scan finds.

Rules of this file: it decides and does not read bytes. A graph that passes holds only operators of the default domain
that the manifest lists, all its data in itself, and nothing this version does not know.
"""

from collections.abc import Collection
from itertools import zip_longest

from .axes import Axis
from .errors import GraphError
from .graph_facts import GraphFacts, RecurrentFact, TensorFact, ValueFact
from .graph_scan import scan_graph
from .manifest import Manifest, TensorSpec

__all__ = [
    "GraphFacts",
    "RecurrentFact",
    "TensorFact",
    "ValueFact",
    "check_agreement",
    "check_graph",
    "scan_graph",
]


def check_graph(model: bytes, operators: Collection[str]) -> GraphFacts:
    """Refuse a graph that serving must not open.

    Refused: malformed bytes, 2 GiB and more, external data, foreign domains, functions, operators that are not listed
    (subgraphs included), training information, sparse tensors, unknown fields, options for the runtime in the metadata,
    initializers that a caller could exchange, and LSTM, GRU or RNN weights that disagree with hidden_size.

    Args:
        model: the bytes of model.onnx.
        operators: names of the default domain that may occur.

    Returns:
        The facts, so that nobody scans twice.

    Raises:
        GraphError: says what the model holds and what was expected.
    """
    facts = scan_graph(model)
    if facts.refusals:
        more = f", and {len(facts.refusals) - 1} more reasons" if len(facts.refusals) > 1 else ""
        raise GraphError(f"the model must not be served: it holds {facts.refusals[0]}{more}")
    if not facts.opset or not facts.ir_version:
        raise GraphError("the model does not say its IR version and its version of the default operator set")
    unlisted = sorted(set(facts.operators) - set(operators))
    if unlisted:
        expected = ", ".join(sorted(operators)) or "none"
        raise GraphError(f"the model holds operators that are not listed: {', '.join(unlisted)}; expected {expected}")
    return facts


def check_agreement(facts: GraphFacts, manifest: Manifest) -> None:
    """Refuse a graph whose opset, inputs or outputs are not those of the manifest.

    Names, order and dtypes must be equal. A size that the graph states must be the signature's; a free axis of an input
    must be free in the graph. What the graph leaves unsaid is no contradiction.

    Raises:
        GraphError: names the tensor, expected and found.
    """
    if facts.opset != manifest.opset:
        raise GraphError(f"the model has opset {facts.opset}, expected {manifest.opset} as in the manifest")
    _check_values("input", facts.inputs, manifest.graph.inputs)
    _check_values("output", facts.outputs, manifest.graph.outputs)


def _check_values(part: str, found: tuple[ValueFact, ...], expected: tuple[TensorSpec, ...]) -> None:
    for value, spec in zip_longest(found, expected):
        if value is None or spec is None or value.name != spec.name:
            names = ", ".join(value.name for value in found)
            raise GraphError(f"the model has the {part}s {names}; expected {', '.join(spec.name for spec in expected)}")
        if value.dtype != spec.dtype:
            raise GraphError(f"the model's {part} {spec.name} is {value.dtype or 'untyped'}, expected {spec.dtype}")
        if value.dims is not None and not _fits(value.dims, spec.shape):
            raise GraphError(
                f"the model's {part} {spec.name} has shape {list(value.dims)}, expected {list(spec.shape)} as in the "
                "manifest, free axes free"
            )


def _fits(dims: tuple[int | str | None, ...], shape: tuple[Axis, ...]) -> bool:
    if len(dims) != len(shape):
        return False
    return all(not isinstance(dim, int) or dim == axis for dim, axis in zip(dims, shape, strict=True))
