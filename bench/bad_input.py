"""Whether a server stands a million bad requests: no crash, no 5xx, all with an error object, memory flat.

    python bench/bad_input.py BUNDLE [--requests 1000000] [--parts 10] [--chunk-attacks 100] [--leak-bytes 4096]

Mutations of valid requests, heads and frames go to a real server over a few connections that are kept; after each part
the resident memory of its frontends is read. The first part is the warm-up; growth is counted from its end (goal: less
than 8 MiB). A control runs first, since a measurement that cannot fail proves nothing: a tenth of the requests go to a
server in whose frontends every refused body leaves `--leak-bytes` behind, and the same reading must see that. Last come
so many requests of a million one-byte chunks each (goal: less than 1 MiB).
"""

import argparse
import json
import os
import random
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from cellgate.serve.listeners import bind_listener
from cellgate.serve.models.served_model import parse_place
from cellgate.serve.processes.supervisor import Supervisor
from cellgate.serve.settings import Settings

HOST = "127.0.0.1"
GOAL_MIB, CHUNK_GOAL_MIB = 8.0, 1.0
CONNECTIONS = 4
TIMEOUT_S = 30.0
LEAK = """
from cellgate.serve.errors import BadInput
made, kept = BadInput.__init__, []
def keep(self, *facts):
    kept.append(bytearray(b"x" * {leak_bytes}))
    made(self, *facts)
BadInput.__init__ = keep
"""
VALUES = [0, 1, 2, -1, 2**31, 2**63, 2**64, 10**12, 1.5, True, None, "", "x", "FP32", "\x00", [], {}, [[[]]], "a" * 300]
LENGTHS = ["", "-1", "1e9", "99999999999", "0", "+5", "7, 7", "x", "5"]
LINES = [
    "Content-Type: multipart/form-data; boundary=x",
    "Content-Type: application/x-pickle",
    "Content-Encoding: gzip",
    "Origin: https://evil.example",
    "Host: second.example",
    "Transfer-Encoding: chunked",
    "X: " + "a" * 3000,
    "Expect: 100-continue",
]


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


@contextmanager
def leaking(leak_bytes: int) -> Iterator[None]:
    """Have the processes that are started here keep so many bytes of every refused body."""
    before = os.environ.get("PYTHONPATH")
    with TemporaryDirectory() as folder:
        Path(folder, "sitecustomize.py").write_text(LEAK.format(leak_bytes=leak_bytes), encoding="ascii")
        os.environ["PYTHONPATH"] = os.pathsep.join([folder, *([before] if before else [])])
        try:
            yield
        finally:
            os.environ.pop("PYTHONPATH")
            if before is not None:
                os.environ["PYTHONPATH"] = before


@contextmanager
def serving(bundle: str) -> Iterator[tuple[int, str, dict[str, Any], tuple[int, ...]]]:
    """Run a server; yield its port, the model's name, an example request, and the frontends' process numbers."""
    listener = bind_listener(HOST, 0)
    port = listener.getsockname()[1]
    supervisor = Supervisor([parse_place(bundle)], Settings(device="cpu"), listener)
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
        if not hellos:
            sys.exit("the server did not start")
        model = hellos[0]["models"][0]
        yield port, model["name"], model["example"], supervisor.frontend_pids
    finally:
        supervisor.stop()
        thread.join()


def spoil(values: random.Random, request: Any) -> None:
    """Exchange, drop or repeat one value somewhere inside."""
    while True:
        keys = list(request) if isinstance(request, dict) else list(range(len(request)))
        if not keys:
            return
        key = values.choice(keys)
        inner = request[key]
        if not isinstance(inner, dict | list) or not inner or values.random() < 0.3:
            break
        request = inner
    kind = values.randrange(3)
    if kind == 0:
        request[key] = deepcopy(values.choice(VALUES))  # or the next one would spoil the list of them
    elif kind == 1:
        request.pop(key)
    else:
        request[key] = [request[key]] * values.randint(0, 3)


def bad_request(values: random.Random, name: str, example: str) -> bytes:
    """Return a request with something wrong in its body, its head, or its framing."""
    request = json.loads(example)
    lines, kind = [], values.randrange(6)
    for _ in range(values.randint(1, 3)):
        spoil(values, request)
    body = json.dumps(request).encode()
    if kind == 0:
        at = values.randrange(len(body) + 1)
        body = body[:at] + values.randbytes(values.randint(1, 5)) + body[at + values.randint(0, 5) :]
    elif kind == 1:
        lines.append(f"Inference-Header-Content-Length: {values.choice([*LENGTHS, str(len(body))])}")
        body += values.randbytes(values.randint(0, 20))
    elif kind == 2:
        lines.append(values.choice(LINES))
    path = f"/v2/models/{name}/infer" if kind != 3 else values.choice(["//v2", "/v2/%2e%2e/x", "/v2/models/;/infer"])
    verb = "POST" if kind != 4 else values.choice(["PUT", "DELETE", "TRACE", "FROB"])
    head = [f"{verb} {path} HTTP/1.1", f"Host: {HOST}", *lines, f"Content-Length: {len(body)}"]
    data = "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body
    if kind == 5 and values.random() < 0.2:  # bytes exchanged in the head itself
        at = values.randrange(len(data) - len(body))
        data = data[:at] + values.randbytes(1) + data[at + 1 :]
    return data


