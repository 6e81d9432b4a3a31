"""What of a graph the kernels take, and what stays with the runtime, on graphs that the onnx package wrote."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from cellgate.serve.kernel.cut import boundary, cut, part_of_model
from cellgate.serve.kernel.graph_reader import read_graph, stored_array
from cellgate.serve.kernel.steps import Concat, Lstm, Split, Squeeze, Swap

I, H = 3, 4
VALUES = np.random.default_rng(0)


def normal(*shape):
    return VALUES.normal(size=shape).astype(np.float32)


def lstm_weights(directions=1):
    return {
        "w": normal(directions, 4 * H, I),
        "r": normal(directions, 4 * H, H),
        "b": normal(directions, 8 * H),
        "p": normal(directions, 3 * H),
    }


def model_of(nodes, outputs, stored, inputs=None):
    inputs = inputs or {"x": ("T", "B", I), "h0": (1, "B", H), "c0": (1, "B", H)}
    graph = helper.make_graph(
        nodes,
        "g",
        [
            *[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
            helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()


def lstm_node(*more, **attributes):
    inputs = ["x", "w", "r", "b", "lengths", "h0", "c0", *more]
    return helper.make_node("LSTM", inputs, ["y", "h_n", "c_n"], **{"hidden_size": H, **attributes})


def steps_of(model, lengths="lengths", fits=lambda hidden: True):
    graph = read_graph(model)
    return graph, cut(graph, ["x", "h0", "c0"], lengths, fits)


def kinds(stages):
    return [(sorted(node.operator for node in stage.nodes), [type(step) for step in stage.steps]) for stage in stages]


def test_plain_lstm_is_taken_with_its_weights():
    stored = lstm_weights()
    _, (stage,) = steps_of(model_of([lstm_node()], ["y", "h_n", "c_n"], stored))

    (step,) = stage.steps
    assert isinstance(step, Lstm)
    assert step.inputs == ("x", "lengths", "h0", "c0")
    assert step.outputs == ("y", "h_n", "c_n")
    assert np.array_equal(step.w, stored["w"][0])
    assert np.array_equal(step.r, stored["r"][0])
    assert np.array_equal(step.b, stored["b"][0, : 4 * H] + stored["b"][0, 4 * H :])


def test_lstm_without_bias_state_and_lengths_is_taken():
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=H)
    _, (stage,) = steps_of(model_of([node], ["y"], lstm_weights()))

    (step,) = stage.steps
    assert step.inputs == ("x", "", "", "")
    assert step.outputs == ("y", "", "")
    assert not step.b.any()


@pytest.mark.parametrize(
    ("node", "directions"),
    [
        (lstm_node("p"), 1),
        (lstm_node(clip=3.0), 1),
        (lstm_node(clip=0.0), 1),
        (lstm_node(input_forget=1), 1),
        (lstm_node(layout=1), 1),
        (lstm_node(activations=["Sigmoid", "Relu", "Tanh"]), 1),
        (lstm_node(direction="reverse"), 1),
        (lstm_node(direction="bidirectional"), 2),
        (helper.make_node("LSTM", ["x", "w", "r", "b", "lengths", "h0"], ["y"], hidden_size=H), 1),
        (helper.make_node("LSTM", ["x", "h0", "r", "b"], ["y"], hidden_size=H), 1),
        (helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=H), 1),
    ],
    ids=lambda value: getattr(value, "op_type", None) and str(list(value.attribute)[-1].name),
)
def test_what_the_kernel_does_not_compute_stays(node, directions):
    _, stages = steps_of(model_of([node], ["y"], lstm_weights(directions)))

    assert kinds(stages) == [([node.op_type], [])]


def test_lstm_stays_where_its_lengths_are_not_the_callers():
    model = model_of([lstm_node()], ["y"], lstm_weights())

    assert kinds(steps_of(model, lengths=None)[1]) == [(["LSTM"], [])]


def test_lstm_stays_where_it_does_not_fit():
    asked = []
    model = model_of([lstm_node()], ["y"], lstm_weights())

    assert kinds(steps_of(model, fits=asked.append)[1]) == [(["LSTM"], [])]
    assert asked == [H]


def test_products_are_taken_with_weights_from_output_to_input():
    stored = {"w": normal(5, I), "b": normal(5), "v": normal(5, 2), "m": normal(2, 6)}
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["a"], transB=1),
        helper.make_node("Gemm", ["a", "v"], ["c"]),
        helper.make_node("MatMul", ["c", "m"], ["d"]),
    ]
    _, stages = steps_of(model_of(nodes, ["d"], stored, {"x": ("B", I)}))

    first, second, third = (step for stage in stages for step in stage.steps)
    assert np.array_equal(first.w, stored["w"])
    assert np.array_equal(first.b, stored["b"])
    assert np.array_equal(second.w, stored["v"].T)
    assert not second.b.any()
    assert np.array_equal(third.w, stored["m"].T)


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Gemm", ["x", "w", "b"], ["d"], transB=1, alpha=0.5),
        helper.make_node("Gemm", ["x", "w", "b"], ["d"], transB=1, beta=2.0),
        helper.make_node("Gemm", ["x", "w", "b"], ["d"], transB=1, transA=1),
        helper.make_node("Gemm", ["x", "w", "row"], ["d"], transB=1),
        helper.make_node("Gemm", ["w", "x"], ["d"]),
        helper.make_node("MatMul", ["x", "many"], ["d"]),
        helper.make_node("MatMul", ["x", "x"], ["d"]),
    ],
)
def test_other_products_stay(node):
    stored = {"w": normal(5, I), "b": normal(5), "row": normal(1, 5), "many": normal(2, I, 4)}

    assert kinds(steps_of(model_of([node], ["d"], stored, {"x": ("B", I)}))[1]) == [([node.op_type], [])]


def test_moves_of_floats_are_taken():
    stored = {"parts": np.array([1, 1]), "axis": np.array([0])}
    nodes = [
        helper.make_node("Split", ["x", "parts"], ["a", "b"], axis=0),
        helper.make_node("Concat", ["b", "a"], ["c"], axis=0),
        helper.make_node("Transpose", ["c"], ["d"], perm=[1, 0, 2]),
        helper.make_node("Squeeze", ["a", "axis"], ["e"]),
    ]
    _, stages = steps_of(model_of(nodes, ["d", "e"], stored, {"x": (2, "B", I)}))

    steps = [step for stage in stages for step in stage.steps]
    assert {type(step) for step in steps} == {Split, Concat, Swap, Squeeze}
    assert not any(stage.nodes for stage in stages)


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Split", ["x", "uneven"], ["a", "d"], axis=0),
        helper.make_node("Split", ["x", "even"], ["a", "d"], axis=1),
        helper.make_node("Concat", ["x", "x"], ["d"], axis=1),
        helper.make_node("Concat", ["x", "stored"], ["d"], axis=0),
        helper.make_node("Transpose", ["x"], ["d"], perm=[0, 2, 1]),
        helper.make_node("Transpose", ["x"], ["d"]),
        helper.make_node("Squeeze", ["x"], ["d"]),
        helper.make_node("Tanh", ["x"], ["d"]),
    ],
)
def test_other_moves_stay(node):
    stored = {"uneven": np.array([1, 2]), "even": np.array([2, 2]), "stored": normal(1, 4, I)}

    assert kinds(steps_of(model_of([node], ["d"], stored, {"x": (3, 4, I)}))[1]) == [([node.op_type], [])]


def test_the_same_moves_of_integers_stay_for_they_are_arithmetic_on_shapes():
    stored = {"one": np.array([1]), "axis": np.array([0])}
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Concat", ["shape", "shape"], ["both"], axis=0),
        helper.make_node("Squeeze", ["both", "axis"], ["d"]),
    ]
    _, stages = steps_of(model_of(nodes, ["d"], stored))

    assert kinds(stages) == [(["Concat", "Shape", "Squeeze"], [])]


def residual():
    """An LSTM, a normalisation, another LSTM, a sum of both, and a branch that asks for the length of x."""
    stored = lstm_weights() | {"w2": normal(1, 4 * H, H), "one": np.array([1]), "v": normal(H, 2), "scale": normal(H)}
    nodes = [
        lstm_node(),
        helper.make_node("Squeeze", ["y", "one"], ["y1"]),
        helper.make_node("Mul", ["y1", "scale"], ["n1"]),
        helper.make_node("LSTM", ["n1", "w2", "r", "b", "lengths", "h0", "c0"], ["y2", "", ""], hidden_size=H),
        helper.make_node("Squeeze", ["y2", "one"], ["y3"]),
        helper.make_node("Add", ["y1", "y3"], ["total"]),
        helper.make_node("MatMul", ["total", "v"], ["out"]),
    ]
    return model_of(nodes, ["out", "h_n"], stored)


def test_stages_follow_each_other_and_parts_take_and_give_what_is_missing():
    graph, stages = steps_of(residual())

    names = [[type(step).__name__ for step in stage.steps] for stage in stages]
    assert names == [["Lstm"], ["Squeeze"], ["Lstm"], ["Squeeze"], ["Product"]]
    assert [[node.operator for node in stage.nodes] for stage in stages] == [[], [], ["Mul"], [], ["Add"]]
    assert boundary(graph, stages, 2) == (("y1",), ("n1",))
    assert boundary(graph, stages, 4) == (("y1", "y3"), ("total",))


def test_part_is_a_model_that_the_runtime_opens_and_computes():
    graph, stages = steps_of(residual())
    part = part_of_model(graph, stages[2], [("y1", 1)], ["n1"])
    session = onnxruntime.InferenceSession(part, providers=["CPUExecutionProvider"])
    y1 = normal(5, 2, H)

    (found,) = session.run(None, {"y1": y1})
    assert np.array_equal(found, y1 * stored_array(graph.stored["scale"]))
    assert set(read_graph(part).stored) == {"scale"}


def test_what_a_subgraph_mentions_is_an_input_of_its_node():
    body = helper.make_graph(
        [helper.make_node("Add", ["step", "outside"], ["sum"])],
        "body",
        [helper.make_tensor_value_info("step", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, None)],
    )
    nodes = [
        lstm_node(),
        helper.make_node("Squeeze", ["y", "one"], ["outside"]),
        helper.make_node("Scan", ["x"], ["d"], body=body, num_scan_inputs=1),
    ]
    graph, stages = steps_of(model_of(nodes, ["d"], lstm_weights() | {"one": np.array([1])}))

    (place,) = [at for at, stage in enumerate(stages) if stage.nodes]
    assert place > 0
    assert set(boundary(graph, stages, place)[0]) == {"x", "outside"}


@pytest.mark.parametrize(
    "array",
    [
        normal(2, 3),
        np.arange(6).reshape(3, 2),
        np.int32([[-1]]),
        np.float16([1.5]),
        np.float64(2.5),
        np.zeros((0, 2), "f4"),
    ],
)
def test_stored_tensors_come_back(array):
    raw = numpy_helper.from_array(np.asarray(array), "t")
    found = stored_array(raw.SerializeToString())

    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


def test_numbers_that_are_stored_one_by_one_come_back():
    whole = helper.make_tensor("t", TensorProto.INT64, [3], [1, -2, 2**40])
    real = helper.make_tensor("t", TensorProto.FLOAT, [2], [1.5, -2.0])

    assert stored_array(whole.SerializeToString()).tolist() == [1, -2, 2**40]
    assert stored_array(real.SerializeToString()).tolist() == [1.5, -2.0]


def test_tensors_of_other_kinds_or_elsewhere_are_not_read():
    text = helper.make_tensor("t", TensorProto.STRING, [1], [b"a"])
    away = onnx.TensorProto(name="t", data_type=1, dims=[2], data_location=onnx.TensorProto.EXTERNAL)

    assert stored_array(text.SerializeToString()) is None
    assert stored_array(away.SerializeToString()) is None
