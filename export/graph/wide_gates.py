"""Compute what a loop does to its gates and states in float64, for who wants PyTorch's accuracy on the CPU.

onnxruntime's float32 sigmoid is off by so much of 1, not of itself: a forget gate near zero is wrong by thousands of
units in its last place, and what it multiplies may be a large cell state. Here a step's products stay in float32, and
all that follows, activations included, is float64; each state is rounded once a step, when it leaves. Every value keeps
its name for its float32 form, so what is not widened reads on as before. docs/equivalence.md has errors and price.

Rules of this file: a node is widened only where all that it reads is known to be a float32 value or a constant. What
hoist.py moved before the loop stays in float32.
Post-condition: the same inputs, outputs and values, but for rounding.
"""

from collections.abc import Iterator
from typing import Final

import onnx

from .graph_view import attribute_of, copy_of, names_read, replace_nodes

_SINGLE: Final = onnx.TensorProto.FLOAT
_DOUBLE: Final = onnx.TensorProto.DOUBLE
# Arithmetic that the runtime has in float64, and Split, so that four gates cost one cast. What only moves values gains
# nothing by it.
_WIDENED: Final = frozenset(
    {"Abs", "Add", "Div", "Exp", "Log", "Max", "Min", "Mul", "Neg", "Relu", "Sigmoid", "Split", "Sub", "Tanh"}
)
_ALWAYS_SINGLE: Final = frozenset({"Gemm", "LayerNormalization", "MatMul"})  # the operators here known to give float32


def widen_gates(graph: onnx.GraphProto) -> None:
    """Widen every Scan of the graph."""
    for node in graph.node:
        if node.op_type == "Scan":
            body: onnx.GraphProto = attribute_of(node, "body")
            replace_nodes(body, _Widening(graph, body).run())


class _Widening:
    """One pass over the body of one Scan."""

    def __init__(self, graph: onnx.GraphProto, body: onnx.GraphProto) -> None:
        self._body = body
        self._nodes: list[onnx.NodeProto] = []
        self._constants = {tensor.name for tensor in graph.initializer}
        # Constants are cast in the loop too: the file stays float32, and the runtime casts them once, when it opens it.
        self._single = {tensor.name for tensor in graph.initializer if tensor.data_type == _SINGLE}
        self._single |= {value.name for value in body.input if value.type.tensor_type.elem_type == _SINGLE}
        self._double: dict[str, str] = {}  # name of a value: that of its float64 form

    def run(self) -> list[onnx.NodeProto]:
        for node in self._body.node:
            if not self._widen(node):
                for name in _names_read_by(node):
                    self._narrow(name)
                self._nodes.append(copy_of(node))
                self._single |= {name for name in node.output if node.op_type in _ALWAYS_SINGLE}
        for value in self._body.output:
            self._narrow(value.name)
        return self._nodes

    def _widen(self, node: onnx.NodeProto) -> bool:
        """Append a node's float64 form, unless it has none or reads what is not known."""
        known = all(self._is_value(name) or name in self._constants for name in node.input)
        if node.op_type not in _WIDENED or not known or not any(map(self._is_value, node.input)):
            return False
        widened = copy_of(node)
        widened.input[:] = [self._wide(name) for name in node.input]
        widened.output[:] = [f"{name}.float64" for name in node.output]
        self._double |= dict(zip(node.output, widened.output, strict=True))
        self._nodes.append(widened)
        return True

    def _is_value(self, name: str) -> bool:
        return name in self._single or name in self._double

    def _wide(self, name: str) -> str:
        """Return the float64 form of a value, cast where it is read first; a constant of another type stays."""
        if not self._is_value(name):
            return name
        if name not in self._double:
            self._double[name] = f"{name}.float64"
            self._nodes.append(onnx.helper.make_node("Cast", [name], [self._double[name]], to=_DOUBLE))
        return self._double[name]

    def _narrow(self, name: str) -> None:
        """Give a value its float32 form, if it has the other alone."""
        if name in self._double and name not in self._single:
            self._nodes.append(onnx.helper.make_node("Cast", [self._double[name]], [name], to=_SINGLE))
            self._single.add(name)


def _names_read_by(node: onnx.NodeProto) -> Iterator[str]:
    yield from node.input
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield from names_read(attribute.g)
