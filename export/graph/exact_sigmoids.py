"""Write a sigmoid as 1 / (1 + exp(-x)) where its last digits count: where it is divided by, or a root or log is taken.

onnxruntime's float32 Sigmoid on the CPU is exact to so much of 1, not of itself: at -10 two of its digits are right.
That is little beside what else a gate is added to, but `f / (f + i)` of a minLSTM and `sqrt(1 - a * a)` of an RG-LRU,
whose `a` is the exponential of a gate, bring it up. PyTorch computes the form written here, which is exact to 2.4 u of
itself. Elsewhere one node stays one node.

Rules of this file: from a division back to the gate the way goes through all nodes that keep a small value small, into
a Scan and out of it, and through its state into the step before; products of matrices and norms, which add many up, end
it.
Post-condition: the same inputs, outputs and values, but for rounding.
"""

from typing import Final

import numpy as np
import onnx
from onnx import helper

from .graph_view import add_initializer, attribute_of, copy_of, replace_nodes

# What brings up the relative error of a small value, and at which of its inputs.
_BRING_UP: Final = {"Div": 1, "Log": 0, "Pow": 0, "Reciprocal": 0, "Sqrt": 0}
_END: Final = frozenset({"Gemm", "LayerNormalization", "Loop", "LSTM", "GRU", "MatMul", "RNN", "Scan", "Sigmoid"})
_ONE: Final = "cellgate.one"


def write_exact_sigmoids(graph: onnx.GraphProto) -> None:
    """Rewrite the graph and the bodies of its Scans."""
    flow = _Flow(graph)
    for place in (*flow.bodies, graph):  # the graph last: its nodes are copied with the bodies in them
        brought_up = flow.brought_up(place)
        nodes: list[onnx.NodeProto] = []
        for node in place.node:
            is_chosen = node.op_type == "Sigmoid" and node.output[0] in brought_up
            nodes += _written_out(node) if is_chosen else [copy_of(node)]
        if len(nodes) > len(place.node):
            add_initializer(graph, _ONE, np.array(1.0, np.float32))
            replace_nodes(place, nodes)


class _Flow:
    """Which values bring up their error, in a graph and in the bodies of its Scans together."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._scans = [(node, attribute_of(node, "body")) for node in graph.node if node.op_type == "Scan"]
        self.bodies: list[onnx.GraphProto] = [body for _, body in self._scans]
        self._found: list[set[str]] = [set() for _ in range(len(self.bodies) + 1)]  # of the graph, then of each body
        before = -1
        while (count := sum(map(len, self._found))) > before:
            before = count
            self._follow()

    def brought_up(self, place: onnx.GraphProto) -> set[str]:
        """Return the names of such values in the graph or in a body."""
        return self._found[next(k for k, one in enumerate((self._graph, *self.bodies)) if one is place)]

    def _follow(self) -> None:
        """Go once from what is computed of a value to the value."""
        outside = self._found[0]
        for (scan, body), inside in zip(self._scans, self._found[1:], strict=True):
            states = len(scan.input) - int(attribute_of(scan, "num_scan_inputs"))
            given = [value.name for value in body.input]
            made = [value.name for value in body.output]
            inside |= {name for name, outer in zip(made, scan.output, strict=True) if outer in outside}
            inside |= {after for name, after in zip(given, made[:states], strict=False) if name in inside}
            _follow_nodes(body, inside)
            outside |= {outer for name, outer in zip(given, scan.input, strict=True) if name in inside}
            own = {name for node in body.node for name in node.output}
            outside |= inside.difference(given, own)  # what the body sees of the graph around it
        _follow_nodes(self._graph, outside)


def _follow_nodes(graph: onnx.GraphProto, found: set[str]) -> None:
    for node in reversed(graph.node):
        place = _BRING_UP.get(node.op_type)
        if place is not None:
            found.add(node.input[place])
        if node.op_type not in _END and found.intersection(node.output):
            found.update(node.input)


def _written_out(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    (x,), (y,) = node.input, node.output
    return [
        helper.make_node("Neg", [x], [f"{y}.negated"]),
        helper.make_node("Exp", [f"{y}.negated"], [f"{y}.exp"]),
        helper.make_node("Add", [f"{y}.exp", _ONE], [f"{y}.denominator"]),
        helper.make_node("Div", [_ONE, f"{y}.denominator"], [y]),
    ]
