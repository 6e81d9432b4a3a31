"""Which graphs serving may open, and whether graph and manifest tell the same story."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from cellgate.bundle.errors import GraphError
from cellgate.bundle.graph_check import check_agreement, check_graph, scan_graph
from cellgate.bundle.manifest import TensorSpec

_LISTED = ("LSTM", "Squeeze", "Transpose")


def test_good_graph_passes_and_gives_its_facts(tiny_model):
    data = tiny_model().SerializeToString()

    assert check_graph(data, _LISTED) == scan_graph(data)


def test_listed_operators_need_not_all_occur(tiny_model):
    check_graph(tiny_model().SerializeToString(), {*_LISTED, "Gemm"})


def test_unlisted_operators_are_named(tiny_model):
    with pytest.raises(GraphError, match="not listed: LSTM, Transpose; expected Squeeze"):
        check_graph(tiny_model().SerializeToString(), ["Squeeze"])


@pytest.mark.parametrize("field", ["opset_import", "ir_version"])
def test_graph_without_versions_is_refused(tiny_model, field):
    model = tiny_model()
    model.ClearField(field)

    with pytest.raises(GraphError, match="does not say its IR version"):
        check_graph(model.SerializeToString(), _LISTED)


def test_number_of_reasons_is_said(tiny_model):
    model = tiny_model()
    model.graph.node[0].domain = "a"
    model.graph.node[2].domain = "b"

    with pytest.raises(GraphError, match="operator Transpose of the foreign domain a, and 1 more reasons"):
        check_graph(model.SerializeToString(), _LISTED)


# Shapes by hidden_size 3, input width 2; the gates are 4 for LSTM, 3 for GRU, 1 for RNN.
_RIGHT = [
    ("LSTM", "forward", {"W": (1, 12, 2), "R": (1, 12, 3), "B": (1, 24), "P": (1, 9)}),
    ("LSTM", "reverse", {"W": (1, 12, 2), "R": (1, 12, 3)}),
    ("LSTM", "bidirectional", {"W": (2, 12, 2), "R": (2, 12, 3), "B": (2, 24), "P": (2, 9)}),
    ("GRU", "forward", {"W": (1, 9, 2), "R": (1, 9, 3), "B": (1, 18)}),
    ("GRU", "bidirectional", {"W": (2, 9, 2), "R": (2, 9, 3), "B": (2, 18)}),
    ("RNN", "forward", {"W": (1, 3, 2), "R": (1, 3, 3), "B": (1, 6)}),
]


def _recurrent(operator, shapes, stored_as="initializer", **attributes):
    names = [name if name in shapes else "" for name in ("W", "R", "B", "", "", "", "P")]
    tensors = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in shapes.items()]
    nodes = [helper.make_node(operator, ["x", *names], ["y"], name="cell", **attributes)]
    if stored_as == "constant":
        nodes = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in tensors] + nodes
        tensors = []
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "B", 2])
    model = helper.make_model(helper.make_graph(nodes, "g", [value], [], tensors))
    return model.SerializeToString()


@pytest.mark.parametrize(("operator", "direction", "shapes"), _RIGHT)
def test_right_weights_pass(operator, direction, shapes):
    check_graph(_recurrent(operator, shapes, hidden_size=3, direction=direction), [operator])


@pytest.mark.parametrize("stored_as", ["initializer", "constant"])
@pytest.mark.parametrize(
    ("operator", "direction", "weight", "index"),
    [
        (operator, direction, weight, index)
        for operator, direction, shapes in _RIGHT
        for weight, shape in shapes.items()
        for index in range(len(shape))
        if (weight, index) != ("W", 2)  # the input width: any will do
    ],
)
@pytest.mark.parametrize("change", [-1, 1])
def test_weights_that_disagree_with_hidden_size_are_refused(*, operator, direction, weight, index, change, stored_as):
    """One axis one too short or too long: runtimes have read past the end (onnxruntime #29595)."""
    shapes = {name: list(s) for o, d, found in _RIGHT if (o, d) == (operator, direction) for name, s in found.items()}
    shapes[weight][index] += change

    with pytest.raises(GraphError, match=rf"{operator} 'cell' with {weight} \[.*hidden_size 3"):
        check_graph(_recurrent(operator, shapes, stored_as, hidden_size=3, direction=direction), [operator, "Constant"])


@pytest.mark.parametrize("shape", [(12, 2), (1, 12), (1, 12, 2, 1), (1, 12, 0), ()])
def test_weights_of_another_rank_are_refused(shape):
    with pytest.raises(GraphError, match=r"with W \["):
        check_graph(_recurrent("LSTM", {"W": shape}, hidden_size=3), ["LSTM"])


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, "hidden_size None"),
        ({"hidden_size": 0}, "hidden_size 0"),
        ({"hidden_size": -3}, "hidden_size -3"),
        ({"hidden_size": 2**40}, "hidden_size"),
        ({"hidden_size": 3, "layout": 1}, "layout 1, expected 0"),
        ({"hidden_size": 3, "layout": -1}, "layout -1"),
        ({"hidden_size": 3, "direction": "sideways"}, "direction 'sideways', expected forward"),
    ],
)
@pytest.mark.parametrize("operator", ["LSTM", "GRU"])
def test_attributes_that_runtimes_stumble_over_are_refused(operator, attributes, expected):
    with pytest.raises(GraphError, match=expected):
        check_graph(_recurrent(operator, {}, **attributes), [operator])


