"""The queue and the lanes of one model: who is admitted, when to wait a little, and the run itself.

Rules of this file: it asks the planner and obeys; it measures its runs for the cost model. What waits stands in the
order of due moments; rows in lanes in that of their remaining steps.
"""

import math
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .company import Company
from .cost_model import Measurement
from .device_lanes import lane_table
from .engine_limits import EngineLimits
from .models import EngineModel
from .moment_heap import MomentHeap
from .plan import Planner, RunRules, due_s
from .request import Lane, Request
from .run_meter import RunMeter

_REMAINING = attrgetter("remaining")
_DUE = attrgetter("due_s")
_ROWS = attrgetter("rows")


class ModelQueue:
    """Everything on its way through one model.

    Args:
        model: open.
        limits: of the engine.
        clock: monotonic, in seconds.
        meter: counts its runs.
    """

    def __init__(self, model: EngineModel, limits: EngineLimits, clock: Callable[[], float], meter: RunMeter) -> None:
        self.model = model
        manifest = model.served.manifest
        rules = RunRules(
            stoppable=manifest.streamable,
            ragged=manifest.graph.lengths is not None,
            run_limit_s=limits.run_limit_s,
            step_budget=limits.step_budget,
        )
        self._planner = Planner(model.cost, rules, limits.max_lanes)
        self._table = lane_table(model.runtime, self._planner.max_rows, on_device=model.device_lanes)
        self._max_lanes = self._planner.max_rows
        self._unit_s = model.cost.unit_s
        self._cheap_rows = model.cost.cheap_rows
        self._clock = clock
        self._meter = meter
        self._waiting: MomentHeap[Request | Lane] = MomentHeap()  # lanes are those that stepped aside
        self._aside: dict[Lane, int] = {}  # those, and their places there
        self._active: list[Lane] = []  # ascending by remaining steps from the start of a run to its end
        self._running: list[Lane] = []
        self._company = Company()
        self._counts = {"runs": 0, "rows": 0, "useful_steps": 0, "computed_steps": 0, "run_s": 0.0}

    @property
    def is_idle(self) -> bool:
        """Whether nothing is on its way."""
        return not self._waiting and not self._active

    @property
    def runs(self) -> int:
        """How often it ran."""
        return int(self._counts["runs"])

    @property
    def due_s(self) -> float:
        """The due moment of the leader; infinite where nothing waits."""
        return min(min(map(_DUE, self._active), default=math.inf), self._waiting.first_s)

    def add(self, request: Request) -> None:
        """Queue a request."""
        work, rows = request.work, request.rows
        steps = work.lengths.item() if rows == 1 else int(work.lengths.sum())
        request.arrived_s = now = self._clock()
        request.due_s = due_s(now, steps, work.priority, self._unit_s)
        if not self._waiting:
            while request.next_row < rows and len(self._active) < self._max_lanes:
                self._begin(request.next_lane())
        if request.next_row < rows:
            request.place = self._waiting.add(request.due_s, request)
        self._company.arrived()

    def drop(self, request: Request) -> None:
        """Take a request out; those of its rows that are on their way give their slots back."""
        self._running = []  # nothing of what ended is kept
        self._waiting.discard(request.place)
        if not request.next_row:
            return
        for lane in [lane for lane in self._aside if lane.request is request]:
            self._waiting.discard(self._aside.pop(lane))
            self._table.release(lane)
        for lane in self._active:
            if lane.request is request:
                self._table.release(lane)
        self._active = [lane for lane in self._active if lane.request is not request]

    def wait_s(self) -> float | None:
        """Return 0.0 where a run is due, how long it is held for company, or None where nothing waits."""
        if self._waiting or len(self._active) >= self._cheap_rows:
            return 0.0
        if not self._active:
            return None
        return self._company.wait_s(self._clock(), self.model.cost, self._remaining)

    def run(self) -> list[Request]:
        """Admit, plan, and run once.

        Returns:
            The requests of which the last row ended.

        Raises:
            EngineError: the runtime refused; `take_failed` says whose rows were in the run.
        """
        self._running = []
        begun = self._clock()
        self._company.started(begun)
        self._admit()
        self._running = []
        active = self._active
        active.sort(key=_REMAINING)
        due = list(map(_DUE, active))
        plan = self._planner.choose_run(np.array(list(map(_REMAINING, active))), due.index(min(due)))
        lanes = self._running = active[plan.first : plan.stop]
        ended = self._table.advance(lanes, plan.steps)
        self._count(lanes, plan.steps, ended, begun)
        del active[plan.first : plan.first + ended]
        self._running = []
        for lane in lanes[:ended]:
            if lane.slot:
                self._table.release(lane)
        done = list(dict.fromkeys([lane.request for lane in lanes[:ended] if lane.request.rows_left == 0]))
        self._meter.answered(sum(map(_ROWS, done)))
        return done

    def take_failed(self) -> list[Request]:
        """Return the requests of the run that failed, each once; all on their way where it was not planned yet."""
        lanes, self._running = self._running or self._active, []
        return list(dict.fromkeys(lane.request for lane in lanes))

    def statistics(self) -> dict[str, Any]:
        """Return counts since the start, and what is on its way now."""
        computed, runs = self._counts["computed_steps"], self._counts["runs"]
        return {
            **self._counts,
            "waiting_rows": sum(1 if isinstance(found, Lane) else found.rows_waiting for found in self._waiting.items),
            "lanes": len(self._active),
            "slots": self._table.used_slots,
            "padding_ratio": 1 - self._counts["useful_steps"] / computed if computed else 0.0,
            "rows_a_run": self._counts["rows"] / runs if runs else 0.0,
            "holds": self._company.holds,
        }

    def _admit(self) -> None:
        """Fill the lanes with whoever is due first; one that is due later than somebody who waits steps aside."""
        while self._waiting and len(self._active) < self._max_lanes:
            self._begin(self._next_lane())
        while self._waiting:
            last = max(self._active, key=_DUE)
            if self._waiting.first_s >= last.due_s:
                return
            newcomer = self._next_lane()
            self._active.remove(last)
            self._aside[last] = self._waiting.add(last.due_s, last, ahead=True)  # before those who came after it
            self._begin(newcomer)

    def _next_lane(self) -> Lane:
        found = self._waiting.first
        if isinstance(found, Lane):
            self._waiting.pop()
            del self._aside[found]
            return found
        lane = found.next_lane()
        if found.next_row == found.rows:
            self._waiting.pop()
            found.place = 0
        return lane

    def _begin(self, lane: Lane) -> None:
        self._running = [lane]  # whose fault it would be
        self._active.append(lane)  # before it takes a slot, so that whoever drops its request finds both
        self._table.begin(lane)

    def _remaining(self) -> NDArray[np.int64]:
        return np.array(sorted(map(_REMAINING, self._active)))

    def _count(self, lanes: list[Lane], steps: int, ended: int, begun: float) -> None:
        """Count a run that has happened. Who ended has negative steps left by what was computed for padding."""
        rows, end = len(lanes), self._clock()
        seconds, computed = end - begun, rows * steps
        useful = computed + sum(map(_REMAINING, lanes[:ended]))
        counts = self._counts
        counts["runs"] += 1
        counts["rows"] += rows
        counts["computed_steps"] += computed
        counts["useful_steps"] += useful
        counts["run_s"] += seconds
        self._meter.ran(rows, useful, computed, begun, seconds)
        watched = [lane.request for lane in lanes if lane.request.is_watched]
        if watched:
            self._note(watched, begun, end)
        self.model.cost.refine(Measurement(rows, steps, seconds))

    def _note(self, requests: list[Request], begun: float, end: float) -> None:
        """Note a run of requests: the first one, and all of them where somebody traces it."""
        waits_s: list[float] = []
        for request in requests:
            times = request.work.times
            if times is None:
                if request.is_watched:
                    request.is_watched = False
                    waits_s.append(begun - request.arrived_s)
            elif times.runs == 0:
                waits_s.append(begun - request.arrived_s)
                times.arrived_s, times.first_run_s, times.last_run_s, times.runs = request.arrived_s, begun, end, 1
            elif times.last_run_s != end:  # several of its rows are in the run
                times.last_run_s, times.runs = end, times.runs + 1
        self._meter.begun(waits_s)
