"""Sequences a second over HTTP: the server on a device, with several frontends, under load from processes of their own.

    python bench/gpu/over_http.py BUNDLE --devices cuda cpu [--lengths lognormal:120,0.6,20-500] [--seconds 5]

A quarter of the CPUs belongs to the load, a process each; the server has the rest. On CUDA it gets a frontend for each
process of the load; on the CPU it is asked with one frontend and with as many, for there the engine needs the cores.
Prints JSON: what each server answered in the same seconds.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from served import HOST, serving

_CONNECTIONS, _WARM_UP_S = 32, 2


def measure(bundle: str, device: str, workers: int, cpus: Sequence[int], plan: argparse.Namespace) -> dict[str, Any]:
    """Serve, load, and sum up what the processes of the load counted."""
    loads = max(len(cpus) // 4, 1)
    ours, theirs = list(cpus[:-loads]) or list(cpus), cpus[-loads:]
    options = ["--device", device, "--workers", str(workers), "--no-grpc"]
    with serving(bundle, ours, options) as server:
        found = _load(server.port, theirs, plan)
    return {
        "device": device,
        "workers": workers,
        "server_cpus": len(ours),
        "loads": loads,
        "connections": loads * _CONNECTIONS,
        "sequences_per_s": sum(one["requests_per_s"] for one in found),
        "p50_s": max(one["latency"]["p50_s"] for one in found),
        "p99_s": max(one["latency"]["p99_s"] for one in found),
        "errors": sum(sum(one["errors"].values()) for one in found),
    }


def _load(port: int, cpus: Sequence[int], plan: argparse.Namespace) -> list[dict[str, Any]]:
    words = ["--lengths", plan.lengths, "--seconds", str(plan.seconds), "--warm-up", str(_WARM_UP_S), "--json"]
    words += ["--connections", str(_CONNECTIONS)]
    running = []
    for seed, cpu in enumerate(cpus):
        command = ["taskset", "-c", str(cpu), sys.executable, "-m", "cellgate", "bench", f"http://{HOST}:{port}"]
        command += [*words, "--seed", str(seed)]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    return [json.loads(process.communicate()[0]) for process in running]


def main() -> None:
    """Measure every device and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="folder of the bundle")
    parser.add_argument("--devices", nargs="+", choices=("cuda", "cpu"), default=["cuda", "cpu"])
    parser.add_argument("--lengths", default="lognormal:120,0.6,20-500")
    parser.add_argument("--seconds", type=float, default=5)
    plan = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))
    many = max(len(cpus) // 4, 1)
    tries = [
        (device, workers) for device in plan.devices for workers in sorted({many, 1} if device == "cpu" else {many})
    ]
    json.dump([measure(plan.bundle, device, workers, cpus, plan) for device, workers in tries], sys.stdout)


if __name__ == "__main__":
    main()
