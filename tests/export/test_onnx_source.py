"""A bundle from an ONNX file alone: its contract, its verification without PyTorch, and what is refused."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from cellgate.bundle.reader import read_bundle
from cellgate.export import onnx_source
from cellgate.export.cases import Case, make_inputs
from cellgate.export.errors import FrozenAxisError, NotEquivalentError, SignatureError, SourceError
from cellgate.export.exportable import prepare
from cellgate.export.graph_oracle import GraphOracle, to_double
from cellgate.export.onnx_graph import export_onnx
from cellgate.export.onnx_source import export_onnx_file, load_onnx, verify_onnx
from cellgate.export.oracle import Oracle
from cellgate.export.pipeline import ExportOptions
from cellgate.export.verify import VerifyOptions
from cellgate.model import SequenceModel

QUICK = VerifyOptions(drift_steps=50, threads=1)


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


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A network of this house, and the file that the exporter made of it."""
    torch.manual_seed(3)
    network = SequenceModel(3, 4, 2, num_layers=2, reads="last_step").eval()
    exportable = prepare(network)
    path = tmp_path_factory.mktemp("house") / "model.onnx"
    path.write_bytes(export_onnx(exportable))
    return exportable, path


def test_the_contract_of_an_exported_file_is_read_back(house):
    exportable, path = house

    assert load_onnx(path).signature == exportable.signature


def test_states_of_any_name_are_read_back_each_with_its_output(tmp_path):
    class Own(nn.Module):
        def __init__(self, input_dim, hidden_dim):
            super().__init__()
            self.linear = nn.Linear(input_dim + hidden_dim, hidden_dim)
            self.state_spec = (("state", hidden_dim), ("slow_state", hidden_dim), ("slow_2", hidden_dim))

        def forward(self, x, state):
            h, slow, slower = state
            h = torch.tanh(self.linear(torch.cat([x, h], 1)) + slow - slower)
            return h, (h, (slow + h) / 2, (slower + slow) / 2)

    exportable = prepare(SequenceModel(3, [4] * 11, 2, cell=Own))
    (tmp_path / "m.onnx").write_bytes(export_onnx(exportable))

    found = load_onnx(tmp_path / "m.onnx").signature
    assert found == exportable.signature
    assert len(found.state) == 33


def test_the_graph_in_float64_is_the_network_in_float64(house):
    """The oracle from the equations and the one from the graph share no code."""
    exportable, path = house
    source = load_onnx(path)
    inputs = make_inputs(Case(id="own", rows=4, steps=70, ragged=True, state="random"), source.signature)
    ours, theirs = GraphOracle(source.model, source.signature).truth(inputs), Oracle(exportable).truth(inputs)

    for name, expected in theirs.outputs.items():
        np.testing.assert_allclose(ours.outputs[name], expected, rtol=0, atol=1e-12)
        assert 0.1 < ours.tolerances[name] / theirs.tolerances[name] < 10


@pytest.mark.slow
def test_a_strangers_file_becomes_a_bundle(tmp_path):
    path = gru_file(tmp_path / "gru.onnx")
    seen = []
    options = ExportOptions(name="gru", labels=("a", "b", "c", "d"), verify=QUICK)
    manifest, report, source = export_onnx_file(path, tmp_path / "b", options, lambda *step: seen.append(step))
    bundle = read_bundle(tmp_path / "b")

    assert report.verdict == "equivalent"
    assert [leg.name for leg in report.legs] == ["onnxruntime", "onnx reference"]
    assert manifest == bundle.manifest
    assert bundle.model == path.read_bytes() == source.model
    assert manifest.streamable
    assert manifest.graph.lengths is None
    assert manifest.network["kind"] == "ONNX file"
    assert manifest.network["layers"] == ["GRU"]
    assert "model.ts" not in manifest.files
    assert seen


