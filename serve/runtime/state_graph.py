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
from ..kernel.wire import field, integer, text

IR_VERSION, OPSET = 8, 13
_ELEMENTS = {"float32": 1, "int32": 6, "int64": 7, "float16": 10}
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
    graph = b"".join(field(1, node) for node in nodes) + text(2, "states")
    graph += b"".join(field(11, value) for value in inputs) + b"".join(field(12, value) for value in outputs)
    return integer(1, IR_VERSION) + field(7, graph) + field(8, text(1, "") + integer(2, OPSET))


def _node(operator: str, inputs: Sequence[str], output: str, axis: int) -> bytes:
    attribute = text(1, "axis") + integer(3, axis) + integer(20, _INT_ATTRIBUTE)
    names = b"".join(text(1, name) for name in inputs)
    return names + text(2, output) + text(3, output) + text(4, operator) + field(5, attribute)


def _value(name: str, dtype: str, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(field(1, text(2, axis) if isinstance(axis, str) else integer(1, axis)) for axis in shape)
    return text(1, name) + field(2, field(1, integer(1, _ELEMENTS[dtype]) + field(2, dims)))
