"""What an ONNX file holds, as records: for `inspect`, and for the decision whether to serve it.

Rules of this file: records only. How they are found is in graph_scan, what is refused in graph_check.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

_PARAMETER_DTYPES = ("float32", "float16", "bfloat16", "float64")


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorFact:
    """A tensor stored in the file: an initializer of the graph or of a subgraph."""

    name: str
    dtype: str  # as NumPy calls it where NumPy has it
    dims: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Product of dims; 1 for a scalar."""
        return math.prod(self.dims)


@dataclass(frozen=True, kw_only=True, slots=True)
class ValueFact:
    """A graph input or output as the file declares it."""

    name: str
    dtype: str  # a tensor's element type; "sequence", "map", "optional"… for what is no tensor; "" where not said
    dims: tuple[int | str | None, ...] | None  # size, name of a free axis, or None: neither; None as a whole: not said


@dataclass(frozen=True, kw_only=True, slots=True)
class RecurrentFact:
    """An LSTM, GRU or RNN node. Shapes are None where the weight is computed by other nodes, or left out."""

    operator: str
    name: str
    hidden_size: int | None
    direction: str
    layout: int
    W: tuple[int, ...] | None  # [D, gates*H, I]
    R: tuple[int, ...] | None  # [D, gates*H, H]
    B: tuple[int, ...] | None  # [D, 2*gates*H]
    P: tuple[int, ...] | None  # [D, 3*H], LSTM only


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphFacts:
    """What the file says, served or not.

    Attributes:
        ir_version: of the file format; 0 where the file does not say.
        opset: version of the default operator set; 0 where the file does not import it.
        opsets: version of every imported operator set by domain; the default domain is "".
        producer: name and version of the tool that wrote the file.
        operators: sorted names of the default domain's operators in use, subgraphs included.
        node_counts: nodes by operator, subgraphs included; foreign ones as `domain::Operator`.
        initializers: stored tensors, those of subgraphs included; Constant nodes are not.
        inputs: of the main graph, in its order.
        outputs: likewise.
        recurrent: LSTM, GRU and RNN nodes in the order of the file, subgraphs included.
        refusals: why serving would refuse the file, a sentence each; empty for a file without such traits. Cut after
            onnx_file.MAX_REFUSALS.
    """

    ir_version: int
    opset: int
    opsets: Mapping[str, int]
    producer: str
    operators: tuple[str, ...]
    node_counts: Mapping[str, int]
    initializers: tuple[TensorFact, ...]
    inputs: tuple[ValueFact, ...]
    outputs: tuple[ValueFact, ...]
    recurrent: tuple[RecurrentFact, ...]
    refusals: tuple[str, ...]

    @property
    def nodes(self) -> int:
        """How many nodes there are, subgraphs included."""
        return sum(self.node_counts.values())

    @property
    def parameters(self) -> int:
        """How many numbers of a floating-point type are stored as initializers."""
        return sum(tensor.elements for tensor in self.initializers if tensor.dtype in _PARAMETER_DTYPES)
