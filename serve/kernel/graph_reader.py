"""An ONNX model as this project's exporter writes it, read from its bytes: nodes, attributes, stored tensors.

Rules of this file: pure. Field numbers are those of onnx.proto of ONNX 1.23. What it does not know stays bytes.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..arrays import Array
from .wire import fields, signed, varints

_DTYPES = {1: np.float32, 6: np.int32, 7: np.int64, 10: np.float16, 11: np.float64}
# Fields of onnx.proto by message; field 1 is a name, a node's inputs, or a tensor's dims.
_MODEL_GRAPH = 7
_GRAPH_STORED, _GRAPH_INPUT, _GRAPH_OUTPUT = 5, 11, 12
_NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 2, 4, 5, 7
_ATTRIBUTE_FLOAT, _ATTRIBUTE_INT, _ATTRIBUTE_STRING, _ATTRIBUTE_INTS = 2, 3, 4, 8
_GRAPHS = (6, 11)  # of an attribute: one, or several
_TENSOR_KIND, _TENSOR_INT64, _TENSOR_NAME = 2, 7, 8
_TENSOR_BYTES = (4, 9)  # float_data, which is packed as raw_data is
_TENSOR_ELSEWHERE = (13, 14)
Attribute = float | int | bytes | tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """One node.

    Attributes:
        operator: with its domain before it where that is not ONNX's own, as in "com.microsoft.FusedGemm".
        inputs: names; "" where one is left out.
        outputs: likewise.
        attributes: those that are a number, a string or some integers; others are only named, with the value b"".
        message: all of it.
        inner: names that its subgraphs mention.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]
    message: bytes
    inner: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """A model's main graph.

    Attributes:
        nodes: in the model's order.
        stored: tensor messages by name.
        inputs: names, without those that are stored.
        outputs: names.
        head: what else the model says beside its graph: versions, operator sets, functions; as bytes of fields.
    """

    nodes: tuple[Node, ...]
    stored: Mapping[str, bytes]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    head: tuple[tuple[int, int | bytes], ...]


def read_graph(model: bytes) -> Graph:
    """Read a model's bytes.

    Raises:
        WireError: they are no message.
    """
    head = tuple(fields(model))
    parts = [(number, value) for number, value in fields(_last(head, _MODEL_GRAPH)) if isinstance(value, bytes)]
    stored = {_name(value, _TENSOR_NAME): value for number, value in parts if number == _GRAPH_STORED}
    named = [_name(value, 1) for number, value in parts if number == _GRAPH_INPUT]
    return Graph(
        nodes=tuple(_node(value) for number, value in parts if number == 1),
        stored=stored,
        inputs=tuple(name for name in named if name not in stored),
        outputs=tuple(_name(value, 1) for number, value in parts if number == _GRAPH_OUTPUT),
        head=tuple((number, value) for number, value in head if number != _MODEL_GRAPH),
    )


def stored_array(message: bytes) -> Array | None:
    """Return a stored tensor's values; None where they are of another kind, or in another file."""
    dims: list[int] = []
    kind, raw, numbers = 0, b"", b""
    for number, value in fields(message):
        if number == 1:
            dims += [signed(value)] if isinstance(value, int) else list(varints(value))
        elif number == _TENSOR_KIND and isinstance(value, int):
            kind = value
        elif number in _TENSOR_BYTES and isinstance(value, bytes):
            raw += value
        elif number == _TENSOR_INT64:
            numbers += value if isinstance(value, bytes) else b""
        elif number in _TENSOR_ELSEWHERE:
            return None
    if kind not in _DTYPES:
        return None
    flat = np.array(list(varints(numbers)), dtype=np.int64) if numbers else np.frombuffer(raw, dtype=_DTYPES[kind])
    return flat.reshape(dims) if flat.size == np.prod(dims, dtype=int) else None


def _node(message: bytes) -> Node:
    inputs, outputs, operator, domain = [], [], "", ""
    attributes: dict[str, Attribute] = {}
    inner: set[str] = set()
    for number, value in fields(message):
        assert isinstance(value, bytes)
        if number == 1:
            inputs.append(value.decode())
        elif number == _NODE_OUTPUT:
            outputs.append(value.decode())
        elif number == _NODE_OPERATOR:
            operator = value.decode()
        elif number == _NODE_ATTRIBUTE:
            name, attributes_value = _attribute(value, inner)
            attributes[name] = attributes_value
        elif number == _NODE_DOMAIN:
            domain = value.decode()
    return Node(
        operator=operator if domain in ("", "ai.onnx") else f"{domain}.{operator}",
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        attributes=attributes,
        message=message,
        inner=frozenset(inner),
    )


def _attribute(message: bytes, inner: set[str]) -> tuple[str, Attribute]:
    found = list(fields(message))
    inner.update(*(_mentioned(value) for number, value in found if number in _GRAPHS and isinstance(value, bytes)))
    integers: list[int] = []
    single: Attribute = b""
    for number, value in found:
        if number == _ATTRIBUTE_INTS:
            integers += [signed(value)] if isinstance(value, int) else list(varints(value))
        elif number == _ATTRIBUTE_INT and isinstance(value, int):
            single = signed(value)
        elif number == _ATTRIBUTE_FLOAT and isinstance(value, bytes):
            (single,) = struct.unpack("<f", value)
        elif number == _ATTRIBUTE_STRING and isinstance(value, bytes):
            single = value
    return _last(tuple(found), 1).decode(), tuple(integers) if integers else single


def _mentioned(graph: bytes) -> set[str]:
    """Return the names that a subgraph's nodes read and that it gives, those of its own among them."""
    found: set[str] = set()
    for number, value in fields(graph):
        if number == 1 and isinstance(value, bytes):
            node = _node(value)
            found.update(node.inputs, node.inner)
        elif number == _GRAPH_OUTPUT and isinstance(value, bytes):
            found.add(_name(value, 1))
    return found


def _name(message: bytes, number: int) -> str:
    return _last(tuple(fields(message)), number).decode()


def _last(found: tuple[tuple[int, int | bytes], ...], number: int) -> bytes:
    return next((value for key, value in reversed(found) if key == number and isinstance(value, bytes)), b"")
