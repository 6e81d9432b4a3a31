"""Measuring what runs cost on this machine, through the same lanes that will serve.

Rules of this file: it measures and does not model (`cost_model` does); it takes a fraction of a second and stops early
where a network is slow.
"""

import time
from collections.abc import Callable

import numpy as np

from ..runtime.runtime import Runtime
from .cost_model import CostModel, Measurement, fit
from .device_lanes import lane_table
from .lanes import LaneTable
from .plan import Planner, RunRules
from .request import Lane, Request
from .work import Work

_ROWS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64)
_FEW_STEPS, _ROW_STEPS = 2, 192  # a row's second number of steps is what the row-steps allow, in 8 .. 32
# On a device, where a step is cheap beside a run and its noise, and many rows take hardly longer than one.
_DEVICE_ROWS, _MANY_STEPS = (1, 4, 16, 64), 128
_REPEATS, _MOST_REPEATS, _REPEAT_S = 5, 25, 0.002  # short runs are repeated more often, for they are noisier
_BUDGET_S = 0.25  # for each of the two tables
# Share of the time in which the thread had a CPU. From 0.3 on what was found for a network of H = 128 was within 3 % of
# what a quiet machine gives; with a tenth the budgets end too early, and some figures were two or three times as large.
_HAD_CPU = 0.4
_WIDTH = 12  # rows of the runs that find out from which size on a run falls out of the caches
_ABOUT_BEST = 1.01
_DECISIONS_A_TURN = 2.0  # what a turn of the engine costs beside packing and running, counted in decisions
_SIZES = (96, 192, 384, 768, 1536, 3072, 6144, 12288)


def calibrate(
    runtime: Runtime,
    max_rows: int,
    clock: Callable[[], float] = time.perf_counter,
    *,
    on_device: bool = False,
    own_clock: Callable[[], float] = time.thread_time,
) -> CostModel:
    """Time runs of different sizes and fit the cost model to them.

    Args:
        runtime: open; on the device that will serve.
        max_rows: largest B.
        clock: in seconds.
        on_device: whether the lanes keep their states on the device.
        own_clock: counts the seconds in which this thread had a CPU.

    Returns:
        The model of whole runs: packing, the runtime, unpacking.
    """
    table = lane_table(runtime, max_rows, on_device=on_device)
    found: list[Measurement] = []
    began, own_began = clock(), own_clock()
    signature = runtime.signature
    more = signature.least_steps - 1  # than a run may have of any other network
    _time(runtime, table, 1, 1 + more, clock)  # the first run of a session allocates
    for rows in sorted({min(count, max_rows) for count in (_DEVICE_ROWS if on_device else _ROWS)}):
        many = _MANY_STEPS if on_device else min(max(_ROW_STEPS // rows, 8), 32)
        best = {
            steps: _time(runtime, table, rows, steps, clock)
            for steps in (_FEW_STEPS + more, signature.at_most(many + more))
        }
        found += [Measurement(rows, steps, seconds) for steps, seconds in best.items()]
        if clock() - began > _BUDGET_S and not on_device:
            break
    # A device computes many rows in the time of one: that they are cheap is no noise there.
    cost = fit(found, max_rows, least_share=0.0) if on_device else fit(found, max_rows)
    turn_s = _DECISIONS_A_TURN * _decision_s(cost, clock)
    cost.run_s += turn_s
    cost.best_row_steps = _best_size(runtime, table, min(_WIDTH, max_rows), turn_s, clock)
    cost.had_cpu = own_clock() - own_began >= _HAD_CPU * (clock() - began)
    return cost


def _decision_s(cost: CostModel, clock: Callable[[], float]) -> float:
    """Return the time of one decision of the planner."""
    planner = Planner(cost, RunRules(stoppable=True, ragged=True, run_limit_s=1.0, step_budget=2**20), cost.max_rows)
    remaining = np.arange(1, min(_WIDTH, cost.max_rows) + 1)
    best = np.inf
    for _ in range(_MOST_REPEATS):
        begun = clock()
        planner.choose_run(remaining, 0)
        best = min(best, clock() - begun)
    return float(best)


def _best_size(runtime: Runtime, table: LaneTable, rows: int, turn_s: float, clock: Callable[[], float]) -> int:
    """Return the smallest rows times steps at which each costs about least: longer runs leave the caches."""
    began = clock()
    each: dict[int, float] = {}
    for size in _SIZES:
        steps = runtime.signature.at_most(max(size // rows, runtime.signature.least_steps))
        each[steps * rows] = (turn_s + _time(runtime, table, rows, steps, clock)) / (steps * rows)
        if clock() - began > _BUDGET_S:
            break
    return min(size for size, seconds in each.items() if seconds <= _ABOUT_BEST * min(each.values()))


def _time(runtime: Runtime, table: LaneTable, rows: int, steps: int, clock: Callable[[], float]) -> float:
    """Return the best time of a run that all rows go on from; the best, for noise only adds."""
    best, spent = np.inf, 0.0
    for repeat in range(_MOST_REPEATS):
        if repeat >= _REPEATS and spent > _REPEAT_S:
            break
        lanes = _lanes(runtime, rows, steps + 1)
        begun = clock()
        table.advance(lanes, steps)
        seconds = clock() - begun
        best, spent = min(best, seconds), spent + seconds
        for lane in lanes:
            table.release(lane)
    return float(best)


def _lanes(runtime: Runtime, rows: int, steps: int) -> list[Lane]:
    signature = runtime.signature
    spec = next(spec for spec in signature.inputs if spec.name == signature.sequence)
    inner = tuple(axis for axis in spec.shape[2:] if isinstance(axis, int))
    work = Work(
        model="",
        sequence=np.zeros((rows, steps, *inner), dtype=spec.dtype),
        lengths=np.full(rows, steps, dtype=np.int32),
        states=(None,) * len(signature.state),
        outputs=(signature.outputs[0].name,),
    )
    request = Request(None, work, 0, rows)
    return [Lane(request, row, work.sequence[row], steps, 0.0) for row in range(rows)]
