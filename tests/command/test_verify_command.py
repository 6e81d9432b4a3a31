"""cellgate verify: golden cases on a device, and the whole grid against the network once more."""

import json
import shutil

import numpy as np
import pytest

from cellgate.bundle.golden import GoldenCase, pack_golden
from cellgate.bundle.reader import read_bundle
from cellgate.bundle.verification import read_verifications
from cellgate.bundle.writer import write_bundle
from cellgate.serve.runtime.golden_check import GoldenResult, OutputError
from cellgate.serve.runtime.runtime import RuntimeFacts

QUICK = ("--drift-steps", "50", "--threads", "1")


@pytest.fixture
def copy(classifier, tmp_path):
    """A copy of the bundle, so that records do not gather beside the shared one."""
    return shutil.copytree(classifier.path, tmp_path / "bundle")


@pytest.fixture
def other(classifier, tmp_path):
    """The same bundle with golden outputs that its graph does not give."""
    bundle = read_bundle(classifier.path)
    cases = [
        GoldenCase(id=c.id, inputs=c.inputs, outputs={n: np.array(a + 1, a.dtype) for n, a in c.outputs.items()})
        for c in bundle.golden
    ]
    contents = {name: (bundle.path / name).read_bytes() for name in bundle.manifest.files}
    contents["golden.safetensors"] = pack_golden(cases)
    write_bundle(tmp_path / "other", bundle.manifest, contents)
    return tmp_path / "other"


def test_the_golden_cases_are_run_and_recorded(run, copy):
    done = run("verify", copy, "--device", "cpu", "--threads", "1")
    bundle = read_bundle(copy)
    record = read_verifications(bundle)["cpu"]

    assert done.status == 0
    assert done.out.startswith("Class-fier version 1: 6 golden cases reproduced on cpu\n")
    assert f"digest   {bundle.digest}\n" in done.out
    assert f"record   {copy}.verified/cpu.json\n" in done.out
    assert done.err == ""
    assert record["passed"] is True
    assert record["cases"] == 6
    assert [output["output"] for output in record["outputs"]] == ["y", "h_n", "c_n"]
    assert record["provider"] == "CPUExecutionProvider"
    assert record["precision"] == "float32"
    assert record["placement"]["counts"][0][0] == "CPUExecutionProvider"
    assert record["placement"]["misplaced"] == []
    assert record["device_name"]
    assert record["driver"] is None
    assert record["bits"]["rows_bitwise"] is True
    assert record["bits"]["chunks_bitwise"] is True
    assert record["bits"]["rows"] > 1
    assert "bits     a row alone and in its batch: yes; in one pass and in two chunks: yes " in done.out


def test_machines_get_the_record(run, copy):
    answer = run("verify", copy, "--device", "cpu", "--no-record", "--json").answer

    assert answer["passed"] is True
    assert answer["digest"] == read_bundle(copy).digest
    assert answer["record"] is None
    assert not copy.with_name("bundle.verified").exists()


def test_golden_cases_that_are_not_reproduced_are_exit_1_and_recorded(run, other):
    done = run("verify", other, "--device", "cpu")

    assert done.status == 1
    assert "6 golden cases NOT reproduced on cpu" in done.out
    assert done.err.startswith(f"cellgate: {other}: expected the golden cases to be reproduced on cpu, found ")
    assert "try another --device, or export again" in done.err
    assert read_verifications(read_bundle(other))["cpu"]["passed"] is False


def test_what_a_runtime_refused_is_told_and_recorded_as_plain_json():
    from cellgate.command.verify_command import make_record

    error = OutputError(output="y", worst=np.inf, tolerance=0.0, case_id=None, index=(), passed=False)
    result = GoldenResult(passed=False, cases=1, outputs=(error,), problems=("case a: expected it to run",))
    facts = RuntimeFacts(device="cpu", provider="P", threads=1, version="1", reason="asked for")
    record = make_record(result, facts)

    assert json.loads(json.dumps(record, allow_nan=False))["outputs"][0]["worst"] == "inf"
    assert record["problems"] == ["case a: expected it to run"]


