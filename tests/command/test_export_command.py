"""cellgate export: what it prints, writes and refuses, and how it ends."""

import json
import re
import shlex
import shutil

import pytest
import torch

from cellgate.bundle.reader import read_bundle
from cellgate.export import pipeline
from cellgate.model import SequenceModel, save_network

pytestmark = pytest.mark.long

QUICK = ("--drift-steps", "50", "--threads", "1")


@pytest.mark.slow
def test_people_read_what_became_of_the_network(classifier):
    out = classifier.done.out

    assert out.startswith(f"bundle {classifier.path} (Class-fier, version 1)\n")
    assert re.search(r"^weights     .+\.safetensors$", out, re.MULTILINE)
    assert "layer 0     LSTMCell -> LSTM (fused, time free), at stacks.0.0\n" in out
    assert "verdict     equivalent: " in out
    assert " ULP), " in out
    assert "lengths     taken: the sequences of one request may be of unequal length\n" in out
    assert "streamable  yes: chunks with carried state gave what one pass gives" in out
    assert "same bits   a sequence alone and in any batch: " in out
    # Within or above: that depends on the processor, and the command says what was found.
    assert re.search(
        r"control     rounding errors up to \d+\.\d\d times those of torch.nn's layer, (within|above) the aim ", out
    )
    assert " s, " in out
    assert " MiB of memory at the most\n" in out
    assert f"report   {classifier.path}/equivalence.html\n" in out
    assert out.endswith(f"next     cellgate serve {shlex.quote(str(classifier.path))}\n")


@pytest.mark.slow
def test_progress_goes_to_stderr_in_short_lines(classifier):
    lines = classifier.done.err.splitlines()

    assert lines[0].startswith("cellgate: weights: ")
    assert "cellgate: TorchScript (1 of 3)" in lines
    assert any(line.startswith("cellgate: case B") for line in lines)
    assert len(lines) < 15


@pytest.mark.slow
def test_labels_come_from_the_weights_and_the_name_from_the_folder(classifier):
    manifest = read_bundle(classifier.path).manifest

    assert (manifest.name, manifest.version, manifest.labels) == ("Class-fier", 1, ("down", "up"))
    assert re.fullmatch(r"\w+\.safetensors, sha-256 [0-9a-f]{64}", manifest.network["weights"])


@pytest.mark.slow
def test_machines_get_one_json_document(tagger):
    answer = tagger.done.answer
    bundle = read_bundle(tagger.path)

    assert answer["bundle"] == str(tagger.path)
    assert answer["digest"] == bundle.digest
    assert answer["weights"] == "as the factory made them (no --weights)"
    assert answer["verdict"] == "equivalent"
    assert answer["labels"] == ["a", "b", "c", "d"]
    assert [layer["operator"] for layer in answer["layers"]] == ["GRU"]
    assert answer["streamable"] is True
    assert answer["worst"]["max_abs"] <= answer["worst"]["tolerance"]
    assert answer["elapsed_s"] > 0
    assert answer["peak_memory_mib"] > 10
    assert answer["control_ratio"] > 0


@pytest.mark.slow
def test_a_strangers_module_is_exchanged_and_takes_its_roles_from_options(odd):
    manifest = read_bundle(odd.path).manifest

    assert "exchanged   lstm, nn.LSTM: weights and probes equal\n" in odd.done.out
    assert manifest.graph.lengths is None
    assert manifest.labels == ("no", "yes")
    assert manifest.normalisation == {"mean": (1.0, 2.0, 3.0), "std": (0.5, 1.0, 2.0)}
    assert "streamable  no: " in odd.done.out


@pytest.mark.slow
def test_outputs_that_the_bundle_leaves_out_are_told_on_stderr(classifier, odd):
    assert "Odd.forward returns 1 tensor more, beside y and the states that it carries; the bundle" in odd.done.err
    assert "the bundle leaves it out, and --answer 1 would give it as y, names joined by " in odd.done.err
    assert "the bundle leaves them out" not in odd.done.out
    assert "leaves them out" not in classifier.done.err