@pytest.mark.parametrize("operator", ["LSTM", "GRU"])
def test_foreign_operator_of_the_same_name_is_refused_as_foreign(tiny_model, operator):
    model = tiny_model()
    model.graph.node[1].domain = "com.evil"
    model.graph.node[1].op_type = operator

    with pytest.raises(GraphError, match=r"foreign domain com.evil"):
        check_graph(model.SerializeToString(), _LISTED)


def _agree(model, manifest):
    check_agreement(scan_graph(model.SerializeToString()), manifest)


def test_graph_of_the_manifest_agrees(tiny_model, manifest):
    _agree(tiny_model(), manifest)


def test_unsaid_shapes_are_no_contradiction(tiny_model, manifest):
    """Exporters often leave the shape of an output to inference, and name free axes as they like."""
    model = tiny_model()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.graph.output[1].type.tensor_type.shape.dim[1].Clear()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"

    _agree(model, manifest)


def test_another_opset_is_refused(tiny_model, manifest):
    with pytest.raises(GraphError, match="opset 17, expected 18"):
        _agree(tiny_model(), replace(manifest, opset=18))


@pytest.mark.parametrize(("part", "index"), [("input", 0), ("input", 3), ("output", 0), ("output", 2)])
def test_disagreement_of_a_tensor_is_refused(tiny_model, manifest, part, index):
    def changed(change):
        model = tiny_model()
        change(getattr(model.graph, part)[index].type.tensor_type)
        return model

    renamed = tiny_model()
    getattr(renamed.graph, part)[index].name = "other"
    with pytest.raises(
        GraphError, match=f"has the {part}s .*other.*; expected {'x, lengths' if part == 'input' else 'y'}"
    ):
        _agree(renamed, manifest)

    missing = tiny_model()
    del getattr(missing.graph, part)[index]
    with pytest.raises(GraphError, match=f"has the {part}s"):
        _agree(missing, manifest)

    double = changed(lambda tensor: setattr(tensor, "elem_type", TensorProto.DOUBLE))
    with pytest.raises(GraphError, match=f"{part} .* is float64, expected float32"):
        _agree(double, manifest)

    frozen = changed(lambda tensor: setattr(tensor.shape.dim[1], "dim_value", 7))
    with pytest.raises(GraphError, match=f"{part} .* has shape .*7.* free axes free"):
        _agree(frozen, manifest)

    flat = changed(lambda tensor: tensor.shape.dim.pop())
    with pytest.raises(GraphError, match=f"{part} .* has shape"):
        _agree(flat, manifest)


def test_input_too_many_is_refused(tiny_model, manifest):
    model = tiny_model()
    model.graph.input.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, [1]))

    with pytest.raises(GraphError, match="the inputs x, lengths, h0, c0, extra; expected x, lengths, h0, c0"):
        _agree(model, manifest)


def test_untyped_input_is_refused(tiny_model, manifest):
    model = tiny_model()
    model.graph.input[0].ClearField("type")

    with pytest.raises(GraphError, match="input x is untyped, expected float32"):
        _agree(model, manifest)


def test_width_that_differs_is_refused(tiny_model, manifest):
    graph = manifest.graph
    wider = TensorSpec(name="x", dtype="float32", shape=("B", "T", 3))

    with pytest.raises(GraphError, match=r"input x has shape \['B', 'T', 2\], expected \['B', 'T', 3\]"):
        _agree(tiny_model(), replace(manifest, graph=replace(graph, inputs=(wider, *graph.inputs[1:]))))
