"""Checks of what the benchmark's numbers stand on: the wires, the arithmetic, and the generator's own limit."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from connection import LoadError
from load import Generator, ask
from load_run import Load
from results import measure, quarters
from wire import Wire

_SECONDS: Final = 2.0
_ENOUGH: Final = 25_000
"""Requests a second that the generator must reach: twice what the fastest peer answers."""


def self_check(server_core: int, load_core: int) -> int:
    """Run every check and print one line for each; return 0, or 1 where one failed."""
    checks: dict[str, Callable[[], str]] = {
        "every wire's answer is read": _wires,
        "percentiles by quarter of length": _measurement,
        "the generator's limit": lambda: _limit(server_core, load_core),
        "an open loop's rate and latency": lambda: _open_loop(server_core, load_core),
    }
    failed = 0
    for name, check in checks.items():
        try:
            print(f"ok      {name}: {check()}")
        except (AssertionError, LoadError) as error:
            failed = 1
            print(f"FAILED  {name}: {error}")
    return failed


def _wires() -> str:
    scores = np.arange(9, dtype=np.float32)
    text = str(scores.tolist()).encode()
    answers = {
        "raw": (b"HTTP/1.1 200 OK", scores.tobytes()),
        "base64": (b"HTTP/1.1 200 OK", b'{"y": ' + text + b"}"),
        "base64_list": (b"HTTP/1.1 200 OK", b"[" + text + b"]"),
        "open_inference": (b"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: 2", b"{}" + scores.tobytes()),
    }
    for kind, answer in answers.items():
        wire = Wire(kind=kind, path="/")  # type: ignore[arg-type]
        assert np.array_equal(wire.scores(*answer), scores), kind
        head, _, body = wire.request(np.zeros((3, 2), np.float32), 1).partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}".encode() in head, kind
    return f"{len(answers)} kinds"


def _measurement() -> str:
    lengths = [40, 10, 30, 20]
    assert quarters(lengths).tolist() == [3, 0, 2, 1]
    load = Load(sent=[0, 1, 2, 3, 1], latency_s=[4.0, 1.0, 3.0, 2.0, 1.0], good=5, due=5, seconds=2.0)
    found = measure(load, lengths)
    assert (found.requests_s, found.p50_s) == (2.5, 2.0), found
    assert (found.p99_shortest_s, found.p99_longest_s, found.kept_up) == (1.0, 4.0, 1.0), found
    return "as computed by hand"


def _limit(server_core: int, load_core: int) -> str:
    load = _against_fixed(server_core, load_core, lambda generator: generator.closed_loop(32, 0.5, _SECONDS))
    rate = load.good / load.seconds
    assert rate >= _ENOUGH, f"{rate:,.0f} requests/s, expected at least {_ENOUGH:,}; is the machine busy?"
    return f"{rate:,.0f} requests/s, {load.busy:.0%} busy, 8 KB bodies, a server that only answers"


def _open_loop(server_core: int, load_core: int) -> str:
    load = _against_fixed(server_core, load_core, lambda generator: generator.open_loop(2000, 0.5, _SECONDS, seed=1))
    assert 0.9 < load.due / (2000 * _SECONDS) < 1.1, f"{load.due} requests due in {_SECONDS} s at 2000 a second"
    assert load.unanswered == load.errors == 0, f"{load.unanswered} unanswered, {load.errors} errors"
    return f"{load.due} due, p50 {np.percentile(load.latency_s, 50) * 1e6:.0f} µs"


def _against_fixed(server_core: int, load_core: int, run: Callable[[Generator], Load]) -> Load:
    """Run a load against a process that gives every request the same answer."""
    os.sched_setaffinity(0, {load_core})
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    script = str(Path(__file__).parent / "servers" / "fixed_answer.py")
    server = subprocess.Popen(["taskset", "--cpu-list", str(server_core), sys.executable, script, str(port)])
    request = Wire(kind="raw", path="/").request(np.zeros((64, 32), np.float32), port)
    try:
        _wait_for(port, request)
        return run(Generator(port, [request] * 16))
    finally:
        server.terminate()
        server.wait()


def _wait_for(port: int, request: bytes) -> None:
    limit = time.monotonic() + 10
    while True:
        try:
            ask(port, request)
        except LoadError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.05)
        else:
            return
