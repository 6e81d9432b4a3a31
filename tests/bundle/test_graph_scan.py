"""Facts against the onnx package as the oracle; what is refused of a whole model."""

from collections import Counter

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from cellgate.bundle import graph_scan
from cellgate.bundle.errors import GraphError
from cellgate.bundle.graph_check import scan_graph
from cellgate.bundle.graph_facts import RecurrentFact, TensorFact, ValueFact
from cellgate.bundle.onnx_file import MAX_REFUSALS


def _graph(nodes, inputs=(), outputs=(), stored=()):
    return helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(stored))


def _model(graph, *opsets, **fields):
    opsets = opsets or (helper.make_opsetid("", 17),)
    return helper.make_model(graph, opset_imports=list(opsets), **fields)


def _scan(*args, **kwargs):
    return scan_graph(_model(_graph(*args, **kwargs)).SerializeToString())


def test_facts_of_the_tiny_model(tiny_model):
    facts = scan_graph(tiny_model().SerializeToString())

    assert (facts.ir_version, facts.opset, facts.opsets, facts.producer) == (9, 17, {"": 17}, "tests 1")
    assert facts.operators == ("LSTM", "Squeeze", "Transpose")
    assert (facts.node_counts, facts.nodes) == ({"Transpose": 2, "LSTM": 1, "Squeeze": 1}, 4)
    assert facts.inputs[0] == ValueFact(name="x", dtype="float32", dims=("B", "T", 2))
    assert facts.inputs[1] == ValueFact(name="lengths", dtype="int32", dims=("B",))
    assert [value.name for value in facts.outputs] == ["y", "h_n", "c_n"]
    assert facts.initializers[0] == TensorFact(name="W", dtype="float32", dims=(1, 12, 2))
    assert facts.initializers[3] == TensorFact(name="one", dtype="int64", dims=(1,))
    assert facts.parameters == 12 * 2 + 12 * 3 + 24
    assert facts.recurrent == (
        RecurrentFact(
            operator="LSTM",
            name="lstm",
            hidden_size=3,
            direction="forward",
            layout=0,
            W=(1, 12, 2),
            R=(1, 12, 3),
            B=(1, 24),
            P=None,
        ),
    )
    assert facts.refusals == ()


_dtypes = st.sampled_from([np.float32, np.float16, np.float64, np.int64, np.int32, np.int8, np.uint16, np.bool_])
_arrays = st.builds(lambda dtype, dims: np.zeros(dims, dtype), _dtypes, st.lists(st.integers(0, 4), max_size=4))


@given(
    stored=st.lists(_arrays, max_size=6),
    operators=st.lists(st.sampled_from(["Add", "Relu", "Gemm", "Transpose"]), max_size=12),
    shapes=st.lists(st.lists(st.integers(0, 2**40) | st.sampled_from(["B", "T", None]), max_size=4), max_size=3),
)
def test_facts_are_those_of_the_onnx_package(stored, operators, shapes):
    model = _model(
        _graph(
            [helper.make_node(operator, ["a"], ["b"], alpha=1.5, perm=[1, 0], mode="x") for operator in operators],
            [helper.make_tensor_value_info(f"i{k}", TensorProto.FLOAT, shape) for k, shape in enumerate(shapes)],
            stored=[numpy_helper.from_array(array, f"w{k}") for k, array in enumerate(stored)],
        )
    )
    data = model.SerializeToString()
    oracle = onnx.load_model_from_string(data)

    facts = scan_graph(data)

    assert facts.refusals == ()
    assert facts.node_counts == Counter(node.op_type for node in oracle.graph.node)
    assert [(t.name, t.dims) for t in facts.initializers] == [(t.name, tuple(t.dims)) for t in oracle.graph.initializer]
    assert [t.dtype for t in facts.initializers] == [
        helper.tensor_dtype_to_np_dtype(t.data_type).name for t in oracle.graph.initializer
    ]
    assert facts.parameters == sum(array.size for array in stored if array.dtype.kind == "f")
    assert [list(value.dims) for value in facts.inputs] == shapes


@pytest.mark.parametrize("dtype", [pair for pair in TensorProto.DataType.items() if pair[1]], ids=lambda pair: pair[0])
def test_every_element_type_has_its_name(dtype):
    """A type that onnx adds later shows up here as a failure."""
    label, number = dtype
    value = helper.make_tensor_value_info("x", number, [1])

    found = _scan([], [value]).inputs[0].dtype

    assert found.replace("float64", "double").replace("float32", "float") == label.lower()


def test_types_that_are_no_tensors_are_named():
    plain = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    values = [
        helper.make_value_info("bare", onnx.TypeProto()),
        helper.make_value_info("sequence", helper.make_sequence_type_proto(plain)),
        helper.make_value_info("optional", helper.make_optional_type_proto(plain)),
        helper.make_value_info("map", helper.make_map_type_proto(TensorProto.INT64, plain)),
        helper.make_value_info("unshaped", plain),
        onnx.ValueInfoProto(name="untyped"),
    ]

    found = [(value.name, value.dtype, value.dims) for value in _scan([], values).inputs]

    assert found == [
        ("bare", "", None),
        ("sequence", "sequence", None),
        ("optional", "optional", None),
        ("map", "map", None),
        ("unshaped", "float32", None),
        ("untyped", "", None),
    ]


