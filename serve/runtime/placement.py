"""Where the runtime put each node of a graph, and whether work was left on the wrong device.

A provider that lacks a kernel leaves the node to the CPU without a word, and every run then copies what the node reads
and writes. For arithmetic on shapes that is usual and cheap; for the recurrence itself it is the end of the device.

Rules of this file: pure, no onnxruntime; it knows the two forms in which the runtime tells (`nodes_of_assignment`,
`nodes_of_profile`) and nothing of sessions.

Sources: onnxruntime's record of assignments (session option session.record_ep_graph_assignment_info): taken after the
basic optimisations, one entry a node, those in the bodies of Scan and Loop among them, copies between devices not. Its
profile: what ran, after all optimisations, copies among it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
OWN_KERNELS = "CellgateKernels"  # no provider, but counted as one

# Nobody needs these to compute a shape: on the CPU they are the network's own work on the wrong device. The record does
# not say which nodes stand in the body of a Scan, so matrix products and activations count wherever they stand.
_RECURRENT = frozenset({"LSTM", "GRU", "RNN", "DynamicQuantizeLSTM", "Scan", "Loop"})
_PRODUCTS = frozenset(
    {"MatMul", "Gemm", "FusedMatMul", "FusedGemm", "MatMulInteger", "DynamicQuantizeMatMul", "QLinearMatMul", "Conv"}
)
_ACTIVATIONS = frozenset(
    {
        "Sigmoid",
        "Tanh",
        "HardSigmoid",
        "Softsign",
        "Relu",
        "Softmax",
        "LayerNormalization",
        "SimplifiedLayerNormalization",
    }
)
_COMPUTING = _RECURRENT | _PRODUCTS | _ACTIVATIONS
_NODE_SUFFIX = "_kernel_time"


@dataclass(frozen=True, order=True, slots=True)
class PlacedNode:
    """One node: its operator, its name, which may be empty, and the provider that runs it."""

    operator: str
    name: str
    provider: str

    def __str__(self) -> str:
        return f"{self.operator} {self.name}".strip()


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Which provider runs how many nodes.

    Attributes:
        counts: (provider, nodes), most nodes first; empty where the runtime does not tell.
        elsewhere: nodes that another provider than the asked one runs, as "Operator name", sorted.
        misplaced: those of them that compute: recurrences, matrix products, activations.
    """

    counts: tuple[tuple[str, int], ...] = ()
    elsewhere: tuple[str, ...] = ()
    misplaced: tuple[str, ...] = ()

    @classmethod
    def from_plain(cls, entry: Mapping[str, Any]) -> "Placement":
        """Return the record that `dataclasses.asdict` made plain, through JSON or not."""
        return cls(
            counts=tuple((provider, count) for provider, count in entry["counts"]),
            elsewhere=tuple(entry["elsewhere"]),
            misplaced=tuple(entry["misplaced"]),
        )

    def line(self) -> str:
        """Return one line for people: nodes by provider, and the operators that run elsewhere."""
        if not self.counts:
            return "nodes by provider are not known, for this onnxruntime does not tell"
        (provider, count), *others = self.counts
        words = [f"{count} node{'s'[: count != 1]} on {provider}", *(f"{many} on {other}" for other, many in others)]
        operators = ", ".join(sorted({node.partition(" ")[0] for node in self.elsewhere}))
        return ", ".join(words) + (f" ({operators} elsewhere than asked)" if operators else "")


def placement_of(nodes: Iterable[PlacedNode], provider: str) -> Placement:
    """Sum up where nodes run.

    Args:
        nodes: of a whole graph.
        provider: the one that was asked for.
    """
    found = sorted(nodes)
    counts = Counter(node.provider for node in found)
    elsewhere = [node for node in found if node.provider != provider]
    return Placement(
        counts=tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        elsewhere=tuple(map(str, elsewhere)),
        misplaced=tuple(str(node) for node in elsewhere if node.operator in _COMPUTING),
    )


def nodes_of_assignment(subgraphs: Iterable[Any]) -> list[PlacedNode]:
    """Read what `InferenceSession.get_provider_graph_assignment_info` returns."""
    return [
        PlacedNode(node.op_type, node.name, subgraph.ep_name) for subgraph in subgraphs for node in subgraph.get_nodes()
    ]


def nodes_of_profile(events: Sequence[Mapping[str, Any]]) -> list[PlacedNode]:
    """Read the parsed JSON of a profile: the nodes that ran, each once, however often it did.

    Args:
        events: the file's top array; whatever is no node's time is passed over.
    """
    found = {
        PlacedNode(event["args"]["op_name"], str(event["name"]).removesuffix(_NODE_SUFFIX), event["args"]["provider"])
        for event in events
        if event.get("cat") == "Node" and str(event.get("name", "")).endswith(_NODE_SUFFIX)
    }
    return sorted(found)
