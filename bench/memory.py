"""Whether a server's memory stays flat: its processes' resident memory over a million requests.

    python bench/memory.py BUNDLE [--requests 1000000] [--parts 10] [--lengths small]

The load comes from `cellgate bench`, in parts; after each the memory of every process is read from /proc. The first
part is the warm-up; growth is counted from its end (goal: less than 32 MiB in all, else the exit is 1). A process that
ends meanwhile ends the run with 1 too, for nothing can be said of the one that takes its place.
"""

import argparse
import subprocess
import sys

from rich.console import Console
from rich.table import Table
from served import HOST, Server, is_there, resident_mib, serving

GOAL_MIB = 32.0


def put_under_load(port: int, requests: int, lengths: str, seed: int) -> None:
    """Send so many requests, and wait for their answers."""
    words = ["bench", f"http://{HOST}:{port}", "--requests", str(requests), "--seconds", "86400", "--warm-up", "0"]
    command = [sys.executable, "-P", "-m", "cellgate", *words, "--lengths", lengths, "--seed", str(seed), "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def watch(server: Server, arguments: argparse.Namespace) -> tuple[dict[int, str], list[dict[int, float]]]:
    """Return what each process is, and the memory of each after each part."""
    roles = server.pids
    found = []
    for part in range(arguments.parts):
        put_under_load(server.port, arguments.requests // arguments.parts, arguments.lengths, part)
        found.append({pid: resident_mib(pid) for pid in roles})
        print(f"{(part + 1) * arguments.requests // arguments.parts:>9,} requests: {found[-1]}", file=sys.stderr)
        ended = [f"{role} {pid}" for pid, role in roles.items() if not is_there(pid)]
        if ended:
            sys.exit(f"expected every process to live, found that it had ended: {', '.join(ended)}")
    return roles, found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", metavar="BUNDLE")
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--parts", type=int, default=10)
    parser.add_argument("--lengths", default="small")
    arguments = parser.parse_args()
    with serving(arguments.bundle, options=["--no-grpc"]) as server:
        roles, found = watch(server, arguments)
    title = f"MiB, {arguments.requests:,} requests"
    table = Table("process", "after the first part", "at the end", "growth", title=title)
    for pid, role in roles.items():
        first, last = found[0][pid], found[-1][pid]
        table.add_row(f"{role} {pid}", f"{first:.1f}", f"{last:.1f}", f"{last - first:+.1f}")
    growth = sum(found[-1].values()) - sum(found[0].values())
    table.add_row("all", "", "", f"{growth:+.1f} (goal: below {GOAL_MIB:g})")
    Console().print(table)
    sys.exit(0 if growth < GOAL_MIB else 1)


if __name__ == "__main__":
    main()
