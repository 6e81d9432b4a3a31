"""A load generator for one core: pre-made requests over connections kept open, closed loop and open loop.

Rules of this file: it knows HTTP as far as "is the answer complete and good" and nothing of what is in it; whatever the
server, the same code runs. Plain epoll instead of asyncio, whose timers are too coarse (1 ms) for arrivals and which
costs several times as much a request.

Closed loop: every connection sends the next request as soon as it has its answer. Open loop: Poisson arrivals at a
given rate, each on a free connection or, with none free, on the next that becomes free; its latency counts from the
moment it was due, so that a server that falls behind cannot slow down its own measurement (coordinated omission).
"""

from collections.abc import Sequence
from itertools import chain
from typing import Final

import numpy as np
from connection import Connection, LoadError
from load_run import Load, Run

OPEN_CONNECTIONS: Final = 256
"""More than ever wait at once at a server that keeps up with half of its load."""


def ask(port: int, request: bytes, timeout: float = 10.0) -> tuple[bytes, bytes]:
    """Send one request and return its answer, (head, body).

    Raises:
        LoadError: nothing listens there, or no answer came.
    """
    connection = Connection(port)
    with connection.socket as link:
        link.settimeout(timeout)
        try:
            link.sendall(request)
            while not connection.complete(data := link.recv(65536)):
                if not data:
                    raise LoadError("the server closed the connection")
        except OSError as error:
            raise LoadError(str(error)) from error
    head, _, body = connection.received.partition(b"\r\n\r\n")
    return head, body


class Generator:
    """Sends the same requests in the same order to whichever server listens.

    Args:
        port: of the server, on 127.0.0.1.
        requests: whole requests, head and body.
    """

    def __init__(self, port: int, requests: Sequence[bytes]) -> None:
        self._port = port
        self._requests = requests

    def closed_loop(self, connections: int, warm_up_s: float, seconds: float) -> Load:
        """Keep ``connections`` requests under way; measure ``seconds`` after ``warm_up_s``.

        Raises:
            LoadError: see there.
        """
        return Run(self._port, self._requests, connections).go(None, warm_up_s, seconds)

    def open_loop(self, rate: float, warm_up_s: float, seconds: float, seed: int) -> Load:
        """Send at ``rate`` requests a second on average, as they come; wait at most 5 s for the last answers.

        Raises:
            LoadError: see there.
        """
        gaps = np.random.default_rng(seed).exponential(1 / rate, int((warm_up_s + seconds) * rate * 1.5) + 100)
        arrivals = chain(np.cumsum(gaps).tolist(), [float("inf")])
        return Run(self._port, self._requests, OPEN_CONNECTIONS).go(arrivals, warm_up_s, seconds)
