"""Bytes that are no model, or one that was made to harm: each is scanned as protobuf reads it, or refused."""

from collections import Counter

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from cellgate.bundle import graph_scan
from cellgate.bundle.errors import GraphError
from cellgate.bundle.graph_check import scan_graph


def test_model_over_two_gigabytes_is_refused(monkeypatch, tiny_model):
    monkeypatch.setattr(graph_scan, "MAX_MODEL_BYTES", 100)

    with pytest.raises(GraphError, match="expected at most 100"):
        scan_graph(tiny_model().SerializeToString())


def _raw(number, data):
    return bytes([number << 3 | 2, len(data)]) + data


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "no graph"),
        (b"\x08\x09", "no graph"),
        (b"PK\x03\x04 a zip", "no whole ONNX file"),
        (_raw(7, b"") * 2, "graph stands 2 times"),
        (_raw(7, _raw(1, b"")), "a node without operator"),
        (_raw(7, _raw(1, _raw(4, b"\xff"))), "not UTF-8"),
        (_raw(8, b"\x10\x11") * 2 + _raw(7, b""), "operator set ai.onnx imported twice"),
        (_raw(8, b"\x10\x11") + _raw(8, _raw(1, b"ai.onnx")) + _raw(7, b""), "operator set ai.onnx imported twice"),
        (_raw(7, b"\x2a\x02\x08"), "a length of 2 bytes"),
        (_raw(7, _raw(5, _raw(1, b"\1" * 65))), "rank 65"),
        (_raw(7, _raw(11, _raw(2, _raw(1, _raw(2, _raw(1, b"\x08\x01\x12\x01B")))))), "both size and name"),
    ],
)
def test_malformed_models_are_refused(data, expected):
    with pytest.raises(GraphError, match=expected):
        scan_graph(data)


@pytest.mark.parametrize("cut", [1, 7, 50, 200, -1])
def test_cut_off_model_is_refused(tiny_model, cut):
    with pytest.raises(GraphError):
        scan_graph(tiny_model().SerializeToString()[:cut])


@given(st.binary(max_size=200))
def test_any_bytes_are_scanned_or_refused(data):
    try:
        scan_graph(data)
    except GraphError:
        return
    assert data


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400)
@given(data=st.data())
def test_mutated_models_are_scanned_or_refused(tiny_model, data):
    """The small parts of a model, not its weights, are where a changed byte changes the structure."""
    model = tiny_model()
    model.graph.node.append(
        helper.make_node(
            "If", ["c"], ["o"], then_branch=helper.make_graph([], "g", [], [], [model.graph.initializer[3]])
        )
    )
    del model.graph.initializer[:3]
    whole = model.SerializeToString()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(whole)))
        upto = data.draw(st.integers(at, min(at + 8, len(whole))))
        whole = whole[:at] + data.draw(st.binary(max_size=4)) + whole[upto:]
    try:
        facts = scan_graph(whole)
    except GraphError:
        return

    assert facts.nodes == sum(facts.node_counts.values())
    assert facts.parameters >= 0 or facts.refusals


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_what_protobuf_reads_and_passes_here_is_read_alike(tiny_model, data):
    """One mutated byte: where both readers accept, both must see the same operators and inputs, or this one lies."""
    whole = bytearray(tiny_model().SerializeToString())
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        facts = scan_graph(bytes(whole))
        oracle = onnx.load_model_from_string(bytes(whole))
    except Exception:  # noqa: BLE001 - protobuf's own errors have no common name across its versions
        return
    if facts.refusals:
        return

    assert facts.node_counts == Counter(node.op_type for node in oracle.graph.node)
    assert [value.name for value in facts.inputs] == [value.name for value in oracle.graph.input]
    assert [tensor.dims for tensor in facts.initializers] == [tuple(t.dims) for t in oracle.graph.initializer]