def test_one_case_runs_alone_and_writes_nothing(run, networks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("export", f"{networks / 'networks.py'}:noisy", "--case", "B3-T7-ragged", *QUICK)

    assert done.status == 0
    assert done.out.startswith("case B3-T7-ragged: passed\n")
    for leg in ("eager", "torchscript", "onnxruntime", "onnx reference", "torch.nn"):
        assert leg in done.out
    assert "printed by the factory" not in done.out
    assert "printed by the factory" in done.err
    assert "weights: as the factory made them (no --weights)" in done.err
    assert list(tmp_path.iterdir()) == []


def test_another_answer_is_chosen_and_one_that_is_not_there_refused(run, networks):
    words = ["export", f"{networks / 'networks.py'}:Odd", "--case", "B2-T2", "--labels", "a,b,c,d", *QUICK, "--answer"]

    chosen, unknown = run(*words, "1"), run(*words, "last")

    assert chosen.out.startswith("case B2-T2: passed\n")
    assert unknown.status == 2
    assert "Odd.forward returns nothing called 'last' (--answer), expected one of 0, 1, 2.last" in unknown.err


def test_one_case_for_machines(run, networks):
    done = run("export", f"{networks / 'networks.py'}:classifier", "--case", "B2-T2", "--json", *QUICK)

    assert done.answer["case"] == "B2-T2"
    assert done.answer["passed"] is True
    assert {leg["leg"] for leg in done.answer["legs"]} >= {"eager", "onnxruntime"}


def test_the_laws_run_alone(run, networks):
    done = run("export", f"{networks / 'networks.py'}:Odd", "--case", "laws-alone", *QUICK)

    assert done.status == 0
    assert "a row gives the same alone and among other rows" in done.out
    assert "does not apply" in done.out


def test_what_cannot_run_in_a_case_is_said(run, networks):
    (networks / "mean.py").write_text(
        "from cellgate.model import SequenceModel\ndef make(): return SequenceModel(3, 4, cell='LayerNormLSTMCell')\n",
        encoding="utf-8",
    )
    done = run("export", f"{networks / 'mean.py'}:make", "--case", "B2-T2", *QUICK)

    assert done.status == 0
    assert "not run  torch.nn: not applicable" in done.out


def test_an_unknown_case_is_answered_with_the_list(run, networks):
    done = run("export", f"{networks / 'networks.py'}:classifier", "--case", "B9-T9", *QUICK)

    assert done.status == 2
    assert "--case: expected one of B1-T1, B1-T1-random" in done.err
    assert "found 'B9-T9'" in done.err


@pytest.mark.slow
def test_a_network_that_is_not_equivalent_is_refused_with_the_words_that_run_it_again(
    run, networks, tmp_path, monkeypatch
):
    honest = pipeline.export_onnx

    def wrong(exportable):
        """Export another network of the same form, as an exporter that lost the weights would."""
        torch.manual_seed(99)
        for parameter in exportable.graph_call.parameters():
            torch.nn.init.normal_(parameter)
        return honest(exportable)

    monkeypatch.setattr(pipeline, "export_onnx", wrong)
    words = ("export", f"{networks / 'networks.py'}:classifier", f"--out={tmp_path / 'a b'}", *QUICK)
    done = run(*words)
    again = done.err.strip().rpartition("run it again with ")[2]
    case = again.rpartition(" --case ")[2]
    alone = run(*shlex.split(again)[1:])

    assert done.status == 1
    assert done.out == ""
    assert "not equivalent, so no bundle was written: in case " in done.err
    assert not (tmp_path / "a b").exists()
    assert again == shlex.join(["cellgate", *map(str, words), "--case", case])
    assert alone.status == 1
    assert f"case {case}: not equivalent\n" in alone.out


@pytest.mark.slow
def test_a_chaotic_network_is_written_with_a_warning(run, networks, tmp_path):
    done = run("export", f"{networks / 'networks.py'}:chaotic", "--out", tmp_path / "chaos", *QUICK)

    assert done.status == 0
    assert "verdict     sensitive" in done.out
    assert "cellgate: warning: the network is chaotic" in done.err


@pytest.mark.slow
def test_overwrite_replaces_a_bundle(run, classifier, tmp_path):
    out = shutil.copytree(classifier.path, tmp_path / "b")
    save_network(SequenceModel(2, 2), tmp_path / "tiny.safetensors", {"cellgate.labels": json.dumps(["a", "b"])})
    words = ("--name", "tiny", "--model-version", "2", "--overwrite")
    done = run("export", tmp_path / "tiny.safetensors", "--out", out, *words, *QUICK)
    manifest = read_bundle(out).manifest

    assert done.status == 0, done.err
    assert (manifest.name, manifest.version, manifest.labels) == ("tiny", 2, ("a", "b"))


@pytest.mark.no_cover
@pytest.mark.slow
def test_gates_in_float64_are_told_wherever_the_bundle_is_shown(run, networks, tmp_path):
    source = (f"{networks / 'networks.py'}:classifier", "--weights", networks / "weights.safetensors")
    out, again = tmp_path / "wide", tmp_path / "again"
    done = run("export", *source, "--float64-gates", "--out", out, *QUICK)
    shown, said = run("inspect", out), run("inspect", out, "--json").answer
    case = run("verify", out, "--source", *source, "--case", "B2-T2", *QUICK)
    file = run("export", out / "model.onnx", "--out", again, *QUICK)

    assert done.status == 0, done.err
    assert "LSTMCell -> Scan (a loop over the cell, time free)" in done.out
    assert "gates       in float64, products and what is kept of a state in float32\n" in done.out
    assert "gates float64" in shown.out
    assert said["manifest"]["network"]["gates"] == "float64"
    assert said["manifest"]["precision"] == "float32"
    assert json.loads((out / "equivalence.json").read_bytes())["network"]["gates"] == "float64"
    assert case.status == 0, case.err
    assert file.status == 0, file.err


@pytest.mark.slow
def test_an_onnx_file_becomes_a_bundle(run, classifier, tmp_path):
    words = ("--out", tmp_path / "again", "--labels", "a,b", *QUICK)
    done = run("export", classifier.path / "model.onnx", *words)
    answer = run("inspect", tmp_path / "again", "--json").answer

    assert done.status == 0, done.err
    assert "layer 0     of the file -> LSTM (fused, time free), at " in done.out
    assert "onnxruntime, onnx reference against the graph in float64" in done.out
    assert answer["manifest"]["labels"] == ["a", "b"]
    assert answer["manifest"]["graph"] == run("inspect", classifier.path, "--json").answer["manifest"]["graph"]


def test_a_case_of_an_onnx_file_runs_alone(run, classifier):
    done = run("export", classifier.path / "model.onnx", "--case", "B2-T2", *QUICK)
    unknown = run("export", classifier.path / "model.onnx", "--case", "B2", *QUICK)

    assert done.status == 0
    assert done.out.startswith("case B2-T2: passed\n")
    assert unknown.status == 2
    assert "--case: expected one of B1-T1, " in unknown.err


@pytest.mark.parametrize(
    "words",
    [
        ["--weights", "w.pt"],
        ["--input-dim", "3"],
        ["--argument", "sequence=x"],
        ["--answer", "y"],
        ["--columns", "x=3"],
        ["--float64-gates"],
    ],
)
def test_an_onnx_file_takes_nothing_of_a_network(run, classifier, tmp_path, words):
    done = run("export", classifier.path / "model.onnx", "--out", tmp_path / "b", *words)

    assert done.status == 2
    assert f"{words[0]}: an ONNX file has its own, expected none; leave it out" in done.err
