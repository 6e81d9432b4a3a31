"""Whether a server's memory stays flat: its processes' resident memory over a million requests.

    python bench/memory.py BUNDLE [--requests 1000000] [--parts 10] [--lengths small]

The load comes from `cellgate bench`, in parts; after each the memory of the engine and of every frontend is read from
/proc. The first part is the warm-up; growth is counted from its end (goal: less than 32 MiB in all).
"""

import argparse
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cellgate.serve.listeners import bind_listener
from cellgate.serve.processes.supervisor import Supervisor
from cellgate.serve.served_model import parse_place
from cellgate.serve.settings import Settings

GOAL_MIB = 32.0
HOST = "127.0.0.1"


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def put_under_load(port: int, requests: int, lengths: str, seed: int) -> None:
    """Send so many requests, and wait for their answers."""
    words = ["bench", f"http://{HOST}:{port}", "--requests", str(requests), "--seconds", "86400", "--warm-up", "0"]
    command = [sys.executable, "-P", "-m", "cellgate", *words, "--lengths", lengths, "--seed", str(seed), "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def watch(supervisor: Supervisor, port: int, arguments: argparse.Namespace) -> list[dict[int, float]]:
    """Return the memory of each process after each part."""
    assert supervisor.engine_pid is not None
    pids = [supervisor.engine_pid, *supervisor.frontend_pids]
    found = []
    for part in range(arguments.parts):
        put_under_load(port, arguments.requests // arguments.parts, arguments.lengths, part)
        found.append({pid: resident_mib(pid) for pid in pids})
        print(f"{(part + 1) * arguments.requests // arguments.parts:>9,} requests: {found[-1]}", file=sys.stderr)
    return found


def run(arguments: argparse.Namespace) -> list[dict[int, float]]:
    """Start a server, watch it under load, and stop it."""
    listener = bind_listener(HOST, 0)
    supervisor = Supervisor([parse_place(arguments.bundle)], Settings(device="cpu"), listener)
    is_up = threading.Event()
    hellos: list[Mapping[str, Any]] = []

    def serve() -> None:
        try:
            supervisor.run(lambda hello: (hellos.append(hello), is_up.set()))
        finally:
            is_up.set()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        is_up.wait()
        return watch(supervisor, listener.getsockname()[1], arguments) if hellos else []
    finally:
        supervisor.stop()
        thread.join()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", metavar="BUNDLE")
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--parts", type=int, default=10)
    parser.add_argument("--lengths", default="small")
    arguments = parser.parse_args()
    found = run(arguments)
    if not found:
        sys.exit(1)
    table = Table(
        "process", "after the first part", "at the end", "growth", title=f"MiB, {arguments.requests:,} requests"
    )
    for number, pid in enumerate(found[0]):
        first, last = found[0][pid], found[-1][pid]
        name = "engine" if number == 0 else f"frontend {number - 1}"
        table.add_row(name, f"{first:.1f}", f"{last:.1f}", f"{last - first:+.1f}")
    growth = sum(found[-1].values()) - sum(found[0].values())
    table.add_row("all", "", "", f"{growth:+.1f} (goal: below {GOAL_MIB:g})")
    Console().print(table)


if __name__ == "__main__":
    main()
