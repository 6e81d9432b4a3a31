"""Whether a server that is stopped under full load answers all that it has read, and leaves nothing behind.

    python bench/stop_under_load.py BUNDLE [--times 10] [--clients 8] [--grace 30] [--seed 0]

So often: `cellgate serve` is started, clients over HTTP, HTTP streams, WebSockets, gRPC and gRPC streams keep it busy,
each with the next request as soon as the one before is answered, and at some moment it gets SIGTERM. Then

    every request that the server has read has a whole answer, or an orderly 503 (not ready) with an error object
    a connection may be refused, or closed under a request of which not a byte was read; both are counted apart
    readiness goes false, and stays so
    the exit is 0, within the grace; no process, no listener and no file is left

Anything else is a violation, with the exit status 1. Whether a request over HTTP that got no answer had been read is
told by the server's access log.
"""

import argparse
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from served import HOST, Server, serving, wait_gone
from stop_load import (
    ORDERLY,
    HttpClient,
    Ledger,
    rpc_request,
    run_live,
    run_rpc,
    run_rpc_stream,
    watch_readiness,
)

from cellgate.client.address import parse_address
from cellgate.client.model_facts import read_model

LATE_S = 5.0  # beyond the grace
STEPS = 12


@dataclass(slots=True)
class Round:
    """One stop: what became of the requests, and what was wrong."""

    counts: "Counter[tuple[str, str]]" = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    stop_s: float = 0.0


def make_request(server: Server) -> dict[str, Any]:
    """Return a request that the server's model takes."""
    facts = read_model(parse_address(f"http://{HOST}:{server.port}"), None)
    width = facts.features or 1
    data = [round(0.01 * number, 2) for number in range(STEPS * width)]
    return {"inputs": [{"name": facts.sequence, "shape": [1, STEPS, width], "datatype": "FP32", "data": data}]}


def start_clients(server: Server, ledger: Ledger, count: int, stopped: threading.Event) -> list[threading.Thread]:
    """Start clients of all kinds, so many of each."""
    request = make_request(server)
    message = rpc_request(server, request)
    threads = [threading.Thread(target=watch_readiness, args=(server, ledger))]
    for number in range(count):
        plain = HttpClient(server, ledger, f"plain-{number}", request, is_stream=False)
        stream = HttpClient(server, ledger, f"stream-{number}", request, is_stream=True)
        threads += [threading.Thread(target=client.run, args=(stopped,)) for client in (plain, stream)]
        threads.append(threading.Thread(target=run_live, args=(server, ledger, request, stopped)))
        if server.rpc_port:
            for run in (run_rpc, run_rpc_stream):
                threads.append(threading.Thread(target=run, args=(server, ledger, message, stopped)))
    for thread in threads:
        thread.start()
    return threads


def stop_once(bundle: str, clients: int, grace_s: float, after_s: float, log: Path) -> Round:
    """Start a server, load it, stop it, and look."""
    ledger, stopped, found = Ledger(), threading.Event(), Round()
    options = ["--access-log", "--shutdown-grace-s", str(grace_s)]
    with log.open("wb") as errors, serving(bundle, options=options, errors=errors) as server:
        pids = server.pids
        threads = start_clients(server, ledger, clients, stopped)
        time.sleep(after_s)
        stopped.set()
        begun_s = time.monotonic()
        server.terminate()
        late = wait_gone([server.process.pid], grace_s + LATE_S)
        found.stop_s = time.monotonic() - begun_s
        if late:
            found.violations.append(f"stop: expected its end within {grace_s:g} s, found it running")
        else:
            found.violations += look_behind(server, pids)
        for thread in threads:
            thread.join()
    ledger.settle(log.read_text(encoding="utf-8"))
    found.counts = ledger.counts
    found.violations += ledger.violations + judge_readiness(ledger.ready)
    return found


def look_behind(server: Server, pids: dict[int, str]) -> list[str]:
    """Return what a server that has ended left behind."""
    wrong = []
    status = server.process.wait()
    if status != 0:
        wrong.append(f"stop: expected the exit 0, found {status}")
    wrong += [f"left behind: process {pid}, {pids[pid]}" for pid in wait_gone(list(pids), 1.0)]
    wrong += [f"left behind: {path}" for path in server.scratch.rglob("*")]
    for port in (server.port, server.rpc_port):
        with socket.socket() as probe:
            if port and probe.connect_ex((HOST, port)) == 0:
                wrong.append(f"left behind: somebody listens on port {port}")
    return wrong


def judge_readiness(statuses: Sequence[int]) -> list[str]:
    """Return what is wrong with a row of answers: 200 first, then 503 or nobody there, and never 200 again."""
    first = next((place for place, status in enumerate(statuses) if status != 200), len(statuses))
    after = statuses[first:]
    if first == 0 or not after or any(status not in (503, 0) for status in after):
        return [f"readiness: expected 200, then 503 until nobody is there, found {Counter(statuses)}"]
    return []


def page(rounds: Sequence[Round]) -> Table:
    """Return the table."""
    table = Table("protocol", *ORDERLY, "violation", title=f"{len(rounds)} stops under load")
    counts = sum((one.counts for one in rounds), Counter[tuple[str, str]]())
    for protocol in dict.fromkeys(protocol for protocol, _ in sorted(counts)):
        table.add_row(protocol, *[f"{counts[protocol, what]:,}" for what in (*ORDERLY, "violation")])
    times_s = sorted(one.stop_s for one in rounds)
    table.caption = f"a stop took {times_s[0]:.2f} to {times_s[-1]:.2f} s"
    return table


def main() -> None:
    """Stop so often and print; exit 1 at a violation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", metavar="BUNDLE")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--clients", type=int, default=8, help="of each kind")
    parser.add_argument("--grace", type=float, default=30.0)
    parser.add_argument("--longest", type=float, default=2.0, help="seconds of load before the stop, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, default=Path("build/stop_under_load.log"), help="of the last server")
    given = parser.parse_args()
    dice = random.Random(given.seed)  # noqa: S311 - reproducible, not secret
    given.log.parent.mkdir(parents=True, exist_ok=True)
    rounds = []
    for number in range(given.times):
        after_s = dice.uniform(0.2, given.longest)
        rounds.append(stop_once(given.bundle, given.clients, given.grace, after_s, given.log))
        last = rounds[-1]
        print(f"{number + 1}: {last.stop_s:.2f} s, {len(last.violations)} violations", file=sys.stderr)
    Console().print(page(rounds))
    wrong = [text for one in rounds for text in one.violations]
    for text, count in Counter(wrong).most_common(20):
        print(f"{count} times: {text}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
