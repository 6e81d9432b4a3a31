"""Whether a server keeps doing useful work when it is asked for more than it can do: goodput, statuses, memory.

    python bench/overload.py BUNDLE [--seconds 60] [--times 3] [--lengths medium] [--timed 0.5] [--protocol http|grpc]
                             [--rounds 3] [--processes 1] [--connections 2048] [--json] [-- OPTIONS OF cellgate serve]

The server runs on one core with all its processes, the load on the others. First the peak: a closed loop, the best of
some rounds. Then an open loop at `--times` that rate, in which a share of the requests (`--timed`) carries a timeout of
50 ms to 1 s. Goodput is what was answered 2xx a second, within its deadline where it had one, counted from the moment
at which the request was due (goal: 85 % of the peak). Nothing but 2xx, 503 and 504 may come back, every 503 says when
to try again, and no connection breaks: else the exit is 1. So it is where a process's memory still grows after the
first seconds (goal: less than 16 MiB).

The generator has to be able to send so much: whatever it could not send, for it was late or had no connection left,
is said, and the claim is only as large as the rate that really left.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from open_loop import Orders
from process_watch import Watch
from rich.console import Console
from rich.table import Table
from served import HOST, Server, serving
from timed_jobs import write_jobs

GOAL_SHARE: Final = 0.85
GOAL_MIB: Final = 16.0
CLOSED_CONNECTIONS: Final = 32
EVERY_S: Final = 0.5


def measure_rpc_peak(server: Server, given: argparse.Namespace, cpus: Sequence[int], jobs: Path) -> float:
    """Return the answers a second of a closed loop by gRPC, the best of some rounds."""
    found = []
    for number in range(given.rounds):
        orders = Orders(
            port=server.rpc_port,
            rate=0.0,
            seconds=given.peak_seconds,
            connections=CLOSED_CONNECTIONS * (1 if number % 2 == 0 else 4),
            seed=number,
            jobs=str(jobs),
        )
        process = start(given, cpus, orders)
        say(process, "begin")
        one = json.loads(process.communicate()[0])
        found.append(one["good"] / one["span_s"])
        print(f"closed loop, {orders.connections} calls: {found[-1]:,.0f} answers/s", file=sys.stderr)
    return max(found)


def measure_peak(server: Server, given: argparse.Namespace, cpus: Sequence[int], jobs: Path) -> float:
    """Return the answers a second of a closed loop, the best of some rounds."""
    if given.protocol == "grpc":
        return measure_rpc_peak(server, given, cpus, jobs)
    found = []
    for number in range(given.rounds):
        words = [
            "bench",
            f"http://{HOST}:{server.port}",
            "--lengths",
            given.lengths,
            "--seconds",
            str(given.peak_seconds),
        ]
        connections = CLOSED_CONNECTIONS * (1 if number % 2 == 0 else 4)
        words += ["--connections", str(connections), "--warm-up", "1", "--seed", str(number), "--json"]
        command = pinned(cpus, [sys.executable, "-P", "-m", "cellgate", *words])
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        found.append(float(json.loads(done.stdout)["requests_per_s"]))
        print(f"closed loop, {connections} connections: {found[-1]:,.0f} answers/s", file=sys.stderr)
    return max(found)


def pinned(cpus: Sequence[int], command: list[str]) -> list[str]:
    """Return the command on some CPUs."""
    return ["taskset", "--cpu-list", ",".join(map(str, cpus)), *command]


def overload(server: Server, given: argparse.Namespace, rate: float, cpus: Sequence[int], jobs: Path) -> dict[str, Any]:
    """Send so many requests a second, whatever comes back; return what was found, of all generators together."""
    processes = []
    for number in range(given.processes):
        orders = Orders(
            port=server.port if given.protocol == "http" else server.rpc_port,
            rate=rate / given.processes,
            seconds=given.seconds,
            connections=given.connections // given.processes,
            seed=number,
            jobs=str(jobs),
        )
        processes.append(start(given, cpus, orders))
    for process in processes:
        say(process, "begin")
    watch = Watch(server)
    while any(process.poll() is None for process in processes):
        watch.look()
        time.sleep(EVERY_S)
    found = [json.loads(process.communicate()[0]) for process in processes]
    return {**together(found), "processes": watch.rows()}


def start(given: argparse.Namespace, cpus: Sequence[int], orders: Orders) -> "subprocess.Popen[str]":
    """Start a generator and wait until it can begin."""
    script = Path(__file__).with_name("open_loop.py" if given.protocol == "http" else "grpc_loop.py")
    command = pinned(cpus, [sys.executable, str(script)])
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    say(process, json.dumps(asdict(orders)))
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        sys.exit("the generator did not start")
    return process


def say(process: "subprocess.Popen[str]", line: str) -> None:
    """Write a line to a generator."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def together(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the sums of what several generators found, and the worst of their times."""
    sums = {
        name: sum(one[name] for one in found)
        for name in ("sent", "good", "good_timed", "timed", "late_200", "bare_503", "held_back")
    }
    worst = {
        name: [max(values) for values in zip(*(one[name] for one in found if one[name]), strict=True)]
        for name in ("waits_s", "ok_waits_s", "behind_s")
    }
    statuses = sum((Counter(one["statuses"]) for one in found), Counter[str]())
    violations = [text for one in found for text in one["violations"]]
    span_s = max(one["span_s"] for one in found)
    return {**sums, **worst, "statuses": dict(statuses), "violations": violations, "span_s": span_s}


