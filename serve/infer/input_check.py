"""Whether the heads of named tensors (name, datatype, shape) fit a graph signature and the limits.

Rules of this file: pure, and apart from every protocol: JSON requests and arrays from a file go through the same
functions. Two passes: heads here, before any array exists, values afterwards, in `value_check`.
What passes both is all that the runtime is ever given, for onnxruntime 1.32 aborts at B=0, loses the state at T=0 and
swallows NaN.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ...bundle.axes import sizes_of
from ...bundle.manifest import GraphSignature, TensorSpec
from ..datatypes import accepted_datatypes
from ..errors import BadInput, shown
from .request_limits import RequestLimits

LENGTHS = "lengths"
NO_SHORTER = "this network takes no shorter sequence"
NO_LONGER = "this network takes no longer sequence"
_SEE = "see the model's metadata"


class TensorHead(Protocol):
    """What is known of a tensor before its values: name, OIP datatype, shape."""

    @property
    def name(self) -> str: ...  # noqa: D102 - the class says it

    @property
    def datatype(self) -> str: ...  # noqa: D102

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class BatchSize:
    """B rows of at most T steps."""

    rows: int
    steps: int


def check_heads(signature: GraphSignature, heads: Sequence[TensorHead], limits: RequestLimits) -> BatchSize:
    """Check names, datatypes, shapes and limits of a request's inputs.

    Args:
        signature: of the graph.
        heads: in any order; the sequence is required, lengths and states are optional.
        limits: largest B, T and B*T.

    Returns:
        B, at least 1, and T, at least the signature's least steps.

    Raises:
        BadInput: names the tensor, expected and found.
    """
    specs = _input_specs(signature)
    by_name: dict[str, TensorHead] = {}
    for head in heads:
        if head.name not in specs:
            raise BadInput("inputs", f"only {', '.join(specs)}", shown(head.name), _SEE)
        if head.name in by_name:
            raise BadInput(f"inputs.{head.name}", "it once", "it twice")
        by_name[head.name] = head
    if signature.sequence not in by_name:
        raise BadInput("inputs", f"the sequence {signature.sequence}", f"only {', '.join(by_name) or 'none'}", _SEE)
    size = _batch_size(specs[signature.sequence], by_name[signature.sequence], limits, signature)
    for name, head in by_name.items():
        _check_head(specs[name], head, size)
    return size


def check_outputs(
    signature: GraphSignature, wanted: Sequence[str], size: BatchSize, limits: RequestLimits
) -> tuple[str, ...]:
    """Return the outputs that a request gets: those it names, or, where it names none, all but the states.

    Raises:
        BadInput: an output is unknown or asked for twice, or all of them together are too large.
    """
    specs = {spec.name: spec for spec in signature.outputs}
    states = {pair.output for pair in signature.state}
    names = tuple(wanted) or tuple(name for name in specs if name not in states)
    for place, name in enumerate(names):
        if name not in specs:
            raise BadInput("outputs", f"only {', '.join(specs)}", shown(name), _SEE)
        if name in names[:place]:
            raise BadInput(f"outputs.{name}", "it once", "it twice")
    elements = sum(math.prod(sized(specs[name], size)) for name in names)
    if elements > limits.max_answer_elements:
        expected = f"at most {limits.max_answer_elements} elements in the answer"
        raise BadInput("outputs", expected, str(elements), "send fewer rows or steps a request")
    return names


def sized(spec: TensorSpec, size: BatchSize) -> tuple[int, ...]:
    """Return the shape with the free axes filled in."""
    return sizes_of(spec.shape, size.rows, size.steps)


def _input_specs(signature: GraphSignature) -> dict[str, TensorSpec]:
    specs = {spec.name: spec for spec in signature.inputs}
    if signature.lengths is None and LENGTHS not in specs:
        specs[LENGTHS] = TensorSpec(name=LENGTHS, dtype="int32", shape=("B",))
    return specs


def _batch_size(spec: TensorSpec, head: TensorHead, limits: RequestLimits, signature: GraphSignature) -> BatchSize:
    if len(head.shape) != len(spec.shape) or 0 in head.shape:
        raise BadInput(f"inputs.{head.name}.shape", f"{_shape(spec)} without zeros", _found(head), _SEE)
    size = BatchSize(*head.shape[:2])
    place = f"inputs.{head.name}.shape"
    if size.rows > limits.max_batch_rows:
        raise BadInput(place, f"at most {limits.max_batch_rows} rows", shown(size.rows), "send fewer rows a request")
    if size.steps < signature.least_steps:
        raise BadInput(place, f"at least {signature.least_steps} steps", shown(size.steps), NO_SHORTER)
    if size.steps > signature.at_most(size.steps):
        raise BadInput(place, f"at most {signature.most_steps} steps", shown(size.steps), NO_LONGER)
    if size.steps > limits.max_steps:
        raise BadInput(place, f"at most {limits.max_steps} steps", shown(size.steps), "carry the state over instead")
    if size.rows * size.steps > limits.max_row_steps:
        expected = f"at most {limits.max_row_steps} rows times steps"
        raise BadInput(place, expected, shown(size.rows * size.steps), "send fewer rows a request")
    return size


def _check_head(spec: TensorSpec, head: TensorHead, size: BatchSize) -> None:
    accepted = accepted_datatypes(spec)
    if head.datatype not in accepted:
        raise BadInput(f"inputs.{head.name}.datatype", " or ".join(accepted), shown(head.datatype), "convert it")
    if head.shape != sized(spec, size):
        expected = f"{_shape(spec)} = {list(sized(spec, size))}"
        raise BadInput(f"inputs.{head.name}.shape", expected, _found(head), _SEE)


def _shape(spec: TensorSpec) -> str:
    return f"[{', '.join(map(str, spec.shape))}]"


def _found(head: TensorHead) -> str:
    return shown(list(head.shape))
