"""An open loop that never waits for answers, light enough to send three times what a server can do from one core.

    a JSON line on stdin says what to send (`Orders`); a JSON line on stdout says what came of it (`Found`)

`client/load` measures latencies and takes its time for each request; this one only counts. Requests are due at the
moments of a Poisson process and leave on the connection that has been idle for longest; there are as many connections
as may be, and a request for which all of them wait for answers is never sent, and said so.

Rules of this file: one process, one thread, epoll; the requests are given as bytes.
"""

import json
import re
import select
import socket
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from cellgate.client.arrivals import poisson_arrivals

_LENGTH: Final = re.compile(rb"\r\ncontent-length: ([0-9]+)\r\n")
_RETRY: Final = b"\r\nretry-after: "
_CLOSE: Final = b"\r\nconnection: close\r\n"
_READ_BYTES: Final = 2**16
_LAST_S: Final = 30.0  # for the last answers
_AT_ONCE: Final = 64  # arrivals between two looks at the answers


@dataclass(frozen=True, kw_only=True, slots=True)
class Orders:
    """What to send.

    Attributes:
        port: of the server, on this machine.
        rate: requests a second.
        seconds: for so long.
        connections: at most, all opened beforehand.
        seed: of the arrivals.
        jobs: file (.npz) of requests: `data`, uint8, one after the other; `ends`, int64 [N]; `timeouts_s`, float64 [N],
            0 where a request has none.
    """

    port: int
    rate: float
    seconds: float
    connections: int
    seed: int
    jobs: str


@dataclass(slots=True)
class Found:
    """What came of it.

    Attributes:
        sent: requests that left.
        statuses: how often there was which; "lost" where the connection ended first, "none" where no answer came.
        good: 2xx in the time of the run and within their deadline, if they had one.
        good_timed: of them, those that had one; `timed` is how many had one at all.
        late_200: 2xx after their deadline.
        bare_503: 503 without Retry-After.
        waits_s: of 503, from sent to answered, a sample: p50, p99, longest.
        ok_waits_s: of 2xx, from due to answered, likewise.
        span_s: from the first request to the last one that was due.
        held_back: requests that were never sent, for no connection was free.
        behind_s: how late the others left: p50, p99, longest.
        violations: answers that must not be, the first few.
    """

    sent: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    good: int = 0
    good_timed: int = 0
    timed: int = 0
    late_200: int = 0
    bare_503: int = 0
    waits_s: list[float] = field(default_factory=list)
    ok_waits_s: list[float] = field(default_factory=list)
    span_s: float = 0.0
    held_back: int = 0
    behind_s: list[float] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


class Line:
    """One connection and what is under way on it."""

    __slots__ = ("deadline_s", "due_s", "is_busy", "received", "sent_s", "socket", "unsent", "wanted")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.is_busy = False
        self.due_s = self.sent_s = self.deadline_s = 0.0
        self.received = self.unsent = b""
        self.wanted = 0


