"""A load from begin to end, on an event loop of its own: what `cellgate bench URL` and comparisons of servers call.

Rules of this file: synchronous outside, asyncio inside; it also watches the generator itself, since a slow one would
be taken for a slow server.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from .address import Address
from .arrivals import poisson_arrivals
from .event_loop import punctual_loop, quick_loop
from .jobs import Job
from .latency import Summary, summarise
from .load import Load
from .load_plan import LoadPlan

_BUSY_SHARE: Final = 0.9
_LATE_SHARE: Final = 0.1
_LATE_S: Final = 0.001


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadResult:
    """What a load found, and how the generator itself did.

    Attributes:
        summary: the numbers.
        held_back: sequences of an open loop for which no connection was free and no further one was allowed.
        cpu_share: of one CPU that the generator used, 0 .. 1.
        complaints: sentences on why the numbers may be the generator's own; empty where it kept up.
    """

    summary: Summary
    held_back: int
    cpu_share: float
    complaints: tuple[str, ...]


def run_load(
    address: Address, jobs: Sequence[Job], plan: LoadPlan, on_progress: Callable[[float], None] = lambda _: None
) -> LoadResult:
    """Run a load.

    Args:
        address: of the server.
        jobs: sequences, ready to be sent; any server's, as long as its answers are HTTP/1.1 with a Content-Length.
        plan: how and how long.
        on_progress: called a few times a second with the seconds since the start.

    Raises:
        UnreachableError, ServerGoneError: the server cannot be reached, or went away.
    """
    arrivals = None if plan.rate is None else poisson_arrivals(plan.rate, plan.seed)
    load = Load(address, jobs, plan, arrivals, time.monotonic)
    # Nothing here makes cycles, and a collection would walk over every prepared request in the middle of a run.
    gc.collect()
    gc.freeze()
    cpu_s, begin_s = time.process_time(), time.monotonic()
    try:
        with asyncio.Runner(loop_factory=quick_loop() if arrivals is None else punctual_loop()) as runner:
            measured_from_s, end_s = runner.run(load.run(on_progress))
    finally:
        gc.unfreeze()
    cpu_share = (time.process_time() - cpu_s) / max(time.monotonic() - begin_s, 1e-9)
    summary = summarise(load.recorder.samples(), measured_from_s, end_s)
    complaints = tuple(_complaints(summary, load.held_back, cpu_share))
    return LoadResult(summary=summary, held_back=load.held_back, cpu_share=cpu_share, complaints=complaints)


def _complaints(summary: Summary, held_back: int, cpu_share: float) -> list[str]:
    found = []
    if cpu_share > _BUSY_SHARE:
        found.append(f"the generator used {cpu_share:.0%} of a CPU: the numbers may be its own limit, not the server's")
    if held_back:
        found.append(
            f"{held_back} sequences had to wait for a connection here, and count with that wait: the server is slower "
            "than they arrive, or more --connections are needed"
        )
    late_s = summary.lateness.p99_s
    if not held_back and late_s > _LATE_S and late_s > _LATE_SHARE * summary.latency.p50_s:
        found.append(
            f"the generator fell behind: 1 of 100 requests left {late_s * 1e3:.1f} ms or more after it was due"
        )
    return found
