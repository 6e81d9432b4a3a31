"""The manifest: what a bundle says about itself, as frozen records.

Rules of this file: records and the lists of what may be in them, nothing else; what makes sense together is checked in
signature.py and manifest_json.py, which also turns them into bytes and back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from .axes import Axis, answer_sizes, fewer_steps
from .columns import ColumnSpec

# The oldest one that can say what a manifest says is written, so that servers that know no newer one take it.
FORMAT_VERSION = WITH_MOST_STEPS = 7  # graph.most_steps, for networks that take no longer sequence
WITH_COLUMNS = 6  # graph.columns, where the sequence is several inputs side by side
WITH_TABLES = 5  # y may have several sizes, such as [B, K, O]
WITH_FEWER_STEPS = 4  # y may have fewer steps than the sequence
WITH_LEAST_STEPS = 3  # graph.least_steps, for networks that need more than one step
_WITHOUT_LEAST_STEPS = 2
FORMAT_VERSIONS = (
    _WITHOUT_LEAST_STEPS,
    WITH_LEAST_STEPS,
    WITH_FEWER_STEPS,
    WITH_TABLES,
    WITH_COLUMNS,
    WITH_MOST_STEPS,
)
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"

DType = Literal["float32", "float16", "int32", "int64"]
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorSpec:
    """One graph input or output: its name, dtype and shape; free axes are "B", and "T" or, of y, fewer (axes.py)."""

    name: str
    dtype: DType
    shape: tuple[Axis, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class StatePair:
    """One state tensor: the input that takes it and the output that returns it. Their specs have equal shapes."""

    input: str
    output: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphSignature:
    """Names, dtypes and shapes of the graph, and which input plays which part. Nobody guesses it.

    Attributes:
        inputs: in graph order.
        outputs: in graph order.
        sequence: name of the sequence input, [B, T, I] float32 or [B, T] int64.
        lengths: name of the int32 [B] input with each row's real steps, or None: all rows must be T long.
        state: state tensors in graph order; empty for a network that carries none.
        vocabulary_size: tokens must be in 0 .. vocabulary_size - 1; None where the sequence input is float32.
        least_steps: fewest steps of a row, at least 1; 1 for a network with a state.
        columns: what the columns of the sequence hold, in order, where they are several inputs; else empty.
        most_steps: most steps of a row, for a network that has no more positions than that; it has no state. None: any.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    sequence: str
    lengths: str | None
    state: tuple[StatePair, ...] = ()
    vocabulary_size: int | None = None
    least_steps: int = 1
    columns: tuple[ColumnSpec, ...] = ()
    most_steps: int | None = None

    def at_most(self, steps: int) -> int:
        """Return so many steps, or the most that the network takes, where they are fewer."""
        return steps if self.most_steps is None else min(steps, self.most_steps)


