"""cellgate beside the servers that one would pick instead: the same graph, the same traffic, one core each.

    python bench/peers/run.py [--workloads small medium large] [--peers cellgate mosec …] [--seconds 10] [--rounds 3]
    python bench/peers/run.py --install-only
    python bench/peers/run.py --self-check

Each server runs pinned to one core with all its children, the load generator on another. Every peer is written as its
own documentation recommends (servers/), runs in an environment of its own with pinned versions (requirements/), and
serves the bundle's model.onnx with onnxruntime on one thread. A request is one sequence. Before the load the answers
must be right, and after it the last answer to each sequence. Writes peers.md and peers.json under --out; --self-check
says how many requests a second the generator itself can do here, and checks its arithmetic.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from campaign import Campaign, Plan, Traffic
from peers import PEERS
from results import rows_to_json
from self_check import self_check
from table import page

_LOAD_BEFORE = os.getloadavg()[0]
_BENCH = Path(__file__).resolve().parent.parent
sys.path.append(str(_BENCH))
from workloads import WORKLOADS, load_sequences  # noqa: E402 - it stands one folder above


def main() -> int:
    """Run, print the page, write both files."""
    arguments = _parser().parse_args()
    if arguments.self_check:
        return self_check(arguments.server_core, arguments.load_core)
    plan = Plan(
        connections=arguments.connections,
        warm_up_s=arguments.warm_up,
        seconds=arguments.seconds,
        rounds=arguments.rounds,
        open_loop=arguments.open_loop,
        server_core=arguments.server_core,
        load_core=arguments.load_core,
        work=arguments.work.resolve(),
    )
    campaign = Campaign(plan=plan, traffic=[], peers=arguments.peers)
    campaign.install()
    if arguments.install_only:
        return 1 if campaign.whys else 0
    campaign.traffic = [_traffic(name, arguments) for name in arguments.workloads]
    if _LOAD_BEFORE > 0.5:
        print(f"load average {_LOAD_BEFORE:.2f}: other programs disturb the measurement", file=sys.stderr)
    os.sched_setaffinity(0, {plan.load_core})
    campaign.run(lambda: _write(campaign, arguments))
    print(_write(campaign, arguments))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS), help="default: all")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS), help="default: all")
    parser.add_argument("--seconds", type=float, default=10.0, help="measured time of a run; default: 10")
    parser.add_argument("--warm-up", type=float, default=2.0, help="seconds before it; default: 2")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind for each server; default: 3")
    parser.add_argument("--connections", type=int, default=32, help="of the closed loop; default: 32")
    parser.add_argument("--open-loop", action=argparse.BooleanOptionalAction, default=True, help="default: on")
    parser.add_argument("--count", type=int, default=1000, help="sequences of a workload; default: 1000")
    parser.add_argument("--server-core", type=int, default=0, help="CPU of the server; default: 0")
    parser.add_argument("--load-core", type=int, default=1, help="CPU of the generator; default: 1")
    parser.add_argument("--work", type=Path, default=Path("build/peers"), help="environments; default: build/peers")
    parser.add_argument("--bundles", type=Path, default=Path("build/bench"), help="bundles; default: build/bench")
    parser.add_argument("--out", type=Path, default=_BENCH / "results", help="results; default: bench/results")
    parser.add_argument("--install-only", action="store_true", help="only install the peers")
    parser.add_argument("--self-check", action="store_true", help="only check the generator")
    return parser


def _traffic(name: str, arguments: argparse.Namespace) -> Traffic:
    """Return a workload's traffic; what is missing is exported by another process, so that torch stays out of this."""
    folder, count = arguments.bundles.resolve(), arguments.count
    command = [sys.executable, str(_BENCH / "workloads.py"), "--out", str(folder), "--only", name]
    subprocess.run([*command, "--count", str(count)], check=True, stdout=subprocess.DEVNULL)
    sequences, answers = load_sequences(folder / name / "sequences.npz", count)
    return Traffic(name=name, bundle=folder / name / "bundle", sequences=sequences, answers=answers)


def _write(campaign: Campaign, arguments: argparse.Namespace) -> str:
    """Write what there is so far; return the page."""
    rows = {traffic.name: campaign.rows(traffic.name) for traffic in campaign.traffic}
    machine, plan = _machine(), campaign.plan
    method = (
        f"{plan.connections} connections kept open (closed loop) or Poisson arrivals at half of the best peer's median "
        f"rate, the same for all (open loop, latency from the moment a request was due); {plan.seconds:g} s after "
        f"{plan.warm_up_s:g} s of warm-up, medians of {plan.rounds} interleaved rounds. Server on one core, load on "
        "another. Best peer: the one with the most requests a second, cellgate not counted; lowest of all peers: "
        "whichever has the lowest p99 of the shortest quarter among those that keep up with the open loop."
    )
    versions = ", ".join(f"{name} {found[PEERS[name].package]}" for name, found in campaign.versions.items())
    lines = [method, "; ".join(f"{key} {value}" for key, value in machine.items()) + ".", f"Versions: {versions}."]
    text = page(rows, campaign.rates, lines)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "peers.md").write_text(text)
    document: dict[str, Any] = {
        "machine": machine,
        "plan": {
            name: getattr(plan, name)
            for name in ("connections", "warm_up_s", "seconds", "rounds", "server_core", "load_core")
        },
        "versions": campaign.versions,
        "open_loop_requests_s": campaign.rates,
        "rows": rows_to_json(rows),
    }
    (arguments.out / "peers.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    return text


def _machine() -> dict[str, str]:
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), ":?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "CPU": f"{cpu.split(':', 1)[1].strip()}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "load average before": f"{_LOAD_BEFORE:.2f}",
        "kernel": platform.release().split("-")[0],
        "Python": platform.python_version(),
    }


if __name__ == "__main__":
    sys.exit(main())
