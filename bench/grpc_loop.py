"""The same as `open_loop`, by gRPC: an open loop, or, where the rate is 0, a closed one.

Python's gRPC is no light client: it sends some thousand calls a second from one core, and what it could not send is
said (`held_back`, `behind_s`).

Rules of this file: one process, one event loop; a call for which there is no place among those under way is never sent.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import asdict
from itertools import count
from typing import Any, Final

import grpc
import grpc.aio
import numpy as np
import uvloop
from open_loop import Found, Orders, shown

from cellgate.client.arrivals import poisson_arrivals

_INFER: Final = "/inference.GRPCInferenceService/ModelInfer"
_PATIENCE_S: Final = 60.0
_CHANNELS: Final = 8
_STATUSES: Final = {"OK": "200", "RESOURCE_EXHAUSTED": "503", "UNAVAILABLE": "503", "DEADLINE_EXCEEDED": "504"}


class GrpcLoop:
    """One run.

    Args:
        orders: what to send; `connections` are calls under way at most.
    """

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        with np.load(orders.jobs) as stored:
            data, ends = stored["data"].tobytes(), stored["ends"].tolist()
            self._timeouts_s: list[float] = stored["timeouts_s"].tolist()
        self._jobs = [data[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
        self._numbers = count(orders.seed * 101)
        self._calls: list[Any] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._counts: Counter[str] = Counter()
        self._waits_s: list[float] = []
        self._ok_waits_s: list[float] = []
        self._behind_s: list[float] = []
        self._end_s = 0.0
        self.found = Found()

    async def run(self) -> Found:
        """Send, take the answers, and count."""
        orders, found = self._orders, self.found
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [grpc.aio.insecure_channel(f"127.0.0.1:{orders.port}", options) for _ in range(_CHANNELS)]
        self._calls = [channel.unary_unary(_INFER) for channel in channels]
        begin_s = time.monotonic()
        self._end_s = begin_s + orders.seconds
        await (self._open(begin_s) if orders.rate else self._closed())
        found.span_s = time.monotonic() - begin_s
        if self._under_way:
            await asyncio.wait(self._under_way)
        for channel in channels:
            await channel.close()
        found.statuses = dict(sorted(self._counts.items()))
        found.waits_s, found.ok_waits_s = shown(self._waits_s), shown(self._ok_waits_s)
        found.behind_s = shown(self._behind_s)
        return found

    async def _open(self, begin_s: float) -> None:
        orders = self._orders
        for moment_s in poisson_arrivals(orders.rate, orders.seed):
            due_s = begin_s + moment_s
            if due_s >= self._end_s or time.monotonic() >= self._end_s:
                return
            if (wait_s := due_s - time.monotonic()) > 0 or len(self._behind_s) % 16 == 0:
                await asyncio.sleep(max(0.0, wait_s))
            if len(self._under_way) >= orders.connections:
                self.found.held_back += 1
                continue
            self._behind_s.append(time.monotonic() - due_s)
            task = asyncio.ensure_future(self._ask(due_s))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _closed(self) -> None:
        async def ask_on() -> None:
            while (now := time.monotonic()) < self._end_s:
                await self._ask(now)

        await asyncio.gather(*(ask_on() for _ in range(self._orders.connections)))

    async def _ask(self, due_s: float) -> None:
        number = next(self._numbers)
        job, found = number % len(self._jobs), self.found
        timeout_s = self._timeouts_s[job] if self._orders.rate else 0.0
        found.sent += 1
        found.timed += timeout_s > 0.0
        sent_s = time.monotonic()
        try:
            await self._calls[number % _CHANNELS](self._jobs[job], timeout=timeout_s or _PATIENCE_S)
        except grpc.aio.AioRpcError as err:
            self._note(err, time.monotonic() - sent_s)
            return
        now = time.monotonic()
        self._counts["200"] += 1
        self._ok_waits_s.append(now - due_s)
        is_late = timeout_s > 0.0 and now > due_s + timeout_s
        is_good = not is_late and now <= self._end_s
        found.good += is_good
        found.good_timed += is_good and timeout_s > 0.0
        found.late_200 += is_late

    def _note(self, err: grpc.aio.AioRpcError, took_s: float) -> None:
        trailing = dict(err.trailing_metadata() or ())
        status = _STATUSES.get(err.code().name, err.code().name)
        is_ours = "error-code" in trailing
        if status == "503" and not is_ours and err.code() is grpc.StatusCode.UNAVAILABLE:
            status = "lost"
        self._counts[status] += 1
        if status == "503":
            self._waits_s.append(took_s)
            self.found.bare_503 += is_ours and "retry-after" not in trailing  # gRPC's own limit says no more than that
        elif status != "504" and len(self.found.violations) < 5:
            self.found.violations.append(f"{err.code().name}: {err.details()}")


def main() -> None:
    """Do what stdin says."""
    orders: dict[str, Any] = json.loads(sys.stdin.readline())
    loop = GrpcLoop(Orders(**orders))
    print("ready", flush=True)
    sys.stdin.readline()  # begin
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(asdict(runner.run(loop.run()))), flush=True)


if __name__ == "__main__":
    main()
