"""A bundle from an ONNX file alone: its contract, and its verification without PyTorch."""

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from cellgate.bundle.reader import read_bundle
from cellgate.export import onnx_source
from cellgate.export.errors import NotEquivalentError, SignatureError
from cellgate.export.exportable import prepare
from cellgate.export.graph.onnx_graph import export_onnx
from cellgate.export.onnx_source import export_onnx_file, load_onnx, verify_onnx
from cellgate.export.options import ExportOptions
from cellgate.export.proof.cases import Case, make_inputs
from cellgate.export.proof.graph_oracle import GraphOracle, to_double
from cellgate.export.proof.oracle import Oracle
from cellgate.export.proof.verify import VerifyOptions
from cellgate.model import SequenceModel

from .onnx_files import gru_file, save, value, weight

QUICK = VerifyOptions(drift_steps=50, threads=1)


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


def test_answer_for_fewer_steps_is_read_back_by_the_name_of_its_axis(tmp_path):
    class Every(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(3, 4, batch_first=True)

        def forward(self, x):
            return self.rnn(x)[0][:, 2::3]

    exportable = prepare(Every())
    (tmp_path / "m.onnx").write_bytes(export_onnx(exportable))

    source = load_onnx(tmp_path / "m.onnx")
    assert source.signature == exportable.signature
    assert (source.signature.outputs[0].shape, source.signature.least_steps) == (("B", "T//3", 4), 3)
    assert verify_onnx(tmp_path / "m.onnx", source, QUICK)[0].verdict == "equivalent"


@pytest.mark.no_cover
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
    report, _ = verify_onnx(path, source, VerifyOptions(drift_steps=50, threads=1, only_case="B3-T7"))

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