# Entries of the runtime's configuration that a bundle may set. Others open or write files that the bundle would name
# (session.optimized_model_filepath, session.collect_node_memory_stats_to_file, ep.context_file_path), or load code.
SESSION_CONFIG_KEYS = frozenset(
    {
        "mlas.disable_kleidiai",
        "optimization.disable_specified_optimizers",
        "optimization.enable_cast_chain_elimination",
        "optimization.enable_gelu_approximation",
        "session.disable_cpu_ep_fallback",
        "session.disable_prepacking",
        "session.dynamic_block_base",
        "session.force_spinning_stop",
        "session.inter_op.allow_spinning",
        "session.intra_op.allow_spinning",
        "session.set_denormal_as_zero",
        "session.use_deterministic_compute",
        "session.use_device_allocator_for_initializers",
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionOptions:
    """How onnxruntime is opened, when the bundle is verified and when it is served alike.

    Attributes:
        graph_optimization_level: of the runtime.
        execution_mode: of the runtime.
        config: entries for add_session_config_entry, of SESSION_CONFIG_KEYS only.
    """

    graph_optimization_level: Literal["disable", "basic", "extended", "all"] = "all"
    execution_mode: Literal["sequential", "parallel"] = "sequential"
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """One file of the bundle. size_bytes and sha256 (64 lower-case hex digits) are checked before any use."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRule:
    """Whether a bundle must hold the file, and the most bytes a reader takes."""

    required: bool
    max_bytes: int


# What a bundle holds beside manifest.json. Nothing else is ever read, written or deleted.
FILE_RULES: Mapping[str, FileRule] = MappingProxyType(
    {
        "model.onnx": FileRule(required=True, max_bytes=2**31 - 1),  # protobuf's own limit
        "golden.safetensors": FileRule(required=True, max_bytes=2**28),
        "equivalence.json": FileRule(required=True, max_bytes=2**28),
        "equivalence.html": FileRule(required=True, max_bytes=2**28),
        "model.ts": FileRule(required=False, max_bytes=2**40),  # never held in memory
        "model.scan.onnx": FileRule(required=False, max_bytes=2**31 - 1),
    }
)
# Files that a variant may name.
VARIANT_FILES = frozenset({"model.scan.onnx"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """The same network as another graph, for a device that lacks a kernel for an operator of model.onnx.

    Signature, opset, tolerances and session options are those of model.onnx.

    Attributes:
        file: of VARIANT_FILES.
        device: that runs it in the place of model.onnx.
        operators: as of the manifest.
        bitwise_rows: as of the manifest, proved of this graph.
        bitwise_chunks: likewise.
    """

    file: str
    device: Literal["cuda"]
    operators: tuple[str, ...]
    bitwise_rows: bool
    bitwise_chunks: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Everything a bundle says about itself.

    Attributes:
        name: NAME_PATTERN; the default name under which it is served.
        version: positive integer.
        network: description of the network (JSON object), for people and for `inspect`.
        graph: the signature of model.onnx.
        opset: version of the default ONNX operator set.
        operators: sorted operator names of the default domain that model.onnx uses, subgraphs included.
        streamable: proved by chunked against whole; false where a chunk needs what comes after it.
        bitwise_rows: proved: a row's bits depend neither on its batch mates nor, where lengths are taken, on padding
            (on the CPU provider).
        bitwise_chunks: proved: chunks with carried state equal one pass bit for bit.
        precision: dtype of the weights and activations.
        tolerances: worst absolute error allowed for each output against the golden cases.
        session: options of the runtime.
        labels: names of the O classes, or None.
        normalisation: {"mean": [I], "std": [I]} that the caller must apply to x beforehand, or None.
        tools: versions of the tools that made it.
        files: every file but manifest.json itself.
        variants: graphs for devices that need another one than model.onnx, at most one for each.
        format_version: follows from the rest.
    """

    name: str
    version: int
    network: Mapping[str, Any]
    graph: GraphSignature
    opset: int
    operators: tuple[str, ...]
    streamable: bool
    bitwise_rows: bool
    bitwise_chunks: bool
    precision: Literal["float32", "float16"]
    tolerances: Mapping[str, float]
    session: SessionOptions
    tools: Mapping[str, str]
    files: Mapping[str, FileEntry]
    labels: tuple[str, ...] | None = None
    normalisation: Mapping[str, tuple[float, ...]] | None = None
    variants: tuple[Variant, ...] = ()
    format_version: int = field(init=False)

    def __post_init__(self) -> None:
        """Take the oldest version of the format that can say it."""
        object.__setattr__(self, "format_version", _oldest_version(self.graph))


def _oldest_version(graph: GraphSignature) -> int:
    if graph.most_steps is not None:
        return WITH_MOST_STEPS
    if graph.columns:
        return WITH_COLUMNS
    if graph.outputs and len(answer_sizes(graph.outputs[0].shape)) > 1:
        return WITH_TABLES
    if any(fewer_steps(spec.shape) for spec in graph.outputs):
        return WITH_FEWER_STEPS
    return WITH_LEAST_STEPS if graph.least_steps != 1 else _WITHOUT_LEAST_STEPS
