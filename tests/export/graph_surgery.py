"""Defects put into an ONNX graph on purpose, each as a real exporter has had it: functions from bytes to bytes."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Defect = Callable[[bytes], bytes]


def _edited(change: Callable[[onnx.GraphProto], None]) -> Defect:
    def defect(model: bytes) -> bytes:
        proto = onnx.load_from_string(model)
        change(proto.graph)
        return proto.SerializeToString()

    return defect


def node(graph: onnx.GraphProto, operator: str) -> onnx.NodeProto:
    return next(each for each in graph.node if each.op_type == operator)


def weight(name_ends: str, change: Callable[[np.ndarray], np.ndarray]) -> Defect:
    """Change one initializer."""

    def edit(graph: onnx.GraphProto) -> None:
        tensor = next(each for each in graph.initializer if each.name.endswith(name_ends))
        changed = change(numpy_helper.to_array(tensor).copy())
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(changed), tensor.name))

    return _edited(edit)


def swap_gates(array: np.ndarray) -> np.ndarray:
    """Exchange the first two of the four blocks of [D, 4*H, .]: input and output gate."""
    blocks = np.split(array, 4, axis=1)
    return np.concatenate([blocks[1], blocks[0], *blocks[2:]], axis=1)


def one_element_off(array: np.ndarray) -> np.ndarray:
    array.flat[array.size // 3] += np.float32(1e-3)
    return array


def to_half(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float16).astype(np.float32)


def all_weights_to_half(model: bytes) -> bytes:
    proto = onnx.load_from_string(model)
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(to_half(numpy_helper.to_array(tensor)), tensor.name))
    return proto.SerializeToString()


def drop_output(model: bytes) -> bytes:
    return _edited(lambda graph: graph.output.pop())(model)


def add_output(model: bytes) -> bytes:
    def edit(graph: onnx.GraphProto) -> None:
        graph.node.append(helper.make_node("Identity", ["h0"], ["more"]))
        graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, None))

    return _edited(edit)(model)


def after_y(operator: str, *constants: np.ndarray, **attributes: object) -> Defect:
    """Put one more operator behind y; its type follows from ``to`` where it casts."""

    def edit(graph: onnx.GraphProto) -> None:
        for each in graph.node:
            each.output[:] = ["y_before" if name == "y" else name for name in each.output]
        for k, constant in enumerate(constants):
            graph.initializer.append(numpy_helper.from_array(constant, f"defect_{k}"))
        names = ["y_before", *(f"defect_{k}" for k in range(len(constants)))]
        graph.node.append(helper.make_node(operator, names, ["y"], **attributes))
        kind = attributes.get("to", TensorProto.FLOAT)
        graph.output[0].CopyFrom(helper.make_tensor_value_info("y", kind, None))

    return _edited(edit)


def input_of(operator: str, place: int, name: str) -> Defect:
    """Feed an operator something else; "" leaves an optional input out."""
    return _edited(lambda graph: node(graph, operator).input.__setitem__(place, name))


def exchange_states(model: bytes) -> bytes:
    def edit(graph: onnx.GraphProto) -> None:
        recurrent = node(graph, "LSTM")
        recurrent.input[5], recurrent.input[6] = recurrent.input[6], recurrent.input[5]

    return _edited(edit)(model)


def zero_state(model: bytes) -> bytes:
    """Leave both initial states out, as exporters do that bake the zeros of the example."""

    def edit(graph: onnx.GraphProto) -> None:
        recurrent = node(graph, "LSTM")
        recurrent.input[5] = recurrent.input[6] = ""

    return _edited(edit)(model)


def one_step_short(model: bytes) -> bytes:
    """Cut the last step off what the recurrent operator sees, and pad y with a zero step again."""

    def edit(graph: onnx.GraphProto) -> None:
        recurrent = node(graph, "LSTM")
        for name, values in (("one", [1]), ("minus_one", [-1]), ("nought", [0]), ("pads", [0, 0, 0, 0, 1, 0, 0, 0])):
            graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
        graph.initializer.append(numpy_helper.from_array(np.array([1], np.int32), "one_step"))
        at = list(graph.node).index(recurrent)
        before = [
            helper.make_node("Shape", [recurrent.input[0]], ["count"], start=0, end=1),
            helper.make_node("Sub", ["count", "one"], ["less"]),
            helper.make_node("Max", ["less", "one"], ["kept"]),
            helper.make_node("Slice", [recurrent.input[0], "nought", "kept", "nought"], ["shorter"]),
            helper.make_node("Cast", ["kept"], ["kept32"], to=TensorProto.INT32),
            helper.make_node("Min", ["lengths", "kept32"], ["lengths_shorter"]),
            helper.make_node("Sub", ["count", "kept"], ["missing"]),
            helper.make_node("Concat", ["zeros4", "missing", "zeros3"], ["padding"], axis=0),
        ]
        graph.initializer.append(numpy_helper.from_array(np.zeros(4, np.int64), "zeros4"))
        graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.int64), "zeros3"))
        recurrent.input[0], recurrent.input[4] = "shorter", "lengths_shorter"
        full, recurrent.output[0] = recurrent.output[0], "all_but_one"
        after = [helper.make_node("Pad", ["all_but_one", "padding"], [full])]
        nodes = list(graph.node)
        del graph.node[:]
        graph.node.extend([*nodes[:at], *before, nodes[at], *after, *nodes[at + 1 :]])

    return _edited(edit)(model)


def approximate_tanh(model: bytes) -> bytes:
    """Compute the cell gate and the output with a piecewise linear tanh."""

    def edit(graph: onnx.GraphProto) -> None:
        recurrent = node(graph, "LSTM")
        recurrent.attribute.append(helper.make_attribute("activations", ["Sigmoid", "ScaledTanh", "ScaledTanh"]))
        recurrent.attribute.append(helper.make_attribute("activation_alpha", [1.0, 1.0]))
        recurrent.attribute.append(helper.make_attribute("activation_beta", [0.999, 0.999]))

    return _edited(edit)(model)


def hard_sigmoid(model: bytes) -> bytes:
    """Compute the gates with a piecewise linear sigmoid, as a fast approximation would."""

    def edit(graph: onnx.GraphProto) -> None:
        recurrent = node(graph, "LSTM")
        recurrent.attribute.append(helper.make_attribute("activations", ["HardSigmoid", "Tanh", "Tanh"]))
        recurrent.attribute.append(helper.make_attribute("activation_alpha", [0.2]))
        recurrent.attribute.append(helper.make_attribute("activation_beta", [0.5]))

    return _edited(edit)(model)


def both_directions_forward(model: bytes) -> bytes:
    """Exchange the order of the two directions in what the operator gives, as older converters did."""

    def edit(graph: onnx.GraphProto) -> None:
        recurrent = node(graph, "LSTM")
        at = list(graph.node).index(recurrent)
        graph.initializer.append(numpy_helper.from_array(np.array([1, 0], np.int64), "exchanged"))
        full, recurrent.output[0] = recurrent.output[0], "wrong_order"
        nodes = list(graph.node)
        del graph.node[:]
        gather = helper.make_node("Gather", ["wrong_order", "exchanged"], [full], axis=1)
        graph.node.extend([*nodes[: at + 1], gather, *nodes[at + 1 :]])

    return _edited(edit)(model)
