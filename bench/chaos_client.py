"""What `stream_chaos` sends: streams in chunks, by clients that retry, repeat, hurry and go away, and what they note.

Rules of this file: it knows the server by its port alone.
"""

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

HOST = "127.0.0.1"
PATIENCE_S = 60.0  # for one chunk
PAUSE_S = 0.02
F32 = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is done; see the options."""

    store: str = "sqlite"
    redis_program: str = "redis-server"
    servers: int = 1
    streams: int = 200
    chunks: int = 20
    clients: int = 16
    kill_every_s: float = 0.5
    workers: int = 2
    rows: int = 1
    seed: int = 0


@dataclass(slots=True)
class Outcome:
    """What has happened."""

    counts: "Counter[str]" = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str) -> None:
        """Count something, from any thread."""
        with self.lock:
            self.counts[what] += 1

    def violate(self, what: str) -> None:
        """Note what must never happen."""
        with self.lock:
            self.violations.append(what)


class Client:
    """Sends the chunks of one stream after the other, over one connection to each server."""

    def __init__(self, ports: Sequence[int], model: str, plan: Plan, outcome: Outcome, seed: int) -> None:
        self._ports, self._path = ports, f"/v2/models/{model}/infer"
        self._plan, self._outcome = plan, outcome
        self._dice = random.Random(seed)  # noqa: S311 - reproducible, not secret
        self._port = ports[0]  # whose turn it is
        self._connections: dict[int, http.client.HTTPConnection] = {}
        self._applied: set[tuple[int | str, int]] = set()

    def run(self, name: int | str, x: F32, edges: list[int]) -> list[bytes]:
        """Send a sequence in chunks as the stream of this name; return the bytes of every answer's y."""
        got: list[bytes] = []
        requests = [self._request(name, x, edges, place) for place in range(len(edges) - 1)]
        for place, request in enumerate(requests):
            self._misbehave(name, requests, place, got)
            others = self._send_elsewhere(request)
            got.append(self._send_until_answered(name, request, place))
            for port in others:
                self._hear_elsewhere(name, place, port, got[-1])
            if self._dice.random() < 0.1:
                again = self._send_until_answered(name, request, place)
                self._outcome.count("sent twice")
                if again != got[-1]:
                    self._outcome.violate(f"stream {name} step {place}: another answer the second time")
        return got

    def _send_elsewhere(self, request: tuple[bytes, int]) -> list[int]:
        """Now and then send a chunk to another server too; return its port, whose answer nobody has read yet."""
        self._port = self._dice.choice(self._ports)
        others = [port for port in self._ports if port != self._port]
        if not others or self._dice.random() > 0.3:
            return []
        other = self._dice.choice(others)
        return [other] if self._send(other, request) else []

    def _hear_elsewhere(self, name: int | str, place: int, port: int, expected: bytes) -> None:
        status, answer = self._receive(port)
        self._outcome.count("sent to two at once")
        if status not in (0, 200, 503) or (status == 200 and self._taken(name, place, answer) != expected):
            self._outcome.violate(f"stream {name} step {place}: {status} or another answer from the other server")

    def _misbehave(self, name: int | str, requests: list[tuple[bytes, int]], place: int, got: list[bytes]) -> None:
        """Go away before the answer, send an old chunk, or one too early."""
        if self._dice.random() < 0.05:
            self._send(self._port, requests[place])
            self._drop(self._port)
            self._outcome.count("gone before the answer")
        late, early = self._dice.random() < 0.1 and place > 1, self._dice.random() < 0.1 and place + 2 < len(requests)
        for is_sent, wrong in ((late, self._dice.randrange(max(place - 1, 1))), (early, place + 2)):
            if not is_sent:
                continue
            status, answer = self._exchange(requests[wrong])
            self._outcome.count("out of order")
            # A start of a stream that was not begun yet is a 404; whoever was gone before may be in it by now, and
            # where that was the last chunk, the stream has ended.
            is_unbegun = place == 0 and status == 404 and not got
            is_over = place == len(requests) - 1 and status == 410
            if status not in (0, 409, 503) and not is_unbegun and not is_over:
                self._outcome.violate(
                    f"stream {name}: step {wrong} at {place}: expected 409, found {status} {answer!r}"
                )

    def _send_until_answered(self, name: int | str, request: tuple[bytes, int], place: int) -> bytes:
        give_up_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_s:
            status, answer = self._exchange(request)
            if status == 200:
                return self._taken(name, place, answer)
            if status not in (0, 503):
                self._outcome.violate(f"stream {name} step {place}: expected an answer, found {status} {answer!r}")
                raise SystemExit
            self._outcome.count("retried")
            time.sleep(PAUSE_S * self._dice.random())
        self._outcome.violate(f"stream {name} step {place}: expected an answer in {PATIENCE_S:g} s, found none")
        raise SystemExit

    def _taken(self, name: int | str, place: int, answer: bytes) -> bytes:
        """Return the bytes of y, once it is looked at whose answer it is."""
        head_bytes = int(answer[:8], 16)
        told = json.loads(answer[8 : 8 + head_bytes])["parameters"]
        if told.get("sequence_step") != place or told["sequence_id"] != name:
            self._outcome.violate(f"stream {name} step {place}: the answer of {told}")
        if not told.get("replayed"):
            if (name, place) in self._applied:
                self._outcome.violate(f"stream {name} step {place}: applied twice")
            self._applied.add((name, place))
        self._outcome.count("replayed" if told.get("replayed") else "applied")
        return answer[8 + head_bytes :]

    def _exchange(self, request: tuple[bytes, int]) -> tuple[int, bytes]:
        """Send to the server whose turn it is, and receive; another one's turn is next."""
        port, self._port = self._port, self._dice.choice(self._ports)
        return self._receive(port) if self._send(port, request) else (0, b"")

    def _send(self, port: int, request: tuple[bytes, int]) -> bool:
        """Send, and whether that could be done."""
        if port not in self._connections:
            self._connections[port] = http.client.HTTPConnection(HOST, port, timeout=PATIENCE_S)
        body, head_bytes = request
        try:
            headers = {"Inference-Header-Content-Length": str(head_bytes)}
            self._connections[port].request("POST", self._path, body, headers)
        except (OSError, http.client.HTTPException):
            self._drop(port)
            return False
        return True

    def _receive(self, port: int) -> tuple[int, bytes]:
        """Return status and body, of 200 with the length of its head before it; 0 where the connection broke."""
        connection = self._connections.get(port)
        if connection is None:
            return 0, b""
        try:
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            self._drop(port)
            return 0, b""
        if response.status != 200:
            return response.status, body
        return 200, b"%08x" % int(response.headers["inference-header-content-length"]) + body

    def _drop(self, port: int) -> None:
        connection = self._connections.pop(port, None)
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Close the connections."""
        for port in self._ports:
            self._drop(port)

    @staticmethod
    def _request(name: int | str, x: F32, edges: list[int], place: int) -> tuple[bytes, int]:
        chunk = np.ascontiguousarray(x[:, edges[place] : edges[place + 1]])
        tensor = {
            "name": "x",
            "shape": chunk.shape,
            "datatype": "FP32",
            "parameters": {"binary_data_size": chunk.nbytes},
        }
        parameters = {
            "sequence_id": name,
            "sequence_step": place,
            "sequence_start": place == 0,
            "sequence_end": place == len(edges) - 2,
            "binary_data_output": True,
        }
        head = json.dumps({"inputs": [tensor], "parameters": parameters, "outputs": [{"name": "y"}]}).encode()
        return head + chunk.astype("<f4").tobytes(), len(head)


def make_streams(plan: Plan, width: int) -> Iterator[tuple[int | str, F32, list[int]]]:
    """Return for each stream its name, its sequence [B, T, I] and the edges of its chunks."""
    for number in range(plan.streams):
        random_ = np.random.default_rng((plan.seed, number))
        lengths = random_.integers(1, 9, plan.chunks)
        x = random_.standard_normal((plan.rows, int(lengths.sum()), width), dtype=np.float32)
        # Numbers and the same digits as text are neighbours that must not be taken for each other.
        yield (number // 2 + 1 if number % 2 else f"{number // 2 + 1}"), x, [0, *np.cumsum(lengths).tolist()]