class Client:
    """A connection that is kept as long as the server keeps it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._received = b""

    def ask(self, data: bytes) -> tuple[int, bytes]:
        """Send a request; return status and body. Status 0: closed without an answer."""
        if self._socket is None:
            self._socket = socket.create_connection((HOST, self._port), timeout=TIMEOUT_S)
            self._received = b""
        try:
            self._socket.sendall(data)
            self._socket.settimeout(1.0)  # a length that was exchanged may have the server wait for more
            return self._answer()
        except (ConnectionError, TimeoutError, EOFError):
            self.close()
            return 0, b""

    def close(self) -> None:
        """Give the connection up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _answer(self) -> tuple[int, bytes]:
        while b"\r\n\r\n" not in self._received:
            self._more()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        if status == 100:
            return self._answer()
        lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        size = int(lines.get(b"content-length", b"0"))
        while len(self._received) < size:
            self._more()
        body, self._received = self._received[:size], self._received[size:]
        if lines.get(b"connection") == b"close" or self._received:
            self.close()
        return status, body

    def _more(self) -> None:
        assert self._socket is not None
        chunk = self._socket.recv(2**16)
        if not chunk:
            raise EOFError
        self._received += chunk


def is_fine(status: int, body: bytes) -> bool:
    """Whether an answer is none, a good one, or a refusal with an error object."""
    if status in (0, 200):
        return True
    with suppress(ValueError):
        return 400 <= status < 500 and set(json.loads(body)) == {"error", "code"}
    return False


def put_under_fire(port: int, name: str, example: str, requests: int, seed: int) -> Counter[int]:
    """Send so many bad requests; return how often there was which status."""
    values, counts = random.Random(seed), Counter[int]()  # noqa: S311 - no secrets
    clients = [Client(port) for _ in range(CONNECTIONS)]
    for number in range(requests):
        data = bad_request(values, name, example)
        status, body = clients[number % CONNECTIONS].ask(data)
        if not is_fine(status, body):
            sys.exit(f"status {status}, body {body[:300]!r} for {data[:2000]!r}")
        counts[status] += 1
    for client in clients:
        client.close()
    return counts


def fire_in_parts(
    port: int, name: str, example: str, pids: Sequence[int], requests: int, parts: int
) -> tuple[float, Counter[int]]:
    """Return the growth in MiB after the first part, and how often there was which status."""
    counts: Counter[int] = Counter()
    readings = []
    for part in range(parts):
        counts += put_under_fire(port, name, example, requests // parts, part)
        readings.append(sum(map(resident_mib, pids)))
        print(f"{sum(counts.values()):>9,} requests: {readings[-1]:.1f} MiB, {dict(counts)}", file=sys.stderr)
    return readings[-1] - readings[0], counts


def send_chunks(port: int, name: str, times: int) -> None:
    """Send requests of a million one-byte chunks, as far as the server takes them."""
    head = f"POST /v2/models/{name}/infer HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    data = head + b"1\r\n \r\n" * 1_000_000 + b"0\r\n\r\n"
    for _ in range(times):
        with socket.create_connection((HOST, port), timeout=TIMEOUT_S) as connection, suppress(ConnectionError):
            connection.sendall(data)
            while connection.recv(2**16):
                pass


def main() -> None:
    """Measure and print; exit 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", metavar="BUNDLE")
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--parts", type=int, default=10)
    parser.add_argument("--chunk-attacks", type=int, default=100)
    parser.add_argument("--leak-bytes", type=int, default=4096)
    given = parser.parse_args()
    with leaking(given.leak_bytes), serving(given.bundle) as (port, name, example, pids):
        planted, counts = fire_in_parts(port, name, json.dumps(example), pids, given.requests // 10, given.parts)
    expected = counts[400] * given.leak_bytes / 2**20 * (given.parts - 1) / given.parts
    with serving(given.bundle) as (port, name, example, pids):
        growth, counts = fire_in_parts(port, name, json.dumps(example), pids, given.requests, given.parts)
        send_chunks(port, name, max(5, given.chunk_attacks // 10))
        before = sum(map(resident_mib, pids))
        send_chunks(port, name, given.chunk_attacks)
        chunks = sum(map(resident_mib, pids)) - before
        status, _ = Client(port).ask(f"GET /v2/health/ready HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    table = Table("what", "MiB", "goal", title=f"{sum(counts.values()):,} bad requests, statuses {dict(counts)}")
    table.add_row("planted leak, seen (control)", f"{planted:+.1f}", f"about {expected:.1f}, planted")
    table.add_row("frontends, after the first part", f"{growth:+.1f}", f"below {GOAL_MIB:g}")
    table.add_row(f"{given.chunk_attacks} times a million chunks", f"{chunks:+.1f}", f"below {CHUNK_GOAL_MIB:g}")
    Console().print(table)
    is_good = planted > expected / 2 and growth < GOAL_MIB and chunks < CHUNK_GOAL_MIB and status == 200
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
