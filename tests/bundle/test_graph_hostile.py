"""Hostile graphs in bundles that are valid otherwise: one file, the default domain, listed operators, weights that fit.

Each program does one evil thing to a valid graph, and a comment says why it must be refused; the digests are right.
"""

import numpy as np
import pytest
from onnx import StringStringEntryProto, TensorProto, helper, numpy_helper

from cellgate.bundle.errors import GraphError
from cellgate.bundle.reader import read_bundle

_MODEL = "model.onnx"


def _external(model, location):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.append(StringStringEntryProto(key="location", value=location))


def _external_without_location(model):
    _external(model, "../../etc/passwd")
    model.graph.initializer[0].ClearField("data_location")


def _external_in_attribute(model):
    tensor = numpy_helper.from_array(np.zeros(1, np.float32), "hidden")
    tensor.data_location = TensorProto.EXTERNAL
    model.graph.node.append(helper.make_node("Transpose", ["x"], ["z"], value=tensor))


def _subgraph(*nodes, stored=()):
    return helper.make_graph(list(nodes), "inner", [], [], list(stored))


def _hide(model, *nodes, **parts):
    """Put nodes three subgraphs deep into an attribute of a listed operator."""
    graph = _subgraph(*nodes, **parts)
    for _ in range(2):
        graph = _subgraph(helper.make_node("Squeeze", ["a"], ["b"], body=graph))
    model.graph.node.append(helper.make_node("Squeeze", ["a"], ["b"], body=graph))


def _external_in_subgraph(model):
    tensor = numpy_helper.from_array(np.zeros(1, np.float32), "hidden")
    tensor.external_data.append(StringStringEntryProto(key="location", value="x"))
    _hide(model, stored=[tensor])


def _foreign(model):
    model.graph.node[0].domain = "com.evil"
    model.opset_import.append(helper.make_opsetid("com.evil", 1))


def _foreign_import(model):
    model.opset_import.append(helper.make_opsetid("com.evil", 1))


def _function(model):
    body = [helper.make_node("Relu", ["a"], ["b"])]
    model.functions.append(helper.make_function("com.evil", "Transpose", ["a"], ["b"], body, list(model.opset_import)))


def _function_in_default_domain(model):
    body = [helper.make_node("Relu", ["a"], ["b"])]
    model.functions.append(helper.make_function("", "Transpose", ["a"], ["b"], body, list(model.opset_import)))


def _weights(index, *shape):
    def change(model):
        name = model.graph.initializer[index].name
        model.graph.initializer[index].CopyFrom(numpy_helper.from_array(np.zeros(shape, np.float32), name))

    return change


def _hidden_size(model):
    next(a for a in model.graph.node[1].attribute if a.name == "hidden_size").i = 1000


def _attribute_twice(model):
    model.graph.node[1].attribute.append(helper.make_attribute("hidden_size", 1000))


def _layout(model):
    model.graph.node[1].attribute.append(helper.make_attribute("layout", 1))


def _runtime_options(model):
    model.metadata_props.append(StringStringEntryProto(key="ort_config", value='{"session_options": {}}'))


def _sparse(model):
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [3]))


def _sparse_in_attribute(model):
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    sparse = helper.make_sparse_tensor(values, indices, [3])
    model.graph.node.append(helper.make_node("Squeeze", [], ["b"], value=sparse))


def _exchangeable(model):
    model.graph.input.append(helper.make_tensor_value_info("W", TensorProto.FLOAT, [1, 12, 2]))


def _segment(model):
    model.graph.initializer[0].segment.begin = 1


def _reference(model):
    model.graph.node[0].attribute[0].ref_attr_name = "perm"


