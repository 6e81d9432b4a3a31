"""One measurement of the load generator: its connections, its clock, its counters.

Rules of this file: what is done between two answers is little, for it is the server's time; whatever can be done after
the measurement is done then.
"""

import gc
import select
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Final

from connection import Connection, LoadError

_DRAIN_S: Final = 5.0
_SPIN_S: Final = 0.0015  # epoll's timeout counts whole milliseconds: the rest of a wait is spun
_GOOD: Final = b"HTTP/1.1 200"


@dataclass(kw_only=True, slots=True)
class Load:
    """What came back from the requests that began in the measured time.

    Attributes:
        sent: which request, by index.
        latency_s: seconds to its answer, in the same order.
        answers: last answer to each request, (head, body).
        good: answers that arrived within the measured time, over all.
        due: requests that began, or were due, in the measured time.
        errors: other statuses than 200, and connections that the server closed under a request.
        unanswered: requests without an answer at the end.
        seconds: length of the measured time.
        busy: share of the measured time that the generator's core worked; it spins in an open loop.
        late_s: seconds from the moment each request of an open loop was due until the generator knew: its own fault.
    """

    sent: list[int] = field(default_factory=list)
    latency_s: list[float] = field(default_factory=list)
    answers: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    good: int = 0
    due: int = 0
    errors: int = 0
    unanswered: int = 0
    seconds: float = 0.0
    busy: float = 0.0
    late_s: list[float] = field(default_factory=list)


class Run:
    """One measurement; it is made, goes once and is over.

    Args:
        port: of the server, on 127.0.0.1.
        requests: whole requests, head and body.
        connections: how many are kept open.

    Raises:
        LoadError: the server cannot be reached.
    """

    def __init__(self, port: int, requests: Sequence[bytes], connections: int) -> None:
        self._port = port
        self._requests = requests
        self._order = cycle(range(len(requests)))
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._free: deque[Connection] = deque()
        self._load = Load()
        self._start = self._end = 0.0
        self._closed = False
        try:
            for _ in range(connections):
                self._free.append(self._connect())
        except LoadError:
            self._close()
            raise

    def go(self, arrivals: Iterator[float] | None, warm_up_s: float, seconds: float) -> Load:
        """Measure ``seconds`` after ``warm_up_s``.

        Args:
            arrivals: seconds after the start at which requests are due, rising, without end; None for a closed loop.
            warm_up_s: seconds in which nothing is counted.
            seconds: of the measured time.

        Raises:
            LoadError: the server is gone, or sends no HTTP that the generator reads.
        """
        gc.collect()
        gc.disable()  # a collection in the middle would be the server's latency
        try:
            begin = time.perf_counter()
            self._start, self._end = begin + warm_up_s, begin + warm_up_s + seconds
            self._load.seconds = seconds
            busy = time.process_time()
            if arrivals is None:
                self._run_closed()
            else:
                self._run_open(begin, arrivals)
            self._load.busy = (time.process_time() - busy) / (time.perf_counter() - begin)
            self._drain()
        finally:
            gc.enable()
            self._close()
        return self._load

    def _run_closed(self) -> None:
        self._closed = True
        while self._free:
            self._send(self._free.pop(), time.perf_counter())
        while time.perf_counter() < self._end:
            self._answer(0.05)
        self._closed = False

    def _run_open(self, begin: float, arrivals: Iterator[float]) -> None:
        due: deque[float] = deque()
        following = begin + next(arrivals)
        while (now := time.perf_counter()) < self._end:
            while following <= now:
                due.append(following)
                if following >= self._start:
                    self._load.late_s.append(now - following)
                following = begin + next(arrivals)
            while due and self._free:
                self._send(self._free.pop(), due.popleft())
            wait = min(following, self._end) - time.perf_counter() - _SPIN_S
            self._answer(0.001 * int(1000 * wait) if wait > 0 and not due else 0)
        for moment in due:  # never sent for want of a connection
            self._load.due += moment >= self._start
            self._unanswered(next(self._order), moment, time.perf_counter())

    def _drain(self) -> None:
        limit = time.perf_counter() + _DRAIN_S
        while len(self._free) < len(self._connections) and time.perf_counter() < limit:
            self._answer(0.05)
        now = time.perf_counter()
        idle = set(map(id, self._free))
        for connection in self._connections.values():
            if id(connection) not in idle:
                self._unanswered(connection.index, connection.began, now)

    def _unanswered(self, index: int, began: float, now: float) -> None:
        """Count a request that was given up, with the time that it had waited: its latency is at least that."""
        if began >= self._start:
            self._load.unanswered += 1
            self._load.sent.append(index)
            self._load.latency_s.append(now - began)

    def _send(self, connection: Connection, began: float) -> None:
        connection.index = index = next(self._order)
        connection.began = began
        connection.received = b""
        connection.wanted = 0
        if began >= self._start:
            self._load.due += 1
        request = self._requests[index]
        try:
            sent = connection.socket.send(request)
        except OSError:
            self._fail(connection)
            return
        if sent < len(request):
            connection.rest = memoryview(request)[sent:]
            self._epoll.modify(connection.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _answer(self, timeout: float) -> None:
        """Wait for answers and take what is there."""
        for descriptor, event in self._epoll.poll(timeout):
            connection = self._connections[descriptor]
            if connection.rest is not None and event & select.EPOLLOUT:
                self._send_rest(connection)
            if event & ~select.EPOLLOUT:
                self._receive(connection)

    def _send_rest(self, connection: Connection) -> None:
        assert connection.rest is not None
        try:
            connection.rest = connection.rest[connection.socket.send(connection.rest) :]
        except BlockingIOError:
            return
        except OSError:
            return  # the reading side reports it
        if not connection.rest:
            connection.rest = None
            self._epoll.modify(connection.socket.fileno(), select.EPOLLIN)

    def _receive(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._fail(connection)
        elif connection.complete(data):
            self._record(connection)
            self._next(connection)

    def _record(self, connection: Connection) -> None:
        now = time.perf_counter()
        received = connection.received
        load = self._load
        if not received.startswith(_GOOD):
            load.errors += connection.began >= self._start
            return
        if connection.began >= self._start:
            load.sent.append(connection.index)
            load.latency_s.append(now - connection.began)
        if self._start <= now < self._end:
            load.good += 1
        # Split later: here is the time that the server should have.
        load.answers[connection.index] = (received, b"")

    def _next(self, connection: Connection) -> None:
        if self._closed:
            self._send(connection, time.perf_counter())
        else:
            self._free.append(connection)

    def _fail(self, connection: Connection) -> None:
        """Replace a connection that the server closed; under a request that is an error."""
        if connection.index >= 0 and connection not in self._free:
            self._load.errors += connection.began >= self._start
        self._disconnect(connection)
        if connection in self._free:
            self._free.remove(connection)
        self._free.append(self._connect())
        if self._closed:
            self._send(self._free.pop(), time.perf_counter())

    def _connect(self) -> Connection:
        connection = Connection(self._port)
        self._connections[connection.socket.fileno()] = connection
        self._epoll.register(connection.socket.fileno(), select.EPOLLIN)
        return connection

    def _disconnect(self, connection: Connection) -> None:
        del self._connections[connection.socket.fileno()]
        connection.socket.close()

    def _close(self) -> None:
        for connection in list(self._connections.values()):
            self._disconnect(connection)
        self._epoll.close()
        for index, (received, _) in self._load.answers.items():
            head, _, body = received.partition(b"\r\n\r\n")
            self._load.answers[index] = (head, body)