def _nested(depth, leaf):
    """A graph that holds a leaf node this many subgraphs deep."""
    graph = _graph([leaf])
    for _ in range(depth):
        graph = _graph([helper.make_node("If", ["c"], ["o"], then_branch=graph)])
    return graph


@pytest.mark.parametrize("depth", [0, 1, graph_scan.MAX_SUBGRAPH_DEPTH])
def test_operators_of_subgraphs_count(depth):
    facts = scan_graph(_model(_nested(depth, helper.make_node("Det", ["a"], ["b"]))).SerializeToString())

    assert facts.node_counts == Counter({"If": depth, "Det": 1} if depth else {"Det": 1})


def test_subgraphs_in_a_list_count():
    graphs = [_graph([helper.make_node("Relu", ["a"], ["b"])]), _graph([helper.make_node("Det", ["a"], ["b"])])]

    assert _scan([helper.make_node("If", ["c"], ["o"], branches=graphs)]).operators == ("Det", "If", "Relu")


@pytest.mark.parametrize("depth", [graph_scan.MAX_SUBGRAPH_DEPTH + 1, 20])
def test_deeper_subgraphs_are_refused(depth):
    with pytest.raises(GraphError, match="nested deeper than 16"):
        scan_graph(_model(_nested(depth, helper.make_node("Det", ["a"], ["b"]))).SerializeToString())


def test_ten_thousand_subgraphs_deep_is_refused_without_recursion():
    """Wrapped by hand, for protobuf itself refuses to make it."""

    def field(number, data):
        length = bytearray()
        size = len(data)
        while size > 0x7F:
            length.append(size & 0x7F | 0x80)
            size >>= 7
        return bytes([number << 3 | 2, *length, size]) + data

    graph = b""
    for _ in range(10_000):
        graph = field(1, field(4, b"If") + field(5, field(6, graph)))

    with pytest.raises(GraphError, match="nested deeper"):
        scan_graph(field(7, graph))


def test_foreign_domain_is_a_fact_and_a_refusal_but_no_error():
    node = helper.make_node("FusedLSTM", ["a"], ["b"], domain="com.evil")

    facts = scan_graph(
        _model(_graph([node]), helper.make_opsetid("", 17), helper.make_opsetid("com.evil", 1)).SerializeToString()
    )

    assert (facts.node_counts, facts.operators) == ({"com.evil::FusedLSTM": 1}, ())
    assert facts.opsets == {"": 17, "com.evil": 1}
    assert facts.refusals == (
        "foreign domain com.evil among its operator sets",
        "operator FusedLSTM of the foreign domain com.evil",
    )


def test_both_names_of_the_default_domain_are_one():
    node = helper.make_node("Relu", ["a"], ["b"], domain="ai.onnx")

    facts = scan_graph(_model(_graph([node]), helper.make_opsetid("ai.onnx", 21)).SerializeToString())

    assert (facts.opset, facts.operators, facts.refusals) == (21, ("Relu",), ())


def test_recurrent_weights_are_seen_through_scopes_and_constants():
    """An LSTM in a subgraph takes R from around it, W from its own graph and B from a Constant node."""
    zeros = lambda *dims: numpy_helper.from_array(np.zeros(dims, np.float32), "unnamed")  # noqa: E731
    W, R = zeros(2, 8, 5), zeros(2, 8, 2)
    W.name, R.name = "W", "R"
    inner = _graph(
        [
            helper.make_node("Constant", [], ["B"], value=zeros(2, 16)),
            helper.make_node("LSTM", ["x", "W", "R", "B"], ["y"], hidden_size=2, direction="bidirectional"),
            helper.make_node("GRU", ["x", "computed", "", ""], ["z"], hidden_size=2),
        ],
        stored=[W],
    )

    lstm, gru = _scan([helper.make_node("If", ["c"], ["o"], then_branch=inner)], stored=[R]).recurrent

    assert (lstm.W, lstm.R, lstm.B, lstm.P, lstm.direction) == ((2, 8, 5), (2, 8, 2), (2, 16), None, "bidirectional")
    assert (gru.operator, gru.W, gru.R, gru.B) == ("GRU", None, None, None)


def test_metadata_that_is_not_for_the_runtime_is_let_be():
    model = _model(_graph([]))
    helper.set_model_props(model, {"author": "somebody"})

    assert scan_graph(model.SerializeToString()).refusals == ()


def test_refusals_are_cut():
    nodes = [helper.make_node("X", ["a"], ["b"], domain=f"evil{index}") for index in range(100)]

    assert len(_scan(nodes).refusals) == MAX_REFUSALS


def test_shape_of_absurd_rank_is_refused():
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1] * 65)

    with pytest.raises(GraphError, match="rank 65"):
        _scan([], [value])
