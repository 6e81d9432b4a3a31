"""A small ONNX graph that moves the states of lanes about, so that they never leave the device that computes.

onnxruntime has no operation outside of a graph, and the lanes of two runs are seldom the same. So before each run this
graph takes every place where a state may be, one after the other, and picks from them twice:

    all = Concat(table, last, given)      the slots; what the last run returned; what requests brought with them
    next = Gather(all, take)              the states of the coming run, in its order
    kept = Gather(all, keep)              the slots as they are from now on

for each state tensor along its axis of rows. Nothing is written in place: inputs and outputs are different memory.

Rules of this file: pure, no onnx package (serving has none): the few messages are written in protobuf's wire format.
Source: onnx.proto of ONNX 1.23 (field numbers), opset 13 (Concat-13, Gather-13, both with kernels on every provider).
"""

from collections.abc import Sequence

from ...bundle.manifest import TensorSpec

IR_VERSION, OPSET = 8, 13
_ELEMENTS = {"float32": 1, "int32": 6, "int64": 7, "float16": 10}
_VARINT, _BYTES = 0, 2
_INT_ATTRIBUTE = 2


def state_graph(specs: Sequence[TensorSpec]) -> bytes:
    """Return the graph for state tensors of these dtypes and shapes, each with one axis "B".

    For the k-th: inputs `table_k`, `last_k`, `given_k`, outputs `next_k`, `kept_k`; for all: inputs `take` and `keep`,
    int64 [rows].
    """
    nodes, inputs, outputs = [], [_value("take", "int64", ("R",)), _value("keep", "int64", ("S",))], []
    for k, spec in enumerate(specs):
        axis = spec.shape.index("B")
        nodes.append(_node("Concat", (f"table_{k}", f"last_{k}", f"given_{k}"), f"all_{k}", axis))
        for index, output in (("take", "next"), ("keep", "kept")):
            nodes.append(_node("Gather", (f"all_{k}", index), f"{output}_{k}", axis))
        # Free axes of different names, for each part has its own number of rows.
        shapes = {part: (*spec.shape[:axis], part, *spec.shape[axis + 1 :]) for part in ("table", "last", "given")}
        inputs += [_value(f"{part}_{k}", spec.dtype, shape) for part, shape in shapes.items()]
        outputs += [
            _value(f"{part}_{k}", spec.dtype, (*spec.shape[:axis], rows, *spec.shape[axis + 1 :]))
            for part, rows in (("next", "R"), ("kept", "S"))
        ]
    graph = b"".join(_field(1, node) for node in nodes) + _text(2, "states")
    graph += b"".join(_field(11, value) for value in inputs) + b"".join(_field(12, value) for value in outputs)
    return _number(1, IR_VERSION) + _field(7, graph) + _field(8, _text(1, "") + _number(2, OPSET))


def _node(operator: str, inputs: Sequence[str], output: str, axis: int) -> bytes:
    attribute = _text(1, "axis") + _number(3, axis) + _number(20, _INT_ATTRIBUTE)
    names = b"".join(_text(1, name) for name in inputs)
    return names + _text(2, output) + _text(3, output) + _text(4, operator) + _field(5, attribute)


def _value(name: str, dtype: str, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(_field(1, _text(2, axis) if isinstance(axis, str) else _number(1, axis)) for axis in shape)
    return _text(1, name) + _field(2, _field(1, _number(1, _ELEMENTS[dtype]) + _field(2, dims)))


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte, the eighth says that more follow
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
