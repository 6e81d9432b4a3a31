"""ONNX files that become no bundle: one sentence with the file, the tensor and what helps."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cellgate.export.errors import FrozenAxisError, SignatureError, SourceError
from cellgate.export.onnx_source import load_onnx, verify_onnx
from cellgate.export.proof.verify import VerifyOptions

from .onnx_files import gru_file, save, value, weight

QUICK = VerifyOptions(drift_steps=50, threads=1)


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        pytest.param(
            {"inputs": [value("x", ["B", 7, 3]), value("h0", [1, "B", 4])]},
            FrozenAxisError,
            "input x has time frozen to 7, expected it free",
            id="time",
        ),
        pytest.param(
            {"inputs": [value("x", [1, "T", 3]), value("h0", [1, 1, 4])]},
            FrozenAxisError,
            "input x has batch frozen to 1, expected it free",
            id="batch",
        ),
        pytest.param(
            {"inputs": [value("x", ["B", "T", 3]), value("h0", [1, 1, 4])]},
            FrozenAxisError,
            "input h0 has batch frozen to 1",
            id="state",
        ),
        pytest.param(
            {"inputs": [value("x", ["B", "T", "I"]), value("h0", [1, "B", 4])]},
            SignatureError,
            r"input x has axis 2 free \(I\), expected a fixed size",
            id="width",
        ),
        pytest.param(
            {"inputs": [value("x", None), value("h0", [1, "B", 4])]},
            SignatureError,
            "input x does not say its shape",
            id="no-shape",
        ),
        pytest.param(
            {"inputs": [value("x", ["B", "T", 3], TensorProto.DOUBLE), value("h0", [1, "B", 4])]},
            SignatureError,
            "input x is float64, expected",
            id="dtype",
        ),
        pytest.param(
            {"inputs": [value("input", ["B", "T", 3]), value("h0", [1, "B", 4])]},
            SignatureError,
            "has the inputs input, h0, expected x or tokens first",
            id="names",
        ),
        pytest.param({"inputs": []}, SignatureError, "has the inputs none, expected x", id="no-inputs"),
        pytest.param(
            {"inputs": [value("x", ["B", "T", 3]), value("hidden", [1, "B", 4])]},
            SignatureError,
            "input hidden is no sequence, lengths or state",
            id="state-name",
        ),
        pytest.param(
            {"outputs": [value("h_n", [1, "B", 4]), value("y", ["B", "T", 4])]},
            SignatureError,
            r"outputs\[0\].name: expected y, found h_n",
            id="order",
        ),
        pytest.param(
            {"outputs": [value("y", ["B", "T", 4])]},
            SignatureError,
            "expected one of y, found h_n",
            id="state-not-returned",
        ),
        pytest.param(
            {"initializers": [numpy_helper.from_array(np.ones((2, 2), np.float16), "half")]},
            SourceError,
            "holds float16 weights, expected float32; convert it",
            id="half",
        ),
        pytest.param(
            {"nodes": [helper.make_node("Odd", ["x"], ["y"], domain="evil")]},
            SourceError,
            "foreign domain evil",
            id="foreign",
        ),
    ],
)
def test_another_contract_is_refused_with_the_tensor(tmp_path, changes, error, sentence):
    path = gru_file(tmp_path / "gru.onnx", **changes)

    with pytest.raises(error, match=sentence) as caught:
        load_onnx(path)

    assert str(caught.value).startswith(str(path))


def test_what_is_no_file_or_no_onnx_is_refused(tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "text.onnx").write_text("hello")
    with (tmp_path / "large.onnx").open("wb") as file:
        file.truncate(2**31)

    for name, sentence in {
        "none.onnx": "does not exist, expected an ONNX file",
        "folder.onnx": "is no file",
        "text.onnx": "no whole ONNX file",
        "large.onnx": "has 2147483648 bytes, expected at most",
    }.items():
        with pytest.raises(SourceError, match=sentence):
            load_onnx(tmp_path / name)


def test_weights_in_a_file_of_their_own_are_refused_and_the_remedy_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = onnx.load(gru_file(tmp_path / "whole.onnx"))
    onnx.save(model, "parts.onnx", save_as_external_data=True, location="parts.data", size_threshold=0)

    with pytest.raises(SourceError, match=r"it holds external data: .*; make one file of both with ") as caught:
        load_onnx(tmp_path / "parts.onnx")

    remedy = str(caught.value).partition("make one file of both with ")[2].removesuffix(", and export that")
    exec(remedy, {"onnx": onnx})
    assert load_onnx(tmp_path / "one.onnx").signature == load_onnx(tmp_path / "whole.onnx").signature


def test_a_graph_that_the_runtime_cannot_open_is_refused(tmp_path):
    nodes = [helper.make_node("MatMul", ["x", "W"], ["y"])]
    path = save(
        tmp_path / "m.onnx", nodes, [value("x", ["B", "T", 3])], [value("y", ["B", "T", 4])], [weight("W", 5, 4)]
    )

    with pytest.raises(SourceError, match="cannot be opened to verify it: "):
        verify_onnx(path, load_onnx(path), QUICK)


def test_a_graph_that_the_evaluator_cannot_judge_is_refused(tmp_path):
    onnx_file = onnx.load_from_string(gru_file(tmp_path / "gru.onnx").read_bytes())
    onnx_file.graph.node[1].attribute.append(helper.make_attribute("activations", ["Relu", "Tanh"]))
    (tmp_path / "gru.onnx").write_bytes(onnx_file.SerializeToString())
    path = tmp_path / "gru.onnx"

    with pytest.raises(SourceError, match="cannot be verified without its network: the evaluator ignores activations"):
        verify_onnx(path, load_onnx(path), QUICK)


def test_a_graph_that_ends_rows_early_by_itself_is_refused(tmp_path):
    path = gru_file(tmp_path / "gru.onnx")
    proto = onnx.load_from_string(path.read_bytes())
    counted = [
        helper.make_node("ReduceMax", ["x", "last"], ["largest"], keepdims=0),
        helper.make_node("Greater", ["largest", "nought"], ["real"]),
        helper.make_node("Cast", ["real"], ["ones"], to=TensorProto.INT32),
        helper.make_node("ReduceSum", ["ones", "one"], ["count"], keepdims=0),
        helper.make_node("Max", ["count", "least"], ["lens"]),
    ]
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.array(array), name)
        for name, array in {"nought": np.float32(0), "least": np.int32(1), "last": np.array([2])}.items()
    )
    proto.graph.node[1].input[4] = "lens"
    changed = [*counted, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(changed)
    path.write_bytes(proto.SerializeToString())

    with pytest.raises(SourceError, match="cannot be verified without its network: the evaluator ignores sequence_len"):
        verify_onnx(path, load_onnx(path), QUICK)


def _reshaped(path, *shape):
    """A graph that declares batch and time free and then takes the example's for granted."""
    fixed = numpy_helper.from_array(np.array(shape, np.int64), "shape")
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    return save(path, nodes, [value("x", ["B", "T", 3])], [value("y", ["B", "T", 3])], [fixed])


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((0, 5, 3), r"cannot be run for 1 row of 1 step .*ValueError: cannot reshape"),
        ((-1,), r"gives y of shape \[3\] for 1 row of 1 step, expected \[1, 1, 3\]"),
        ((-1, 1, 3), r"gives y of shape \[2, 1, 3\] for 1 row of 2 steps, expected \[1, 2, 3\]"),
    ],
    ids=["length", "rank", "rows"],
)
def test_a_graph_that_does_not_keep_the_axes_it_declares_is_refused(tmp_path, shape, said):
    path = _reshaped(tmp_path / "m.onnx", *shape)

    with pytest.raises(SourceError, match=said):
        verify_onnx(path, load_onnx(path), VerifyOptions(drift_steps=50, threads=1))


@pytest.mark.parametrize("size", [0, -3])
def test_a_size_that_no_tensor_has_is_refused(tmp_path, size):
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, [value("x", ["B", "T", size])], [value("y", ["B", "T", size])], [])

    with pytest.raises(SignatureError, match=f"input x has axis 2 of size {size}, expected at least 1"):
        load_onnx(path)
