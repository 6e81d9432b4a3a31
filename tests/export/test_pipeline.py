"""From a network to a bundle, or a refusal and no bundle."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from cellgate.bundle.reader import read_bundle
from cellgate.export import pipeline
from cellgate.export.errors import NotEquivalentError, SourceError
from cellgate.export.graph.onnx_graph import export_onnx
from cellgate.export.options import ExportOptions
from cellgate.export.pipeline import build, export_bundle
from cellgate.export.proof.findings import Worst
from cellgate.export.proof.verify import VerifyOptions
from cellgate.model import SequenceModel

pytestmark = pytest.mark.plain_exporters

QUICK = VerifyOptions(drift_steps=20, threads=1)
ONE_CASE = VerifyOptions(drift_steps=20, threads=1, only_case="B2-T2")


@pytest.fixture(scope="module")
def network() -> SequenceModel:
    torch.manual_seed(3)
    return SequenceModel(3, 4, 2, reads="last_step").eval()


@pytest.mark.no_cover
def test_bundle_is_written_and_reads_back_with_what_was_exported(network: SequenceModel, tmp_path: Path) -> None:
    said: list[tuple[str, int, int]] = []
    options = ExportOptions(name="tiny", version=3, labels=("no", "yes"), verify=QUICK)

    exported = export_bundle(network, tmp_path / "tiny", options, lambda *words: said.append(words))

    bundle = read_bundle(tmp_path / "tiny")
    assert exported.manifest == bundle.manifest
    assert (
        bundle.manifest.name, bundle.manifest.version, bundle.manifest.labels, bundle.manifest.streamable
    ) == ("tiny", 3, ("no", "yes"), True)  # fmt: skip
    assert list(bundle.manifest.operators) == ["Gemm", "LSTM", "Squeeze", "Transpose"]
    assert "model.ts" in bundle.manifest.files
    assert export_onnx(build(network, options).exportable) == bundle.model
    assert {"recurrent layers", "TorchScript", "ONNX", "laws"} <= {what for what, _, _ in said}
    runtime = onnxruntime.InferenceSession(bundle.model)
    for case in bundle.golden:
        found = dict(zip([o.name for o in runtime.get_outputs()], runtime.run(None, case.inputs), strict=True))
        for name, expected in case.outputs.items():
            assert float(np.abs(found[name] - expected).max()) <= bundle.manifest.tolerances[name]


class ShutGates(nn.Module):
    """minLSTM's normalised gates (Feng et al. 2024), by division or by logarithms."""

    def __init__(self, *, by_division: bool) -> None:
        super().__init__()
        self.gates, self.by_division = nn.Linear(3, 12), by_division

    def forward(self, x: Tensor) -> Tensor:
        h, seen = torch.zeros(x.size(0), 4), []
        for t in range(x.size(1)):
            a, b, new = self.gates(x[:, t]).chunk(3, 1)
            f, i = torch.sigmoid(a), torch.sigmoid(b)
            kept = f / (f + i) if self.by_division else torch.sigmoid(F.logsigmoid(a) - F.logsigmoid(b))
            h = kept * h + (1 - kept) * new
            seen.append(h)
        return torch.stack(seen, 1)


def test_network_that_divides_by_zero_itself_is_told_so_and_the_remedy_works(tmp_path: Path) -> None:
    options = ExportOptions(name="shut", verify=replace(QUICK, only_case="B2-T24-saturated"))
    torch.manual_seed(0)

    with pytest.raises(
        NotEquivalentError, match=r"T24-saturated y\[.*\] is not finite where PyTorch runs the network itse"
    ):
        export_bundle(ShutGates(by_division=True), tmp_path / "shut", options)

    assert export_bundle(ShutGates(by_division=False), tmp_path / "shut", options).report.verdict == "equivalent"


class TimedMemory(nn.Module):
    """A time-aware LSTM (Baytas et al. 2017) with gates near zero, and a memory as large as the time in x says."""

    def __init__(self) -> None:
        super().__init__()
        self.from_h, self.from_x, self.short = nn.Linear(8, 32), nn.Linear(5, 32), nn.Linear(8, 8)
        with torch.no_grad():
            self.from_x.bias[:8] = -16.0
            self.from_x.weight[:8] *= 0.01
            self.from_h.weight *= 0.1

    def forward(self, x: Tensor) -> Tensor:
        h = c = torch.zeros(x.size(0), 8)
        seen = []
        for t in range(x.size(1)):
            lately = torch.tanh(self.short(c))
            f, i, o, new = torch.sigmoid(self.from_h(h) + self.from_x(x[:, t, :5])).chunk(4, 1)
            c = f * (c - lately + lately * x[:, t, 5:] * 1e4) + i * new
            h = o * torch.tanh(c)
            seen.append(h)
        return torch.stack(seen, 1)