def test_notes_of_the_runtime_and_problems_are_shown(run, copy, monkeypatch):
    from cellgate.command import verify_command

    honest = verify_command.check_golden

    def troubled(runtime, bundle):
        runtime._facts = RuntimeFacts(
            device="cpu", provider="P", threads=1, version="1", reason="asked for", notes=("two wheels",)
        )
        found = honest(runtime, bundle)
        outputs = tuple(
            OutputError(output=o.output, worst=np.inf, tolerance=o.tolerance, case_id=None, index=(), passed=False)
            for o in found.outputs
        )
        return GoldenResult(passed=False, cases=4, outputs=outputs, problems=("case a: expected it to run",))

    monkeypatch.setattr(verify_command, "check_golden", troubled)
    done = run("verify", copy, "--device", "cpu")

    assert done.status == 1
    assert "cellgate: warning: two wheels\n" in done.err
    assert "problem   case a: expected it to run\n" in done.out


def test_a_place_that_cannot_be_written_is_told_with_the_remedy(run, copy):
    copy.with_name("bundle.verified").write_text("in the way")
    done = run("verify", copy, "--device", "cpu")

    assert done.status == 2
    assert "bundle.verified: expected to write the record there, found: " in done.err
    assert "give --no-record where the place is read-only" in done.err


def test_a_damaged_bundle_is_exit_2(run, copy):
    (copy / "equivalence.html").write_bytes(b"other")
    done = run("verify", copy)

    assert done.status == 2
    assert "equivalence.html: expected bytes " in done.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--weights", "w.safetensors"], "--weights goes with --source, expected both or neither"),
        (["--input-dim", "3"], "--input-dim goes with --source"),
        (["--columns", "x=3"], "--columns goes with --source"),
        (["--source", "a.py:b", "--tf32"], "--source compares on the CPU, expected no --tf32"),
        (["--source", "a.py:b", "--device", "cuda"], "--source compares on the CPU, expected no --device cuda"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_use(run, copy, words, sentence):
    done = run("verify", copy, *words)

    assert done.status == 2
    assert sentence in done.err


@pytest.mark.slow
def test_the_grid_runs_again_against_the_source(run, classifier, copy, tmp_path):
    weights = classifier.path.parents[1] / "weights.safetensors"
    words = ("verify", copy, "--source", classifier.source, "--weights", weights, "--report", tmp_path / "r" / "s")
    done = run(*words, *QUICK)

    assert done.status == 0, done.err
    assert "verdict     equivalent: " in done.out
    assert f"report      {tmp_path / 'r' / 's' / 'equivalence.html'}\n" in done.out
    assert json.loads((tmp_path / "r" / "s" / "equivalence.json").read_bytes())["verdict"] == "equivalent"
    assert not copy.with_name("bundle.verified").exists()


@pytest.mark.slow
def test_other_weights_are_not_equivalent_and_the_case_runs_alone(run, classifier, copy):
    words = ("verify", copy, "--source", classifier.source, *QUICK)
    done = run(*words, "--json")
    case = done.err.strip().rpartition(" --case ")[2]
    alone = run(*words, "--case", case)
    alone_json = run(*words, f"--case={case}", "--json")

    assert done.status == 1
    assert done.answer["verdict"] == "not equivalent"
    assert f": expected it equivalent to {classifier.source}, found " in done.err
    assert alone.status == 1
    assert alone.out.startswith(f"case {case}: not equivalent\n")
    assert alone_json.answer["passed"] is False


def test_a_source_of_another_form_is_wrong_use(run, classifier, tagger, copy):
    done = run("verify", copy, "--source", tagger.source, "--case", "B1-T1")

    assert done.status == 2
    assert "expected x float32 [B, T, 3], lengths int32 [B], h0 float32 [1, B, 4], c0 float32 [1, B, 4] -> " in done.err
    assert "as in the bundle, found tokens int64 [B, T]" in done.err
