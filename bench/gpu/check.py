"""Everything about CUDA that needs a GPU, in one go and without a network: `make gpu-check`.

    python bench/gpu/check.py [--out bench/results] [--quick]

Tests marked gpu; the export's grid on CUDA for each form of graph; what the provider does with empty batches, NaN and
impossible lengths, each in a process of its own; onnxruntime's fused LSTM beside torch.nn.LSTM; lanes beside batches
sorted by length. Writes cuda-GPU.json and cuda-GPU.md, the tables for docs/performance.md.

Exit 0: all held; 1: something did not, named on stderr; 2: there is no GPU here, or onnxruntime has no CUDA.
`--device cpu` rehearses every step on the CPU, into rehearsal-cpu.json; its figures are nobody's.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from child import Ended, how_ended, run_step
from figures import failures, page, step_record

from cellgate.serve.runtime.device_facts import DeviceFacts, device_facts
from cellgate.serve.runtime.onnx_runtime import offers_cuda, runtime_version

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
NETWORKS = ("lstm", "lstm-3-layers", "lstm-both-ways", "gru", "scan", "scan-peepholes", "scan-projected")
# name -> --lengths of `cellgate bench`
WORKLOADS = {"small": "uniform:7-29", "medium": "lognormal:40,0.8,5-300", "large": "lognormal:120,0.6,20-500"}
_TESTS_S, _STEP_S, _PROBE_S = 1800.0, 1200.0, 120.0
NO_GPU = 2


def obstacle(device: DeviceFacts, *, has_cuda: bool) -> str | None:
    """Return why CUDA cannot be checked here, in one sentence, or None."""
    if device.name is None:
        return "gpu-check: expected an NVIDIA GPU with its driver, found none; run it on a machine that has one"
    if not has_cuda:
        return (
            f"gpu-check: expected an onnxruntime with CUDA for the {device.name}, found one without; "
            "install the extra gpu in the place of cpu"
        )
    return None


def main(argv: list[str] | None = None) -> int:
    """Check, write, say."""
    arguments = _parser().parse_args(argv)
    device = device_facts(arguments.device, os.environ)
    if arguments.device == "cuda" and (reason := obstacle(device, has_cuda=offers_cuda())) is not None:
        print(reason, file=sys.stderr)
        return NO_GPU
    found = {
        "device": arguments.device,
        "device_name": device.name,
        "driver": device.driver,
        "onnxruntime": runtime_version(),
        "python": platform.python_version(),
        "checked_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": arguments.quick,
        **_steps(arguments.device, quick=arguments.quick),
    }
    stem = file_stem(arguments.device, device.name or "unknown")
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / f"{stem}.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (arguments.out / f"{stem}.md").write_text(page(found), encoding="utf-8")
    print(page(found))
    broken = failures(found)
    for line in broken:
        print(f"gpu-check: {line}", file=sys.stderr)
    print(f"written to {arguments.out / stem}.json and .md", file=sys.stderr)
    return 1 if broken else 0


def file_stem(device: str, name: str) -> str:
    """Return the results' name without suffix: cuda-nvidia-h100-80gb-hbm3."""
    if device == "cpu":
        return "rehearsal-cpu"
    return f"cuda-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}"


def _steps(device: str, *, quick: bool) -> dict[str, Any]:
    say = _progress()
    say("tests marked gpu")
    tests = run_tests() if device == "cuda" else None  # a rehearsal has no GPU for them
    grid, probes, ragged = [], [], []
    for network in NETWORKS[: 1 if quick else None]:
        say(f"grid of {network}")
        words = ["--device", device, "--network", network, "--drift-steps", "50" if quick else "1000"]
        grid.append(step_record(run_step("device_grid.py", words, patience_s=_STEP_S), network=network))
    for probe in PROBES:
        say(f"probe {probe}")
        ended = run_step("probes.py", ["--device", device, "--probe", probe], patience_s=_PROBE_S)
        probes.append(step_record(ended, probe=probe))
    engines = {}
    least = ["--rows", "1", "4", "--hidden", "16", "--steps", "5", "--repeats", "3", "--least-s", "0"]
    for engine in ("onnxruntime", "torch"):
        say(f"fused LSTM, {engine}")
        words = ["--engine", engine, "--device", device, *(least if quick else [])]
        engines[engine] = step_record(run_step("fused_lstm.py", words, patience_s=_STEP_S))
    with tempfile.TemporaryDirectory() as folder:
        for name in list(WORKLOADS)[: 1 if quick else None]:
            say(f"workload {name}")
            ragged.append(step_record(run_workload(name, device, Path(folder), quick=quick), workload=name))
    return {"tests": tests, "grid": grid, "probes": probes, "engines": engines, "ragged": ragged}


def run_tests() -> dict[str, Any]:
    """Run the tests marked gpu and count; one that is skipped here has not been run anywhere."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", f"--junitxml={report}", "tests"]
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


def count_tests(text: str) -> dict[str, int]:
    """Return passed, failed and skipped of a JUnit report that pytest wrote here a moment ago."""
    suites = ET.fromstring(text).iter("testsuite")  # noqa: S314 - our own file
    total = failed = skipped = 0
    for suite in suites:
        total += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
    return {"passed": total - failed - skipped, "failed": failed, "skipped": skipped}


def run_workload(name: str, device: str, folder: Path, *, quick: bool) -> Ended:
    """Export the workload's network and measure lanes, sorted batches and the floor on the device."""
    exported = _run([str(ROOT / "bench" / "workloads.py"), "--only", name, "--count", "1", "--out", str(folder)])
    if exported.how != "done":
        return exported
    words = ["-m", "cellgate", "bench", str(folder / name / "bundle"), "--lengths", WORKLOADS[name], "--json"]
    words += ["--device", device, *(["--requests", "40"] if quick else [])]
    return _run(words)


def _run(words: list[str]) -> Ended:
    try:
        done = subprocess.run(
            [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=_STEP_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Ended(how=f"no end within {_STEP_S:g} s", answer=None, last_words="")
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = None
    return Ended(how=how_ended(done.returncode), answer=answer, last_words=done.stderr.strip()[-600:])


def _progress() -> Callable[[str], None]:
    return lambda what: print(f"==> {what}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results", help="folder of the results")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu rehearses; default: cuda")
    parser.add_argument("--quick", action="store_true", help="the smallest of everything, to see that it runs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
