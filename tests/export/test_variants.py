"""Graphs for CUDA: which cells need one, that it is a Scan, that it is verified like the first, and can fail."""

import dataclasses
import json
from collections import Counter

import onnx
import pytest
import torch

from cellgate.bundle.reader import read_bundle
from cellgate.export.exportable import for_cuda, prepare
from cellgate.export.graph.cuda_kernels import runs_on_cuda
from cellgate.export.graph.fused_form import FusedForm, Slots
from cellgate.export.options import ExportOptions
from cellgate.export.pipeline import build, export_bundle, verify_artefacts
from cellgate.export.proof.verify import VerifyOptions
from cellgate.export.report_page.page import render_page
from cellgate.model import SequenceModel

SCAN = "model.scan.onnx"
OPTIONS = ExportOptions(name="checked", verify=VerifyOptions(drift_steps=50, threads=1))
SLOTS = Slots(4, "w", "r", None, None)
LSTM = FusedForm("LSTM", SLOTS, (0, 1, 2, 3), ("sigmoid", "tanh", "tanh"))
GRU = FusedForm("GRU", SLOTS, (0, 1, 2), ("sigmoid", "tanh"), linear_before_reset=True)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        pytest.param(LSTM, True, id="LSTM"),
        pytest.param(GRU, True, id="GRU"),
        pytest.param(dataclasses.replace(LSTM, peephole_order=("i", "o", "f")), False, id="peepholes"),
        pytest.param(dataclasses.replace(LSTM, order=(0, 1, -1, 2)), False, id="coupled"),
        pytest.param(dataclasses.replace(LSTM, activations=("hard_sigmoid", "tanh", "tanh")), False, id="gates"),
        pytest.param(dataclasses.replace(LSTM, activations=("sigmoid", "tanh", "relu")), False, id="output"),
        pytest.param(dataclasses.replace(GRU, linear_before_reset=False), False, id="reset before the product"),
        pytest.param(dataclasses.replace(GRU, activations=("sigmoid", "softsign")), False, id="GRU activation"),
        pytest.param(dataclasses.replace(LSTM, negated=(True, False, False, False)), True, id="signs of weights"),
    ],
)
def test_forms_that_the_provider_has_a_kernel_for(form, expected):
    assert runs_on_cuda(form) is expected


@pytest.mark.parametrize("options", [{}, {"cell": "GRUCell"}, {"cell": "LayerNormLSTMCell"}, {"bidirectional": True}])
def test_network_that_runs_as_it_is_needs_no_other_graph(options):
    assert for_cuda(prepare(SequenceModel(3, 4, 2, **options))) is None


@pytest.mark.parametrize("cell", ["PeepholeLSTMCell", "CoupledLSTMCell"])
def test_layers_without_a_kernel_become_scans(cell):
    other = for_cuda(prepare(SequenceModel(3, 4, 2, cell=cell, num_layers=2)))

    assert [layer.operator for layer in other.layers] == ["Scan", "Scan"]


@pytest.fixture(scope="module")
def peepholes():
    torch.manual_seed(5)
    return build(SequenceModel(3, 4, 2, cell="PeepholeLSTMCell"), OPTIONS)


@pytest.mark.slow
def test_variant_stands_in_the_bundle_with_its_own_rows_laws_and_digest(tmp_path):
    torch.manual_seed(5)
    done = export_bundle(SequenceModel(3, 4, 2, cell="CoupledLSTMCell"), tmp_path / "b", OPTIONS)
    bundle = read_bundle(tmp_path / "b")
    report = json.loads((tmp_path / "b" / "equivalence.json").read_bytes())
    (variant,) = bundle.manifest.variants
    (laws,) = report["variants"]
    page = render_page(done.report).decode()

    assert done.report.verdict == "equivalent"
    assert (variant.file, variant.device, variant.bitwise_rows, variant.bitwise_chunks) == (SCAN, "cuda", True, True)
    assert "Scan" in variant.operators
    assert "LSTM" not in variant.operators
    assert "LSTM" in bundle.manifest.operators
    assert all(any(leg["leg"] == f"onnxruntime {SCAN}" for leg in case["legs"]) for case in report["cases"])
    assert (laws["file"], {law["name"] for law in laws["laws"]}) == (SCAN, {"alone", "padding", "order", "chunks"})
    assert f"onnxruntime {SCAN}" in page
    assert f"gives the same alone and among other rows ({SCAN})" in page


@pytest.mark.no_cover
@pytest.mark.slow
def test_variant_whose_laws_were_not_run_claims_no_bits(tmp_path):
    one_case = dataclasses.replace(OPTIONS, verify=VerifyOptions(only_case="B2-T2"))
    done = export_bundle(SequenceModel(3, 4, 2, cell="CoupledLSTMCell"), tmp_path / "b", one_case)

    assert [(v.file, v.bitwise_rows, v.bitwise_chunks) for v in done.manifest.variants] == [(SCAN, False, False)]


@pytest.mark.no_cover
@pytest.mark.slow
def test_variant_that_computes_something_else_is_not_equivalent(peepholes):
    def off(model: onnx.ModelProto) -> onnx.ModelProto:
        scans = [node for node in model.graph.node if node.op_type == "Scan"]
        assert Counter(node.op_type for node in model.graph.node)["Scan"] == len(scans) == 1
        body = next(attribute.g for attribute in scans[0].attribute if attribute.name == "body")
        first = next(node for node in body.node if node.op_type == "Tanh")
        first.op_type = "Sigmoid"
        return model

    spoilt = off(onnx.load_from_string(peepholes.variants[SCAN])).SerializeToString()
    report = verify_artefacts(dataclasses.replace(peepholes, variants={SCAN: spoilt}), OPTIONS)

    assert report.verdict == "not equivalent"
    assert {row.leg for row in report.failures()} == {f"onnxruntime {SCAN}"}


@pytest.mark.slow
def test_law_broken_by_the_variant_alone_is_a_failure(peepholes):
    report = verify_artefacts(peepholes, dataclasses.replace(OPTIONS, verify=VerifyOptions(only_case="laws-alone")))
    (found,) = report.variants
    laws = tuple(
        dataclasses.replace(law, passed=False, bitwise=False, max_abs=1.0) if law.name in {"alone", "chunks"} else law
        for law in found.laws
    )
    broken = dataclasses.replace(report, variants=(dataclasses.replace(found, laws=laws),))

    assert report.verdict == "equivalent"
    assert report.streamable
    assert broken.verdict == "not equivalent"
    assert broken.worst().leg == f"onnxruntime {SCAN}"
    assert not broken.streamable
