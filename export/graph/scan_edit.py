"""Edit one Scan of an ONNX graph: move nodes of its body before it, and feed it what they give.

Rules of this file: it keeps the Scan valid (inputs, body inputs, count and directions change together); which nodes may
move is decided in hoist.py.
"""

import numpy as np
import onnx

from .graph_view import GraphView, add_initializer, attribute_of, copy_of, names_read, replace_nodes, set_attribute

_OUTSIDE = "all_steps."  # prefix of the value for all steps


class ScanEdit:
    """One Scan under edit.

    Attributes:
        view: of the graph around it, for constants.
        body: the Scan's subgraph.
        before: nodes to be placed before the Scan.
        hoisted: names in the body that now come from outside.
    """

    def __init__(self, graph: onnx.GraphProto, scan: onnx.NodeProto) -> None:
        self.view = GraphView(graph)
        self.body: onnx.GraphProto = attribute_of(scan, "body")
        self.before: list[onnx.NodeProto] = []
        self.hoisted: list[str] = []
        self._graph = graph
        self._scan = scan
        self._states = len(scan.input) - attribute_of(scan, "num_scan_inputs")
        directions = attribute_of(scan, "scan_input_directions", [0] * len(self.scan_inputs))
        self._directions = dict(zip(self.scan_inputs, directions, strict=True))
        self._outside = dict(zip(self.scan_inputs, scan.input[self._states :], strict=True))

    @property
    def scan_inputs(self) -> list[str]:
        """Names in the body of what is sliced step by step."""
        return [value.name for value in self.body.input[self._states :]]

    def rank(self, name: str) -> int:
        """Return the rank that a body input declares."""
        return next(len(v.type.tensor_type.shape.dim) for v in self.body.input if v.name == name)

    def direction(self, name: str) -> int:
        """Return 1 where the value for all steps runs backwards."""
        return int(self._directions[name])

    def note_direction(self, name: str, source: str) -> None:
        """Note that ``name`` runs as ``source`` does."""
        self._directions[name] = self._directions[source]

    def move_out(self, nodes: list[onnx.NodeProto]) -> None:
        """Compute ``nodes`` of the body before the Scan for all steps, and feed the rest of the body from there."""
        for node in nodes:
            self._outside[node.output[0]] = self._free_name(node.output[0])
            self.before += self._for_all_steps(node)
        replace_nodes(self.body, [node for node in self.body.node if node not in nodes])
        read = set(names_read(self.body))
        for node in nodes:
            if node.output[0] in read:
                self._feed(node.output[0])

    def add_outside(self, hoisted: str, constant: str) -> None:
        """Add a constant vector to a hoisted value before the Scan."""
        position = [value.name for value in self.body.input].index(hoisted)
        before = self._scan.input[position]
        last = self.before[-1]
        if last.op_type == "Add" and last.output[0] == before and self.view.constant(last.input[1]) is not None:
            # One sum of both offsets, computed here, in the place of two additions to every row.
            first, second = self._constant(last.input[1]), self._constant(constant)
            last.input[1] = add_initializer(self._graph, f"{last.input[1]}.with.{constant}", first + second)
            return
        after = self._free_name(before)
        self.before.append(onnx.helper.make_node("Add", [before, constant], [after]))
        self._scan.input[position] = after

    def drop_unread_inputs(self) -> None:
        """Drop scan inputs that the body no longer reads."""
        read = set(names_read(self.body))
        keep = [k for k, value in enumerate(self.body.input) if k < self._states or value.name in read]
        if len(keep) == self._states:  # the number of steps comes from a scan input, so one must stay
            keep.append(self._states)
        values, inputs = [self.body.input[k] for k in keep], [self._scan.input[k] for k in keep]
        del self.body.input[:]
        self.body.input.extend(values)
        self._scan.input[:] = inputs
        self._declare()

    def _feed(self, name: str) -> None:
        value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, None])
        self.body.input.append(value)
        self._scan.input.append(self._outside[name])
        self.hoisted.append(name)
        self._declare()

    def _declare(self) -> None:
        set_attribute(self._scan, "num_scan_inputs", len(self.scan_inputs))
        set_attribute(self._scan, "scan_input_directions", [self._directions[name] for name in self.scan_inputs])

    def _for_all_steps(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Return the node over [T, B, width]; Gemm is for matrices only and becomes MatMul and Add."""
        inputs = [self._outside.get(name, name) for name in node.input]
        output = self._outside[node.output[0]]
        if node.op_type != "Gemm":
            copied = copy_of(node)
            copied.input[:], copied.output[:] = inputs, [output]
            return [copied]
        weight = inputs[1]
        if attribute_of(node, "transB", 0):
            weight = add_initializer(self._graph, f"{weight}.transposed", np.transpose(self._constant(weight)))
        if len(inputs) == 2:  # noqa: PLR2004 - no bias
            return [onnx.helper.make_node("MatMul", [inputs[0], weight], [output])]
        product = f"{output}.product"
        return [
            onnx.helper.make_node("MatMul", [inputs[0], weight], [product]),
            onnx.helper.make_node("Add", [product, inputs[2]], [output]),
        ]

    def _constant(self, name: str) -> np.ndarray:
        value = GraphView(self._graph).constant(name)
        assert value is not None
        return value

    def _free_name(self, name: str) -> str:
        return _OUTSIDE + name
