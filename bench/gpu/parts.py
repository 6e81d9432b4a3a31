"""The parts of the check: each runs some steps in processes of their own and returns their records.

Rules of this file: nothing is judged here; how a step ended is a record, whatever it is.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from child import Ended, how_ended, run_step
from figures import step_record

ROOT = Path(__file__).resolve().parents[2]
PROBES = (
    "ordinary",
    "zero-rows",
    "zero-steps",
    "length-zero",
    "length-negative",
    "length-beyond",
    "nan-in-x",
    "nan-in-h0",
)
OWN = "own kernels"
# (network, what runs it)
GRIDS = (
    ("lstm", OWN),
    ("lstm-3-layers", OWN),
    *((name, "onnxruntime") for name in ("lstm", "lstm-3-layers", "lstm-both-ways", "gru")),
    *((name, "onnxruntime") for name in ("scan", "scan-peepholes", "scan-projected")),
)
# name -> --lengths of `cellgate bench`
WORKLOADS = {"small": "uniform:7-29", "medium": "lognormal:40,0.8,5-300", "large": "lognormal:120,0.6,20-500"}
_TESTS_S, _STEP_S, _PROBE_S = 1800.0, 1200.0, 120.0
PARTS = ("tests", "grid", "probes", "engines", "ragged", "over_http")


def run_parts(device: str, only: Sequence[str], *, quick: bool) -> dict[str, Any]:
    """Run the parts that are asked for, in order."""
    with tempfile.TemporaryDirectory() as folder:
        parts: dict[str, Callable[[], Any]] = {
            "tests": lambda: run_tests() if device == "cuda" else None,  # a rehearsal has no GPU for them
            "grid": lambda: run_grids(device, quick=quick),
            "probes": lambda: run_probes(device),
            "engines": lambda: run_engines(device, quick=quick),
            "ragged": lambda: run_workloads(device, Path(folder), quick=quick),
            "over_http": lambda: run_over_http(device, Path(folder), quick=quick),
        }
        found = {}
        for name in PARTS:
            if name in only:
                _say(name)
                found[name] = parts[name]()
    return found


def run_grids(device: str, *, quick: bool) -> list[dict[str, Any]]:
    """Run the export's grid for each form of graph."""
    found = []
    for network, runs in _of_device(GRIDS, device)[: 1 if quick else None]:
        _say(f"grid of {network}, {runs}")
        words = ["--device", device, "--network", network, "--drift-steps", "50" if quick else "1000"]
        words += ["--kernels"] if runs == OWN else []
        found.append(step_record(run_step("device_grid.py", words, patience_s=_STEP_S), network=network, runs=runs))
    return found


def run_probes(device: str) -> list[dict[str, Any]]:
    """Ask the provider every question, in a process each."""
    found = []
    for probe in PROBES:
        _say(f"probe {probe}")
        ended = run_step("probes.py", ["--device", device, "--probe", probe], patience_s=_PROBE_S)
        found.append(step_record(ended, probe=probe))
    return found


def run_engines(device: str, *, quick: bool) -> dict[str, Any]:
    """Time one layer in every engine."""
    sizes = ["--rows", "1", "4", "--hidden", "16", "--steps", "5", "--repeats", "3", "--least-s", "0"] if quick else []
    found = {}
    for engine in ("cellgate", "onnxruntime", "torch")[device == "cpu" :]:
        _say(f"fused LSTM, {engine}")
        words = ["--engine", engine, "--device", device, *sizes]
        found[engine] = step_record(run_step("fused_lstm.py", words, patience_s=_STEP_S))
    return found


def run_workloads(device: str, folder: Path, *, quick: bool) -> list[dict[str, Any]]:
    """Measure lanes on every workload, with the project's kernels and without."""
    found = []
    workloads = [(name, runs) for name in WORKLOADS for runs in (OWN, "onnxruntime")]
    for name, runs in _of_device(workloads, device)[: 1 if quick else None]:
        _say(f"workload {name}, {runs}")
        ended = run_workload(name, device, folder, runs=runs, quick=quick)
        found.append(step_record(ended, workload=name, runs=runs))
    return found


def _of_device(things: Sequence[tuple[str, str]], device: str) -> list[tuple[str, str]]:
    """Leave out what the project's own kernels run where there is no CUDA."""
    return [(name, runs) for name, runs in things if device == "cuda" or runs != OWN]


def run_tests() -> dict[str, Any]:
    """Run the tests marked gpu and count; one that is skipped here has not been run anywhere."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", f"--junitxml={report}", *files_of_gpu_tests()]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_TESTS_S, check=False)
        counts = count_tests(report.read_text(encoding="utf-8")) if report.exists() else {}
    return {
        "passed": 0,
        "failed": 0,
        "skipped": 0,
        **counts,
        "how": how_ended(done.returncode),
        "last_words": done.stdout[-600:],
    }


def files_of_gpu_tests() -> list[str]:
    """Return the test files that bear the mark; importing all the others would need every package of the tests."""
    return [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text("utf-8")]


def count_tests(text: str) -> dict[str, int]:
    """Return passed, failed and skipped of a JUnit report that pytest wrote here a moment ago."""
    suites = ET.fromstring(text).iter("testsuite")  # noqa: S314 - our own file
    total = failed = skipped = 0
    for suite in suites:
        total += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
    return {"passed": total - failed - skipped, "failed": failed, "skipped": skipped}


def run_workload(name: str, device: str, folder: Path, *, runs: str, quick: bool) -> Ended:
    """Export the workload's network and measure lanes, sorted batches and the floor on the device."""
    exported = _export(name, folder)
    if exported.how != "done":
        return exported
    words = ["-m", "cellgate", "bench", str(folder / name / "bundle"), "--lengths", WORKLOADS[name], "--json"]
    words += ["--device", device, *(["--requests", "40"] if quick else [])]
    return _run(words, {"CELLGATE_KERNELS": str(runs == OWN).lower()})


def run_over_http(device: str, folder: Path, *, quick: bool) -> dict[str, Any]:
    """Serve a workload's network on the device and on the CPU, and ask both over HTTP."""
    name = list(WORKLOADS)[0 if quick else -1]
    exported = _export(name, folder)
    if exported.how != "done":
        return step_record(exported, workload=name)
    words = [str(folder / name / "bundle"), "--lengths", WORKLOADS[name], "--devices", *dict.fromkeys((device, "cpu"))]
    words += ["--seconds", "0.5"] if quick else []
    return step_record(run_step("over_http.py", words, patience_s=_STEP_S), workload=name)


def _export(name: str, folder: Path) -> Ended:
    """Export a workload's network, unless it is there."""
    return _run([str(ROOT / "bench" / "workloads.py"), "--only", name, "--count", "1", "--out", str(folder)])


def _run(words: list[str], extra: Mapping[str, str] | None = None) -> Ended:
    command, environ = [sys.executable, *words], {**os.environ, **(extra or {})}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=_STEP_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Ended(how=f"no end within {_STEP_S:g} s", answer=None, last_words="")
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = None
    return Ended(how=how_ended(done.returncode), answer=answer, last_words=done.stderr.strip()[-600:])


def _say(what: str) -> None:
    print(f"==> {what}", file=sys.stderr, flush=True)
