"""A look at an ONNX graph by the names of its values: who makes them, who reads them, which are constant.

Rules of this file: it answers and deletes what nobody reads; what to rewrite is decided in the passes.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray


class GraphView:
    """The main graph of a model, indexed; after an edit a new view must be taken."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._producers = {name: node for node in graph.node for name in node.output if name}
        self._readers = Counter(names_read(graph))

    def producer(self, name: str, op_type: str) -> onnx.NodeProto | None:
        """Return the node that makes ``name`` if it is of that operator."""
        node = self._producers.get(name)
        return node if node is not None and node.op_type == op_type else None

    def readers(self, name: str) -> int:
        """Return how often ``name`` is read, by nodes, by subgraphs and as an output of the graph."""
        return self._readers[name]

    def constant(self, name: str) -> NDArray[Any] | None:
        """Return the value of an initializer, or None where ``name`` is not one."""
        tensor = self._initializers.get(name)
        return None if tensor is None else onnx.numpy_helper.to_array(tensor)

    def holds(self, name: str, *values: int) -> bool:
        """Whether ``name`` is an initializer with just these integers."""
        found = self.constant(name)
        return found is not None and found.ravel().tolist() == list(values)


def names_read(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield every name that a node of the graph or of its subgraphs reads, and the outputs."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from names_read(attribute.g)
    for value in graph.output:
        yield value.name


def attribute_of(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Return the value of an attribute of a node."""
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Give an attribute of a node another value, in place: what others hold of the node stays valid."""
    made = onnx.helper.make_attribute(name, value)
    found = next((attribute for attribute in node.attribute if attribute.name == name), None)
    if found is None:
        node.attribute.append(made)
    else:
        found.CopyFrom(made)


def add_initializer(graph: onnx.GraphProto, name: str, value: NDArray[Any]) -> str:
    """Add a constant, unless one of that name is there, and return its name."""
    if all(tensor.name != name for tensor in graph.initializer):
        graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
    return name


def copy_of(node: onnx.NodeProto) -> onnx.NodeProto:
    """Return a node that outlives the graph's own list of nodes."""
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    return copied


def replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Give the graph these nodes in this order."""
    del graph.node[:]
    graph.node.extend(nodes)


def drop_unread(graph: onnx.GraphProto) -> None:
    """Drop nodes and initializers that nothing reads, until every one that is left is read."""
    while True:
        read = set(names_read(graph))
        kept = [node for node in graph.node if any(name in read for name in node.output)]
        if len(kept) == len(graph.node):
            break
        replace_nodes(graph, kept)
    constants = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(constants)