def test_tokens_take_their_number_from_the_table_that_they_index(tmp_path):
    nodes = [
        helper.make_node("Identity", ["tokens"], ["t"]),
        helper.make_node("Gather", ["other", "t0"], ["unused"]),
        helper.make_node("Gather", ["other", "t"], ["larger"]),
        helper.make_node("Gather", ["table", "t"], ["y"]),
    ]
    zero = numpy_helper.from_array(np.array([0], np.int64), "t0")
    path = save(
        tmp_path / "m.onnx",
        nodes,
        [value("tokens", ["B", "T"], TensorProto.INT64)],
        [value("y", ["B", "T", 5])],
        [weight("table", 7, 5), weight("other", 9, 5), zero],
    )
    source = load_onnx(path)
    report, _ = verify_onnx(path, source, VerifyOptions(drift_steps=50, only_case="B3-T7"))

    assert source.signature.vocabulary_size == 7
    assert report.verdict == "equivalent"


def test_tokens_without_a_table_are_refused(tmp_path):
    nodes = [
        helper.make_node("Cast", ["tokens"], ["t"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["t", "two"], ["y"]),
    ]
    two = numpy_helper.from_array(np.array([2], np.int64), "two")
    tokens = value("tokens", ["B", "T"], TensorProto.INT64)
    path = save(tmp_path / "m.onnx", nodes, [tokens], [value("y", ["B", "T", 1])], [two])

    with pytest.raises(SignatureError, match="tokens index no table of the file, expected an embedding"):
        load_onnx(path)


@pytest.mark.slow
def test_a_runtime_that_computes_something_else_is_refused_with_the_words_to_run_it_again(tmp_path, monkeypatch):
    path = gru_file(tmp_path / "gru.onnx")
    honest = onnx_source.RuntimeLeg.run

    def wrong(self, inputs):
        found = honest(self, inputs)
        return found | {"y": found["y"] * np.float32(1.01)}

    monkeypatch.setattr(onnx_source.RuntimeLeg, "run", wrong)
    with pytest.raises(NotEquivalentError, match=r"in case B.* run it again with --case B"):
        export_onnx_file(path, tmp_path / "b", ExportOptions(name="gru", verify=QUICK))

    assert not (tmp_path / "b").exists()


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


def test_every_float_of_a_graph_becomes_double_in_subgraphs_too():
    inner = helper.make_graph(
        [
            helper.make_node("Constant", [], ["c"], value_float=0.1),
            helper.make_node("Constant", [], ["d"], value_floats=[0.5, 0.25]),
            helper.make_node("Cast", ["d"], ["e"], to=TensorProto.FLOAT),
            helper.make_node("Cast", ["d"], ["f"], to=TensorProto.INT64),
            helper.make_node("Add", ["c", "w"], ["out"]),
        ],
        "inner",
        [],
        [value("out", [2])],
        [weight("w", 2)],
    )
    graph = helper.make_graph(
        [helper.make_node("If", ["which"], ["y"], then_branch=inner, else_branch=inner)],
        "outer",
        [value("which", [], TensorProto.BOOL)],
        [value("y", [2])],
        value_info=[value("y", [2])],
    )
    to_double(graph)
    branch = graph.node[0].attribute[0].g

    assert graph.output[0].type.tensor_type.elem_type == TensorProto.DOUBLE
    assert graph.input[0].type.tensor_type.elem_type == TensorProto.BOOL
    assert not graph.value_info
    assert branch.initializer[0].data_type == TensorProto.DOUBLE
    assert numpy_helper.to_array(branch.node[0].attribute[0].t).dtype == np.float64
    assert numpy_helper.to_array(branch.node[1].attribute[0].t).tolist() == [0.5, 0.25]
    assert branch.node[2].attribute[0].i == TensorProto.DOUBLE
    assert branch.node[3].attribute[0].i == TensorProto.INT64


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
        verify_onnx(path, load_onnx(path), VerifyOptions(drift_steps=50))


@pytest.mark.parametrize("size", [0, -3])
def test_a_size_that_no_tensor_has_is_refused(tmp_path, size):
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, [value("x", ["B", "T", size])], [value("y", ["B", "T", size])], [])

    with pytest.raises(SignatureError, match=f"input x has axis 2 of size {size}, expected at least 1"):
        load_onnx(path)
