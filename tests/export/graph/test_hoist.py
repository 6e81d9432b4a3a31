"""Work moved out of the loop, and the same answers."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from cellgate.export.exportable import prepare
from cellgate.export.graph import onnx_graph
from cellgate.export.graph.hoist import hoist
from cellgate.export.graph.onnx_graph import export_onnx
from cellgate.model import SequenceModel


def body_of(scan: onnx.NodeProto) -> onnx.GraphProto:
    return next(attribute.g for attribute in scan.attribute if attribute.name == "body")


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("options", "left"),
    [
        pytest.param({"cell": "ProjectedLSTMCell", "projection_dim": 3}, 2, id="projected"),
        pytest.param({"cell": "LayerNormLSTMCell", "bidirectional": True}, 1, id="normalised"),
    ],
)
def test_product_with_the_input_leaves_the_loop_and_answers_stay(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], left: int
) -> None:
    exportable = prepare(SequenceModel(6, 7, 3, **options).eval())
    after = export_onnx(exportable)
    monkeypatch.setattr(onnx_graph, "hoist", lambda graph: None)
    before = export_onnx(exportable)

    inputs = {s.name: t.numpy() for s, t in zip(exportable.signature.inputs, exportable.example(4, 12), strict=True)}
    found = [onnxruntime.InferenceSession(model).run(None, inputs) for model in (before, after)]
    for a, b in zip(*found, strict=True):
        assert float(np.abs(a - b).max()) < 2e-6
    scans = [[n for n in onnx.load_from_string(m).graph.node if n.op_type == "Scan"] for m in (before, after)]
    assert len(scans[0]) == len(scans[1])
    for scan in scans[1]:
        assert left == sum(node.op_type in {"Gemm", "MatMul"} for node in body_of(scan).node)
    flips = [n for n in onnx.load_from_string(after).graph.node if n.op_type == "Slice"]
    assert flips == []


def test_graph_without_scan_stays_as_it_is() -> None:
    proto = onnx.load_from_string(export_onnx(prepare(SequenceModel(3, 4).eval())))
    before = proto.SerializeToString(deterministic=True)

    hoist(proto.graph)

    assert before == proto.SerializeToString(deterministic=True)


def scan_model(body_nodes: list[onnx.NodeProto], **attributes: Any) -> onnx.ModelProto:
    """Return x [T, B, 2], s [B, 2] -> y [T, B, 2], final [B, 2] with this body over (s, x_t) -> (s', y_t)."""
    make = onnx.helper.make_tensor_value_info
    F = onnx.TensorProto.FLOAT
    body = onnx.helper.make_graph(
        body_nodes, "body", [make("s", F, [None, 2]), make("x_t", F, [None, 2])],
        [make("s_out", F, [None, 2]), make("y_t", F, [None, 2])],
    )  # fmt: skip
    scan = onnx.helper.make_node("Scan", ["s0", "x"], ["final", "y"], body=body, num_scan_inputs=1, **attributes)
    w = onnx.numpy_helper.from_array(np.array([[1, 2], [3, 4]], np.float32), "w")
    b = onnx.numpy_helper.from_array(np.array([0.5, -1], np.float32), "b")
    graph = onnx.helper.make_graph(
        [scan], "g", [make("s0", F, ["B", 2]), make("x", F, ["T", "B", 2])],
        [make("final", F, ["B", 2]), make("y", F, ["T", "B", 2])], [w, b],
    )  # fmt: skip
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)


def node(op: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return onnx.helper.make_node(op, inputs, [output], **attributes)


def keep() -> list[onnx.NodeProto]:
    return [node("Add", ["s", "a"], "s_out"), node("Mul", ["s", "a"], "y_t")]


@pytest.mark.parametrize(
    ("nodes", "left_in_body"),
    [
        pytest.param([node("MatMul", ["x_t", "w"], "a"), *keep()], 2, id="MatMul"),
        pytest.param([node("Gemm", ["x_t", "w", "b"], "a", transB=1), *keep()], 2, id="Gemm"),
        pytest.param([node("MatMul", ["x_t", "w"], "m"), node("Tanh", ["m"], "a"), *keep()], 2, id="MatMul-Tanh"),
        pytest.param(
            [node("MatMul", ["x_t", "w"], "m"), node("Gemm", ["s", "w", "b"], "n"), node("Add", ["m", "n"], "a"),
             *keep()],
            3,
            id="joined-with-the-state's",
        ),
        pytest.param([node("MatMul", ["s", "w"], "a"), *keep(), node("Abs", ["x_t"], "z")], 4, id="only-the-state's"),
        pytest.param([node("Gemm", ["x_t", "w"], "a", alpha=2.0), *keep()], 3, id="scaled-Gemm"),
        pytest.param([node("Gemm", ["x_t", "w"], "a", transA=0), node("Neg", ["x_t"], "z"), *keep()], 3, id="x-read"),
        pytest.param([node("Relu", ["x_t"], "a"), *keep()], 3, id="no-product"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("direction", [0, 1])
def test_only_what_is_free_of_the_state_moves(nodes: list[onnx.NodeProto], left_in_body: int, direction: int) -> None:
    model = scan_model(nodes, scan_input_directions=[direction], scan_output_directions=[direction])
    random = np.random.default_rng(0)
    inputs = {"s0": random.standard_normal((3, 2), np.float32), "x": random.standard_normal((5, 3, 2), np.float32)}
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, inputs)

    hoist(model.graph)

    onnx.checker.check_model(model, full_check=True)
    actual = onnxruntime.InferenceSession(model.SerializeToString()).run(None, inputs)
    for a, b in zip(expected, actual, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    (scan,) = [n for n in model.graph.node if n.op_type == "Scan"]
    assert left_in_body == len(body_of(scan).node)


def test_scan_over_another_axis_is_left_alone() -> None:
    model = scan_model([node("MatMul", ["x_t", "w"], "a"), *keep()], scan_input_axes=[1])
    before = model.graph.node[0].SerializeToString(deterministic=True)

    hoist(model.graph)

    assert before == model.graph.node[0].SerializeToString(deterministic=True)