_EVIL = {
    # The runtime would open the file that the graph names, with the server's rights.
    "external data by traversal": (lambda m: _external(m, "../../etc/passwd"), "external data: initializer 'W'"),
    "external data by absolute path": (lambda m: _external(m, "/etc/passwd"), "external data: initializer 'W'"),
    "external data beside": (lambda m: _external(m, "model.onnx.data"), "external data: initializer 'W'"),
    "external data without its mark": (_external_without_location, "external data: initializer 'W'"),
    "external data in an attribute": (_external_in_attribute, "external data: attribute 'value' of Transpose"),
    "external data in a subgraph": (_external_in_subgraph, "external data: initializer 'hidden'"),
    # A custom operator is native code; a contributed one is code that nobody listed.
    "foreign domain": (_foreign, "foreign domain com.evil"),
    "foreign domain imported only": (_foreign_import, "foreign domain com.evil"),
    "foreign domain in a subgraph": (
        lambda m: _hide(m, helper.make_node("Squeeze", ["a"], ["b"], domain="com.evil")),
        "operator Squeeze of the foreign domain com.evil",
    ),
    "foreign domain of the runtime's maker": (
        lambda m: m.graph.node.append(helper.make_node("FusedMatMul", ["a"], ["b"], domain="com.microsoft")),
        "foreign domain com.microsoft",
    ),
    # A function gives a listed name another meaning.
    "function": (_function, "function com.evil::Transpose"),
    "function in the default domain": (_function_in_default_domain, "function Transpose"),
    "attribute of a function": (_reference, "refers to a function's"),
    # The manifest's list is what people and policies look at.
    "unlisted operator": (lambda m: m.graph.node.append(helper.make_node("Det", ["a"], ["b"])), "not listed: Det"),
    "operator hidden in a subgraph": (lambda m: _hide(m, helper.make_node("Det", ["a"], ["b"])), "not listed: Det"),
    "operator spelled in the long domain": (
        lambda m: m.graph.node.append(helper.make_node("Det", ["a"], ["b"], domain="ai.onnx")),
        "not listed: Det",
    ),
    # Kernels have read past the end of weights that disagree with hidden_size (onnxruntime #29595, #27737).
    "LSTM W too short": (_weights(0, 1, 11, 2), r"with W \[1, 11, 2\], expected \[1, 12, I\]"),
    "LSTM W of two directions": (_weights(0, 2, 12, 2), "with W"),
    "LSTM R too short": (_weights(1, 1, 12, 2), r"with R \[1, 12, 2\], expected \[1, 12, 3\]"),
    "LSTM B half": (_weights(2, 1, 12), r"with B \[1, 12\], expected \[1, 24\]"),
    "LSTM hidden_size": (_hidden_size, "expected .* for hidden_size 1000"),
    "LSTM hidden_size twice": (_attribute_twice, "attribute 'hidden_size' twice"),
    "LSTM layout": (_layout, "layout 1, expected 0"),
    # A tensor whose bytes are not those of its shape is read past its end by whoever trusts the shape.
    "weights shorter than their shape": (
        lambda m: m.graph.initializer[0].dims.__setitem__(2, 2**40),
        "initializer 'W' with 96 bytes",
    ),
    "negative size": (lambda m: m.graph.initializer[3].dims.append(-1), "a negative size: initializer 'one'"),
    "unknown element type": (lambda m: setattr(m.graph.initializer[0], "data_type", 99), "unknown element type 99"),
    "part of a tensor": (_segment, "a part of a tensor: initializer 'W'"),
    "initializer twice": (lambda m: m.graph.initializer.append(m.graph.initializer[0]), "initializer 'W' twice"),
    # The caller could send weights of its own.
    "initializer that is an input": (_exchangeable, "initializer 'W' that is an input too"),
    "sparse initializer": (_sparse, "sparse initializers"),
    "sparse attribute": (_sparse_in_attribute, "a sparse tensor in attribute"),
    "training information": (lambda m: m.training_info.add(), "training information"),
    "options for the runtime": (_runtime_options, "options for the runtime"),
    "field from the future": (lambda m: m.configuration.add(), "field 26 of the model"),
    "another opset than said": (lambda m: setattr(m.opset_import[0], "version", 16), "opset 16, expected 17"),
    "another input than said": (lambda m: setattr(m.graph.input[0], "name", "z"), "the inputs z"),
    "time frozen": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 30),
        "input x has shape",
    ),
}


@pytest.mark.parametrize("evil", _EVIL)
def test_hostile_graph(forge, tiny_model, evil):
    change, expected = _EVIL[evil]
    model = tiny_model()
    change(model)

    with pytest.raises(GraphError, match=expected):
        read_bundle(forge({_MODEL: model.SerializeToString()}))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x80\x02.", b"{}", b"\x3a\xff\xff\xff\xff\x0f"])
def test_model_that_is_no_onnx(forge, data):
    with pytest.raises(GraphError, match="no whole ONNX file"):
        read_bundle(forge({_MODEL: data}))


def test_graph_given_twice_is_not_merged(forge, contents):
    """Protobuf merges the two; a reader that keeps one of them would check another model than the runtime opens."""
    extra = helper.make_graph([helper.make_node("Det", ["a"], ["b"])], "g", [], []).SerializeToString()
    data = contents[_MODEL] + b"\x3a" + bytes([len(extra)]) + extra

    with pytest.raises(GraphError, match="graph stands 2 times"):
        read_bundle(forge({_MODEL: data}))


def test_weights_that_the_manifest_hides(forge):
    """A wrong operator list in the manifest is as wrong as a wrong graph."""
    with pytest.raises(GraphError, match="not listed: LSTM"):
        read_bundle(forge(edit=lambda top: top.update(operators=["Squeeze", "Transpose"])))
