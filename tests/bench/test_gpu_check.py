"""bench/gpu without a GPU: floors and tables from records made by hand, processes that die, a rehearsal on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cellgate.serve.runtime.device_facts import DeviceFacts

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.tree, pytest.mark.long, pytest.mark.no_cover]
# The tests against the wheel have no bench/ and leave these out by their mark, but collect the file.
check = pytest.importorskip("check")
parts = pytest.importorskip("parts")
child = pytest.importorskip("child")
figures = pytest.importorskip("figures")
floors = pytest.importorskip("floors")
device_grid = pytest.importorskip("device_grid")
probes = pytest.importorskip("probes")
fused_lstm = pytest.importorskip("fused_lstm")

H100 = DeviceFacts(name="NVIDIA H100 80GB HBM3", driver="580.65.06")


def engine(rows, peaks=None):
    return {"how": "done", "answer": {"rows": rows, "peaks": peaks}, "last_words": ""}


def row(precision="float32", B=1, H=2, seconds=1.0, sample=(0.1, 0.2, 0.3), complaint=None):
    sizes = {"precision": precision, "B": B, "T": 3, "I": H, "H": H, "complaint": complaint}
    times = {"with_copies_s": 2 * seconds, "without_copies_s": seconds, "y_sample": list(sample)}
    return sizes if complaint else sizes | times


def served(device, rate):
    sizes = {"workers": 2, "server_cpus": 6, "loads": 2, "connections": 64}
    return {"device": device, **sizes, "sequences_per_s": rate, "p50_s": 0.01, "p99_s": 0.02, "errors": 0}


@pytest.fixture
def found():
    """A check in which all held."""
    ways = [
        {"way": "sorted", "sequences_per_s": 100.0, "floor_share": 0.5},
        {"way": "sorted", "sequences_per_s": 200.0, "floor_share": 0.8},
        {"way": "lanes", "sequences_per_s": 150.0, "floor_share": 0.7},
    ]
    worst = {"max_abs": 1e-6, "tolerance": 4e-6}
    grid = {"verdict": "equivalent", "worst": worst, "bitwise_rows": True, "bitwise_chunks": False}
    answer = {"provider": "P", "error": None, "finite": True, "state_kept": False}
    peaks = {"float32": 1e3, "bytes_per_s": 1e9}
    return {
        "device_name": "NVIDIA H100",
        "driver": "580",
        "onnxruntime": "1.32.0",
        "tests": {"how": "done", "passed": 2, "failed": 0, "skipped": 0, "last_words": ""},
        "grid": [{"network": "lstm", "runs": "own kernels", "how": "done", "answer": grid, "last_words": ""}],
        "probes": [
            {"probe": "ordinary", "how": "done", "answer": answer, "last_words": ""},
            {"probe": "zero-rows", "how": "died of SIGABRT", "answer": None, "last_words": "Abort"},
        ],
        "engines": {"onnxruntime": engine([row()]), "torch": engine([row(seconds=3.0)], peaks)},
        "ragged": [
            {
                "workload": "small",
                "runs": "own kernels",
                "how": "done",
                "answer": {"provider": "P", "ways": ways},
                "last_words": "",
            }
        ],
        "over_http": {
            "workload": "small",
            "how": "done",
            "answer": [served("cuda", 75.0), served("cpu", 10.0)],
            "last_words": "",
        },
    }


def test_floor_is_the_longer_of_operations_and_bytes():
    size = floors.Size(B=2, T=3, I=4, H=5, number_bytes=4)

    assert size.operations == 2 * 2 * 3 * 20 * 9
    assert size.moved_bytes == 4 * (2 * 3 * 9 + 20 * 11 + 4 * 2 * 5)
    assert floors.floor_s(size, floors.Peaks(operations_per_s=1.0, bytes_per_s=1e9)) == size.operations
    assert floors.floor_s(size, floors.Peaks(operations_per_s=1e9, bytes_per_s=1.0)) == size.moved_bytes


def test_where_all_holds_nothing_is_complained_of(found):
    assert figures.failures(found) == []


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda f: f["tests"].update(skipped=1), "tests marked gpu: done, 2 passed, 0 failed, 1 skipped"),
        (lambda f: f["tests"].update(passed=0), "tests marked gpu: done, 0 passed"),
        (lambda f: f["tests"].update(how="exit status 5"), "tests marked gpu: exit status 5"),
        (
            lambda f: f["grid"][0]["answer"].update(verdict="not equivalent"),
            "grid of lstm, own kernels: done, not equivalent",
        ),
        (
            lambda f: f["grid"][0].update(how="died of SIGSEGV", answer=None),
            "grid of lstm, own kernels: died of SIGSEGV, ",
        ),
        (lambda f: f["probes"][0]["answer"].update(error="no kernel"), "probe with ordinary inputs: done"),
        (lambda f: f["engines"]["torch"].update(how="exit status 1", answer=None), "figures of torch: exit status 1"),
        (lambda f: f["ragged"][0].update(how="exit status 2"), "workload small, own kernels: exit status 2"),
        (lambda f: f["over_http"].update(how="exit status 1", answer=None), "workload small over HTTP: exit status 1"),
        (lambda f: f["over_http"]["answer"][0].update(errors=3), "workload small over HTTP: done"),
        (
            lambda f: f["engines"]["torch"]["answer"]["rows"][0].update(y_sample=[0.1, 0.2, 0.31]),
            "engines differ at float32 B=1 H=2",
        ),
        (
            lambda f: f["engines"]["torch"]["answer"]["rows"][0].update(y_sample=[0.1, 0.2, float("nan")]),
            "engines differ at float32 B=1 H=2",
        ),
    ],
)
def test_whatever_does_not_hold_is_complained_of(found, spoil, line):
    spoil(found)

    (complaint,) = figures.failures(found)
    assert complaint.startswith(line)


def test_probes_that_kill_their_process_are_findings_and_no_failures(found):
    page = figures.page(found)

    assert "| zero-rows | died of SIGABRT |" in page
    assert "| ordinary | answered, finite |" in page


def test_page_has_ratios_floors_and_bits(found):
    page = figures.page(found)

    assert page.startswith("### NVIDIA H100, driver 580, onnxruntime 1.32.0\n")
    # 96 multiplications and additions at 1,000 a second are 0.192 s, and ours took 1 s.
    times = "1e+03 ms | 1e+03 ms | 3e+03 ms | 3.00 | 2e+03 ms | 6e+03 ms | 3.00"
    assert f"| float32 | 1 | 2 | onnxruntime | {times} | 19% |" in page
    assert "| small | own kernels | P | – | 200 | 150 | 0.75 | 70% |" in page  # noqa: RUF001
    assert "| small | cuda | 2 | 6 | 64 | 75 | 50% | 7.5 | 10 ms | 20 ms |" in page
    assert "| small | cpu | 2 | 6 | 64 | 10 | – | 1.0 | 10 ms | 20 ms |" in page  # noqa: RUF001
    assert "| lstm | own kernels | equivalent | 0.25 of the tolerance | yes | no |" in page


def test_what_could_not_be_measured_is_a_dash(found):
    found["engines"]["torch"] = engine([row(complaint="RuntimeError: no")])
    found["ragged"] = [
        {"workload": "large", "runs": "onnxruntime", "how": "exit status 2", "answer": None, "last_words": "x"}
    ]
    page = figures.page(found)

    assert "| float32 | 1 | 2 | onnxruntime | 1e+03 ms | 1e+03 ms | – | – | 2e+03 ms | – | – | – |" in page  # noqa: RUF001
    assert "| large | onnxruntime | exit status 2 | – | – | – | – | – |" in page  # noqa: RUF001


def test_sizes_that_the_projects_kernel_takes_are_judged_by_it(found):
    found["engines"]["cellgate"] = engine([row(seconds=0.5)])

    times = "500 ms | 1e+03 ms | 3e+03 ms | 6.00 | 1e+03 ms | 6e+03 ms | 6.00"
    assert f"| float32 | 1 | 2 | cellgate | {times} | 38% |" in figures.page(found)
    found["engines"]["cellgate"] = engine([row(complaint="RuntimeError: too large")])
    assert "| float32 | 1 | 2 | onnxruntime | 1e+03 ms |" in figures.page(found)


@pytest.mark.parametrize(
    ("status", "words"),
    [(0, "done"), (3, "exit status 3"), (-6, "died of SIGABRT"), (-11, "died of SIGSEGV"), (-200, "died of signal -")],
)
def test_exit_statuses_have_words(status, words):
    assert child.how_ended(status) == (words if status != -200 else "died of signal 200")


def test_step_that_does_not_end_is_killed_and_told(monkeypatch, tmp_path):
    (tmp_path / "stuck.py").write_text("import signal\nsignal.pause()\n")
    monkeypatch.setattr(child, "HERE", tmp_path)

    ended = child.run_step("stuck.py", [], patience_s=1.0)

    assert (ended.how, ended.answer, ended.is_done) == ("no end within 1 s", None, False)


def test_step_that_prints_no_json_is_not_done(monkeypatch, tmp_path):
    (tmp_path / "chatty.py").write_text("print('hello')")
    monkeypatch.setattr(child, "HERE", tmp_path)

    ended = child.run_step("chatty.py", [], patience_s=60.0)

    assert (ended.how, ended.answer, ended.is_done) == ("done", None, False)


def test_obstacles_are_told_in_one_sentence():
    none = check.obstacle(DeviceFacts(name=None, driver=None), has_cuda=True)
    wheel = check.obstacle(H100, has_cuda=False)

    assert none == "gpu-check: expected an NVIDIA GPU with its driver, found none; run it on a machine that has one"
    assert wheel.endswith("found one without; install the extra gpu in the place of cpu")
    assert check.obstacle(H100, has_cuda=True) is None


def test_machine_without_a_gpu_is_exit_2_and_one_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(check, "device_facts", lambda *_: DeviceFacts(name=None, driver=None))

    assert check.main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_results_are_named_after_the_gpu():
    assert check.file_stem("cuda", H100.name) == "cuda-nvidia-h100-80gb-hbm3"
    assert check.file_stem("cpu", "AMD EPYC") == "rehearsal-cpu"


def test_tests_are_counted_from_their_report():
    report = '<testsuites><testsuite tests="7" failures="1" errors="1" skipped="2"></testsuite></testsuites>'

    assert parts.count_tests(report) == {"passed": 3, "failed": 2, "skipped": 2}


@pytest.mark.slow
@pytest.mark.parametrize("probe", ["ordinary", "length-beyond", "nan-in-x"])
def test_probe_on_the_cpu_says_what_came_back(probe):
    answer = probes.ask(probe, "cpu")

    assert answer["provider"] == "CPUExecutionProvider"
    assert (answer["error"] is None) is (probe != "length-beyond")


@pytest.mark.slow
def test_every_probe_of_the_check_exists():
    assert tuple(probes.PROBES) == parts.PROBES


@pytest.mark.slow
def test_every_network_of_the_check_exists_and_peepholes_run_as_cuda_gets_them():
    assert set(device_grid.NETWORKS) == {network for network, _ in parts.GRIDS}

    found = device_grid.check("scan-peepholes", "cpu", 50)

    assert found["verdict"] == "equivalent"
    assert found["bitwise_rows"] is True


@pytest.mark.slow
def test_both_engines_compute_the_same_layer():
    sizes = [(2, 8)]
    engines = {
        name: engine(fused_lstm.measure(name, "cpu", sizes, steps=4, repeats=1, least_s=0.0)["rows"])
        for name in ("onnxruntime", "torch")
    }

    assert figures.disagreements(engines) == []
    assert all(one["complaint"] is None for one in engines["torch"]["answer"]["rows"])


@pytest.mark.slow
def test_rehearsal_on_the_cpu_runs_every_step_and_writes_both_files(tmp_path):
    command = [sys.executable, str(ROOT / "bench" / "gpu" / "check.py"), "--device", "cpu", "--quick"]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, check=False)
    written = json.loads((tmp_path / "rehearsal-cpu.json").read_text())

    assert done.returncode == 0, done.stderr
    assert written["grid"][0]["answer"]["verdict"] == "equivalent"
    assert {step["how"] for step in written["engines"].values()} == {"done"}
    assert next(step for step in written["probes"] if step["probe"] == "zero-rows")["how"] != "done"
    assert (tmp_path / "rehearsal-cpu.md").read_text() == figures.page(written)

    written["probes"] = []
    (tmp_path / "rehearsal-cpu.json").write_text(json.dumps(written))
    again = subprocess.run([*command, "--out", str(tmp_path), "--only", "tests"], capture_output=True, check=False)
    kept = json.loads((tmp_path / "rehearsal-cpu.json").read_text())
    assert again.returncode == 1  # the probe with ordinary inputs is gone
    assert {name: kept[name] for name in ("grid", "probes")} == {name: written[name] for name in ("grid", "probes")}
    assert kept["checked_at"]["grid"] == written["checked_at"]["grid"] <= kept["checked_at"]["tests"]