def complaints(found: dict[str, Any], rate: float) -> list[str]:
    """Return what is wrong; empty where nothing is."""
    wrong = []
    bad = {word: count for word, count in found["statuses"].items() if word not in ("503", "504") and word[0] != "2"}
    if bad:
        wrong.append(f"answers: expected 2xx, 503 and 504, found {bad}: {found['violations'][:2]}")
    if found["bare_503"]:
        wrong.append(f"Retry-After: expected it on every 503, found {found['bare_503']} without")
    wrong += [
        f"{row['process']}: expected its memory to stay, found {row['growth_mib']:+.1f} MiB"
        for row in found["processes"]
        if row["growth_mib"] > GOAL_MIB
    ]
    if not found["sent"] or rate <= 0:
        wrong.append("nothing was sent")
    return wrong


def page(peak: float, rate: float, found: dict[str, Any]) -> list[Table]:
    """Return the tables."""
    span_s = found["span_s"]
    goodput, sent = found["good"] / span_s, found["sent"] / span_s
    table = Table("what", "found", "goal", title=f"{sent / peak:.2f} times the peak for {span_s:.0f} s")
    table.add_row("peak, closed loop", f"{peak:,.0f} answers/s")
    table.add_row("open loop: due, sent", f"{rate:,.0f}, {sent:,.0f} requests/s")
    table.add_row("goodput", f"{goodput:,.0f} answers/s, {goodput / peak:.0%} of the peak", f"{GOAL_SHARE:.0%}")
    table.add_row("of those with a timeout, in time", f"{found['good_timed']:,} of {found['timed']:,}")
    table.add_row("2xx after their timeout", f"{found['late_200']:,}")
    table.add_row(
        "statuses", ", ".join(f"{word}: {count:,}" for word, count in found["statuses"].items()), "2xx 503 504"
    )
    table.add_row("503 without Retry-After", f"{found['bare_503']:,}", "0")
    table.add_row("a 503 took (p50, p99, longest)", spans(found["waits_s"]))
    table.add_row("a 2xx took, from due", spans(found["ok_waits_s"]))
    table.add_row("generator: late by", spans(found["behind_s"]))
    table.add_row("generator: never sent, no connection free", f"{found['held_back']:,}")
    memory = Table("process", "MiB before", "at most", "after", "growth after 5 s", "of a CPU")
    for row in found["processes"]:
        sizes = [f"{row[name]:.1f}" for name in ("before_mib", "most_mib", "after_mib")]
        memory.add_row(row["process"], *sizes, f"{row['growth_mib']:+.1f}", f"{row['cpu_share']:.0%}")
    return [table, memory]


def spans(times_s: Sequence[float]) -> str:
    """Return times in words."""
    return ", ".join(f"{value * 1e3:,.1f}" for value in times_s) + " ms" if times_s else "none"


def arguments_of(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; what stands after -- is for the server."""
    words = sys.argv[1:] if words is None else words
    end = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", metavar="BUNDLE")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--times", type=float, default=3.0)
    parser.add_argument("--lengths", default="medium")
    parser.add_argument("--timed", type=float, default=0.5)
    parser.add_argument("--protocol", choices=("http", "grpc"), default="http")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak-seconds", type=float, default=5.0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--connections", type=int, default=2048)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(words[:end])
    given.options = list(words[end + 1 :])
    return given


def main() -> None:
    """Measure and print; exit 1 where something came back that must not."""
    given = arguments_of()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("expected two CPUs at least, one for the server and one for the load, found one")
    with tempfile.TemporaryDirectory() as folder, serving(given.bundle, cores[:1], given.options) as server:
        jobs = Path(folder) / "jobs.npz"
        write_jobs(server, given, jobs)
        peak = measure_peak(server, given, cores[1:], jobs)
        rate = given.times * peak
        found = overload(server, given, rate, cores[1:], jobs)
        again = measure_peak(server, argparse.Namespace(**{**vars(given), "rounds": 1}), cores[1:], jobs)
    wrong = complaints(found, rate)
    if given.json:
        print(json.dumps({"peak": peak, "peak_afterwards": again, "rate": rate, **found, "complaints": wrong}))
    else:
        console = Console()
        for table in page(peak, rate, found):
            console.print(table)
        print(f"afterwards, closed loop: {again:,.0f} answers/s")
    for text in wrong:
        print(text, file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
