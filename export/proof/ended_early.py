"""Whether a graph ends rows early by itself, which the evaluator of the onnx package does not see.

The evaluator knows no sequence_lens: it runs every row to the last step. Run alone at its full length a row ends there
anyway, where sequence_lens are the graph's own lengths; a network that counts its steps itself, as those of tokens that
are no padding, may end it earlier. Nothing is read off names: each run tells what its recurrent nodes were given.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from ..graph.graph_view import attribute_of
from .compare import Array
from .evaluator_operators import OPERATORS

_RECURRENT: Final = frozenset({"LSTM", "GRU", "RNN"})
_X, _SEQUENCE_LENS = 0, 4  # which of the node's inputs they are
WHY: Final = "the evaluator ignores sequence_lens, which end a row before its last step"


@dataclass(frozen=True, slots=True)
class _Ends:
    """The names of what a recurrent node reads, and which axis of x is the time."""

    lens: str
    x: str
    time: int


class WatchedEvaluator:
    """The evaluator for one graph, which tells of each run whether it was to be trusted.

    Args:
        model: the graph; its recurrent nodes with sequence_lens stand in the main graph, see hidden_ends.

    Attributes:
        ended_early: whether a node was told to end a row before the last step in any run so far.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._evaluator = ReferenceEvaluator(model, new_ops=OPERATORS)
        self._outputs = [value.name for value in model.graph.output]
        self._ends = [
            _Ends(node.input[_SEQUENCE_LENS], node.input[_X], 1 if attribute_of(node, "layout", 0) else 0)
            for node in _nodes_with_lens(model.graph.node)
        ]
        self.ended_early = False

    def run(self, feeds: dict[str, Array]) -> list[Any]:
        """Return the outputs of the graph in order."""
        watched = [name for end in self._ends for name in (end.lens, end.x)]
        found: list[Any] = self._evaluator.run([*self._outputs, *watched], feeds)  # type: ignore[assignment]
        seen = found[len(self._outputs) :]
        for end, lens, x in zip(self._ends, seen[::2], seen[1::2], strict=True):
            self.ended_early |= bool((np.asarray(lens) < np.asarray(x).shape[end.time]).any())
        return found[: len(self._outputs)]


def hidden_ends(model: onnx.ModelProto) -> bool:
    """Whether a recurrent node with sequence_lens stands in a subgraph, where no run can be watched."""
    return any(_nodes_with_lens(graph.node) for graph in _subgraphs(model.graph.node))


def _nodes_with_lens(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    recurrent = [node for node in nodes if node.op_type in _RECURRENT]
    return [node for node in recurrent if len(node.input) > _SEQUENCE_LENS and node.input[_SEQUENCE_LENS]]


def _subgraphs(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield attribute.g
                yield from _subgraphs(attribute.g.node)