@pytest.mark.no_cover
def test_gates_that_onnxruntime_computes_less_exactly_are_told_what_helps_and_it_does(tmp_path: Path) -> None:
    options = ExportOptions(name="timed", input_dim=6, verify=replace(QUICK, only_case="B2-T24-saturated"))
    torch.manual_seed(1)
    module = TimedMemory()

    with pytest.raises(
        NotEquivalentError, match=r"of onnxruntime is off by .* --float64-gates computes both as exactly"
    ):
        export_bundle(module, tmp_path / "timed", options)

    exact = replace(options, float64_gates=True)
    assert export_bundle(module, tmp_path / "timed", exact).report.verdict == "equivalent"


def test_without_torchscript_the_bundle_is_written_and_the_report_says_why(
    network: SequenceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("TorchScript has left")

    monkeypatch.setattr(torch.jit, "script", refuse)

    exported = export_bundle(network, tmp_path / "tiny", ExportOptions(name="tiny", verify=ONE_CASE))

    assert "model.ts" not in exported.manifest.files
    assert not (tmp_path / "tiny" / "model.ts").exists()
    (leg,) = [leg for leg in exported.report.legs if leg.name == "torchscript"]
    assert "TorchScript has left" in leg.complaint
    assert b"TorchScript has left" in (tmp_path / "tiny" / "equivalence.json").read_bytes()


def test_network_whose_graph_differs_is_refused_and_nothing_written(
    network: SequenceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = SequenceModel(3, 4, 2, reads="last_step").eval()
    monkeypatch.setattr(pipeline, "export_onnx", lambda _: export_onnx(pipeline.prepare(other)))
    options = ExportOptions(name="tiny", verify=ONE_CASE)

    with pytest.raises(NotEquivalentError, match=r"not equivalent.* in case \S+ .* run it again with --case") as caught:
        export_bundle(network, tmp_path / "tiny", options)

    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"labels": ("one",)}, "labels: expected 2 names, one for each output", id="labels"),
        pytest.param(
            {"normalisation": {"mean": (0.0,), "std": (1.0,)}}, "mean: expected 3 numbers", id="normalisation"
        ),
    ],
)
def test_what_is_said_about_the_network_must_fit_before_anything_is_verified(
    network: SequenceModel, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        build(network, ExportOptions(name="tiny", **changes))


def test_normalisation_of_tokens_is_refused() -> None:
    tokens = SequenceModel(5, 4, 2, front="embedding", front_dim=3)
    options = ExportOptions(name="tiny", normalisation={"mean": (0.0,), "std": (1.0,)})

    with pytest.raises(SourceError, match="expected none for a network that reads tokens"):
        build(tokens, options)


class Padding(nn.Module):
    """Pads what is too short for its convolution, where a graph can hold no condition."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Conv1d(3, 3, 5)
        self.rnn = nn.GRU(3, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        if x.size(1) < 5:
            x = nn.functional.pad(x, (0, 0, 0, 5 - x.size(1)))
        y: Tensor = self.rnn(self.front(x.transpose(1, 2)).transpose(1, 2))[0]
        return y[:, -1]


@pytest.mark.no_cover
def test_a_graph_that_stops_is_told_once_and_by_whom(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NotEquivalentError, match=r"in case B1-T1 onnxruntime: stopped with InvalidArgument: .* run "):
        export_bundle(Padding(), tmp_path / "padding", ExportOptions(name="padding"))

    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "padding").exists()


@pytest.mark.parametrize(("ulps", "words"), [(12.0, "(12 ULP)"), (8.1234e44, "(8e+44 ULP)"), (np.inf, "(inf ULP)")])
def test_a_refusal_gives_no_more_digits_than_are_read(ulps: float, words: str) -> None:
    worst = Worst(case="c", leg="onnxruntime", output="y", max_abs=1.0, tolerance=0.1, index=(0,), ulps=ulps)

    assert f"is off by 1 {words}, expected" in pipeline.refusal(worst, 1, lambda case: case)
