"""Whether a bundle counts as verified here: the export's word, a record's word, and what does not hold any more."""

from dataclasses import replace

import pytest

from cellgate.bundle.reader import read_bundle
from cellgate.bundle.verification import write_verification
from cellgate.serve.models.verification_state import judge_verification, read_verification_state
from cellgate.serve.runtime.placement import OWN_KERNELS, Placement
from cellgate.serve.runtime.runtime import RuntimeFacts

CUDA = RuntimeFacts(device="cuda", provider="CUDAExecutionProvider", threads=1, version="1.32.0", reason="asked for")
CPU = replace(CUDA, device="cpu", provider="CPUExecutionProvider")
RECORD = {
    "passed": True,
    "onnxruntime": "1.32.0",
    "precision": "float32",
    "device_name": "NVIDIA H100",
    "checked_at": "2026-01-01",
}


@pytest.fixture
def manifest(make_network):
    network = make_network("steps")
    return network.manifest(network.model()[1], tools={"onnxruntime": "1.32.0"})


def judge(manifest, records, facts):
    return judge_verification(manifest, records, facts, "REMEDY")


def test_export_counts_for_the_cpu_with_its_own_runtime(manifest):
    state = judge(manifest, {}, CPU)

    assert (state.holds, state.statement) == (True, "at export, on cpu with onnxruntime 1.32.0")


def test_export_with_the_gpu_wheel_counts_too(manifest):
    assert judge(replace(manifest, tools={"onnxruntime-gpu": "1.32.0"}), {}, CPU).holds


def test_export_with_another_runtime_does_not_count(manifest):
    state = judge(replace(manifest, tools={"onnxruntime": "1.31.0"}), {}, CPU)

    assert (state.holds, state.statement) == (
        False,
        "verified at export with onnxruntime 1.31.0, found 1.32.0 here; run: REMEDY",
    )


def test_export_does_not_count_for_cuda(manifest):
    state = judge(manifest, {"cpu": RECORD}, CUDA)

    assert (state.holds, state.statement) == (False, "never verified on cuda; run: REMEDY")


def test_graph_that_nobody_verified_is_said_so(manifest):
    assert judge(replace(manifest, tools={}), {}, CPU).statement == "never verified on cpu; run: REMEDY"


def test_record_of_the_device_counts_and_names_the_device(manifest):
    state = judge(manifest, {"cuda": RECORD}, CUDA)

    assert (state.holds, state.statement) == (
        True,
        "on cuda (NVIDIA H100) with onnxruntime 1.32.0, 2026-01-01",
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"onnxruntime": "1.31.1"}, "verified on cuda with onnxruntime 1.31.1, found 1.32.0 here"),
        ({"precision": "tf32"}, "verified on cuda with precision tf32, found float32 here"),
        ({"passed": False}, "its golden cases were not reproduced on cuda when it was verified"),
        ({"passed": "true"}, "its golden cases were not reproduced on cuda when it was verified"),
    ],
)
def test_record_of_other_circumstances_does_not_count(manifest, change, words):
    state = judge(manifest, {"cuda": {**RECORD, **change}}, CUDA)

    assert (state.holds, state.statement) == (False, f"{words}; run: REMEDY")


def test_record_with_the_projects_kernels_counts_only_with_them(manifest):
    counts = [[OWN_KERNELS, 4]]
    record = {**RECORD, "placement": {"counts": counts, "elsewhere": [], "misplaced": []}}
    here = replace(CUDA, placement=Placement(counts=((OWN_KERNELS, 4),)))

    assert judge(manifest, {"cuda": record}, here).holds
    words = "verified on cuda with cellgate's own kernels, without them here; run: REMEDY"
    assert judge(manifest, {"cuda": record}, CUDA).statement == words
    words = "verified on cuda without cellgate's own kernels, with them here; run: REMEDY"
    assert judge(manifest, {"cuda": RECORD}, here).statement == words


def test_record_that_failed_on_the_cpu_outweighs_the_export(manifest):
    assert not judge(manifest, {"cpu": {**RECORD, "passed": False}}, CPU).holds


def test_old_record_on_the_cpu_does_not_outweigh_an_export_with_this_runtime(manifest):
    assert judge(manifest, {"cpu": {**RECORD, "onnxruntime": "1.30.0"}}, CPU).holds


def test_records_are_read_from_beside_the_bundle_and_only_its_own_count(make_network, tmp_path):
    bundle = read_bundle(make_network("steps").write(tmp_path / "a"))
    other = read_bundle(make_network("last").write(tmp_path / "b"))
    write_verification(bundle, "cuda", RECORD)
    before = read_verification_state(bundle, CUDA)
    write_verification(replace(other, path=bundle.path), "cuda", RECORD)
    after = read_verification_state(bundle, CUDA)

    assert before.holds
    assert (after.holds, after.statement) == (
        False,
        f"never verified on cuda; run: cellgate verify {bundle.path} --device cuda",
    )


def test_damaged_record_is_a_finding_and_no_error(make_network, tmp_path):
    bundle = read_bundle(make_network("steps").write(tmp_path / "a"))
    (tmp_path / "a.verified").mkdir()
    (tmp_path / "a.verified" / "cuda.json").write_text("{")

    state = read_verification_state(bundle, CUDA)

    assert not state.holds
    assert state.statement.startswith("its records cannot be read (")
