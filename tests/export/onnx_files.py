"""ONNX files as somebody else makes them."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def value(name, shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def weight(name, *shape, seed=0):
    array = np.random.default_rng(seed).standard_normal(shape).astype(np.float32) / 4
    return numpy_helper.from_array(array, name)


def save(path, nodes, inputs, outputs, initializers=()):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def gru_file(path, **changes):
    """Write somebody's own graph: a batch-first GRU of width 4 over x [B, T, 3], without lengths."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("GRU", ["steps", "W", "R", "bias", "", "h0"], ["all", "h_n"], hidden_size=4),
        helper.make_node("Squeeze", ["all", "one"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["y"], perm=[1, 0, 2]),
    ]
    parts = {
        "inputs": [value("x", ["batch", None, 3]), value("h0", [1, "batch", 4])],
        "outputs": [value("y", ["batch", "time", 4]), value("h_n", [1, "batch", 4])],
        "initializers": [
            weight("W", 1, 12, 3),
            weight("R", 1, 12, 4, seed=1),
            weight("bias", 1, 24, seed=2),
            numpy_helper.from_array(np.array([1], np.int64), "one"),
        ],
        "nodes": nodes,
    } | changes
    return save(path, **parts)
