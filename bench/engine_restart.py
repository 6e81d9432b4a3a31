"""How long a server is without an engine: from kill -9 of the engine's process to ready again, and to the next answer.

    python bench/engine_restart.py BUNDLE [BUNDLE ...] [--repeats 5] [--workers 1] [--device cpu] [--json]

Each time, the process is killed while a request is in it. Readiness and answers are asked for over HTTP, one question
after the other, so that the times are good to about a millisecond:

    refused     until the request that was in the engine is answered with its retryable 503
    ready       until GET /v2/health/ready says 200 again (goal: 5 s)
    answer      until the first inference succeeds

Exit 1 where the goal is missed, or the server does not start.
"""

import argparse
import http.client
import json
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from cellgate.serve.listeners import bind_listener
from cellgate.serve.models.served_model import parse_place
from cellgate.serve.processes.supervisor import Supervisor
from cellgate.serve.settings import Settings

GOAL_S = 5.0
HOST = "127.0.0.1"
JSON_HEADERS = {"Content-Type": "application/json"}


class Asker:
    """One connection to the server.

    Args:
        port: of the server.
        hello: of its engine; the first model is asked.
    """

    def __init__(self, port: int, hello: Mapping[str, Any]) -> None:
        model = hello["models"][0]
        self._path = f"/v2/models/{model['name']}/infer"
        self._body = json.dumps(model["example"]).encode()
        self._connection = http.client.HTTPConnection(HOST, port, timeout=60)

    def send_request(self) -> None:
        """Ask for an inference; `read_status` takes the answer."""
        self._connection.request("POST", self._path, self._body, JSON_HEADERS)

    def read_status(self) -> int:
        """Return the status of the answer to what was asked last."""
        response = self._connection.getresponse()
        response.read()
        return response.status

    def is_ready(self) -> bool:
        """Ask whether the server is ready."""
        self._connection.request("GET", "/v2/health/ready")
        return self.read_status() == http.HTTPStatus.OK

    def infer(self) -> int:
        """Ask for an inference and return the status."""
        self.send_request()
        return self.read_status()


def measure(supervisor: Supervisor, port: int, hello: Mapping[str, Any]) -> dict[str, float]:
    """Kill the engine once and return the seconds until each thing that the table names."""
    waits, asks = Asker(port, hello), Asker(port, hello)
    assert asks.infer() == http.HTTPStatus.OK
    pid = supervisor.engine_pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    waits.send_request()
    assert asks.is_ready()  # answered after the request has been read
    start = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    assert waits.read_status() == http.HTTPStatus.SERVICE_UNAVAILABLE
    refused = time.perf_counter() - start
    while not asks.is_ready():
        pass
    ready = time.perf_counter() - start
    while asks.infer() != http.HTTPStatus.OK:
        pass
    return {"refused": refused, "ready": ready, "answer": time.perf_counter() - start}


def run(arguments: argparse.Namespace) -> list[dict[str, float]]:
    """Start a server, kill its engine as often as asked for, and stop it."""
    settings = Settings(device=arguments.device, threads=arguments.threads, workers=arguments.workers)
    listener = bind_listener(HOST, 0)
    port = listener.getsockname()[1]
    supervisor = Supervisor([parse_place(text) for text in arguments.bundles], settings, listener)
    hellos: list[Mapping[str, Any]] = []
    is_up = threading.Event()

    def on_up(hello: Mapping[str, Any]) -> None:
        hellos.append(hello)
        is_up.set()

    def serve() -> None:
        try:
            supervisor.run(on_up)
        finally:
            is_up.set()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        is_up.wait()
        return [measure(supervisor, port, hellos[0]) for _ in range(arguments.repeats)] if hellos else []
    finally:
        supervisor.stop()
        thread.join()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = run(arguments)
    worst = max((one["ready"] for one in found), default=float("inf"))
    status = 0 if worst <= GOAL_S else 1
    if arguments.json:
        print(json.dumps({"goal_s": GOAL_S, "seconds": found}))
        sys.exit(status)
    table = Table("seconds after kill -9", "median", "worst", title=f"{arguments.repeats} times")
    for name in found[0] if found else ():
        values = [one[name] for one in found]
        table.add_row(name, f"{statistics.median(values):.3f}", f"{max(values):.3f}")
    Console().print(table)
    Console().print(f"goal: ready in {GOAL_S:g} s; worst {worst:.2f} s: {'missed' if status else 'reached'}")
    sys.exit(status)


if __name__ == "__main__":
    main()