class OpenLoop:
    """One run.

    Args:
        orders: what to send.
    """

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        with np.load(orders.jobs) as stored:
            data, ends = stored["data"].tobytes(), stored["ends"].tolist()
            self._timeouts_s: list[float] = stored["timeouts_s"].tolist()
        self._jobs = [data[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
        self._next = orders.seed * 101
        self._epoll = select.epoll()  # not `selectors`, which makes an object for every event
        self._lines: dict[int, Line] = {}
        self._free = deque(self._open() for _ in range(orders.connections))
        self._busy = 0
        self._end_s = 0.0
        self._counts: Counter[str] = Counter()
        self._waits_s: list[float] = []
        self._ok_waits_s: list[float] = []
        self._behind_s: list[float] = []
        self.found = Found()

    def run(self) -> Found:
        """Send, take the answers, and count."""
        orders, found = self._orders, self.found
        begin_s = time.monotonic()
        arrivals = poisson_arrivals(orders.rate, orders.seed)
        self._end_s = end_s = begin_s + orders.seconds
        due_s = begin_s + next(arrivals)
        while (now := time.monotonic()) < end_s:
            for _ in range(_AT_ONCE):
                if due_s > now or due_s >= end_s:
                    break
                self._arrive(due_s, now)
                due_s = begin_s + next(arrivals)
            self._look(max(0.0, min(due_s, end_s) - time.monotonic()))
        found.span_s = time.monotonic() - begin_s
        last_s = time.monotonic() + _LAST_S
        while self._busy and time.monotonic() < last_s:
            self._look(0.1)
        self._counts["none"] += self._busy
        found.statuses = {word: count for word, count in sorted(self._counts.items()) if count}
        found.waits_s, found.ok_waits_s = shown(self._waits_s), shown(self._ok_waits_s)
        found.behind_s = shown(self._behind_s)
        return found

    def _open(self) -> Line:
        line = Line(self._orders.port)
        self._epoll.register(line.socket, select.EPOLLIN)
        self._lines[line.socket.fileno()] = line
        return line

    def _arrive(self, due_s: float, now: float) -> None:
        if self._free:
            self._behind_s.append(now - due_s)
            self._send(self._free.popleft(), due_s, now)
        else:
            self.found.held_back += 1

    def _send(self, line: Line, due_s: float, now: float) -> None:
        self._next = number = (self._next + 1) % len(self._jobs)
        timeout_s = self._timeouts_s[number]
        line.is_busy, line.due_s, line.sent_s = True, due_s, now
        line.deadline_s = due_s + timeout_s if timeout_s else 0.0
        self.found.timed += timeout_s > 0.0
        self._busy += 1
        self.found.sent += 1
        payload = self._jobs[number]
        try:
            sent = line.socket.send(payload)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._lose(line)
            return
        if sent < len(payload):
            line.unsent = payload[sent:]
            self._epoll.modify(line.socket, select.EPOLLIN | select.EPOLLOUT)

    def _look(self, wait_s: float) -> None:
        """Take what has come; wait so long at most, which epoll itself would round to milliseconds."""
        if wait_s > 0.0:
            select.select([self._epoll], [], [], wait_s)
        events = self._epoll.poll(0)
        now = time.monotonic()
        for number, mask in events:
            line = self._lines[number]
            if mask & select.EPOLLOUT:
                self._send_rest(line)
            if mask & ~select.EPOLLOUT and line.socket.fileno() == number:
                self._read(line, now)

    def _send_rest(self, line: Line) -> None:
        try:
            line.unsent = line.unsent[line.socket.send(line.unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._lose(line)
            return
        if not line.unsent:
            self._epoll.modify(line.socket, select.EPOLLIN)

    def _read(self, line: Line, now: float) -> None:
        try:
            data = line.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose(line)
            return
        line.received += data
        if not line.wanted:
            end = line.received.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(line.received, 0, end + 2)
            line.wanted = end + 4 + (int(length[1]) if length else 0)
        if len(line.received) >= line.wanted:
            self._take(line, now)

    def _take(self, line: Line, now: float) -> None:
        answer, found = line.received, self.found
        line.received, line.wanted = b"", 0
        status = answer[9:12]
        self._counts[status.decode("latin-1")] += 1
        if status.startswith(b"2"):
            self._ok_waits_s.append(now - line.due_s)
            is_late = line.deadline_s > 0.0 and now > line.deadline_s
            is_good = not is_late and now <= self._end_s
            found.good += is_good
            found.good_timed += is_good and line.deadline_s > 0.0
            found.late_200 += is_late
        elif status == b"503":
            self._waits_s.append(now - line.sent_s)
            found.bare_503 += _RETRY not in answer
        if status[:1] != b"2" and status not in (b"503", b"504") and len(found.violations) < 5:
            found.violations.append(answer[:400].decode("latin-1"))
        self._end(line)
        if _CLOSE in answer:
            self._replace(line)
        else:
            self._free.append(line)

    def _lose(self, line: Line) -> None:
        if line.is_busy:
            self._counts["lost"] += 1
            if len(self.found.violations) < 5:
                self.found.violations.append("the connection ended before the answer")
            self._end(line)
        elif line in self._free:
            self._free.remove(line)
        self._replace(line)

    def _end(self, line: Line) -> None:
        line.is_busy = False
        line.unsent = b""
        self._busy -= 1

    def _replace(self, line: Line) -> None:
        del self._lines[line.socket.fileno()]
        line.socket.close()  # which takes it out of epoll too
        self._free.append(self._open())


def shown(times_s: list[float]) -> list[float]:
    """Return p50, p99 and the longest of some times; empty where there are none."""
    if not times_s:
        return []
    return [float(value) for value in np.quantile(times_s, (0.5, 0.99, 1.0), method="inverted_cdf")]


def main() -> None:
    """Do what stdin says."""
    orders: dict[str, Any] = json.loads(sys.stdin.readline())
    loop = OpenLoop(Orders(**orders))
    print("ready", flush=True)
    sys.stdin.readline()  # begin
    print(json.dumps(asdict(loop.run())), flush=True)


if __name__ == "__main__":
    main()
