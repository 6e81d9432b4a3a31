"""The engine: it takes work, decides with the planner, advances lanes, and hands out answers. Synchronous.

Rules of this file: one thread owns it; the clock is handed in; every ticket that `submit` accepted is answered exactly
once by `run_once` or `close`, or was cancelled. Queues are bounded in requests and in bytes.
"""

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from ..errors import DeadlineExceeded, EngineError, NotReady, QueueBytesFull, QueueFull, ServeError
from ..models.model_table import unknown_model
from ..observe.counter_layout import CounterLayout
from ..observe.counter_page import CounterPage
from .engine_limits import EngineLimits
from .model_queue import ModelQueue
from .models import EngineModel
from .moment_heap import MomentHeap
from .request import Request
from .run_meter import RunMeter
from .work import Outcome, Work

Result = tuple[Hashable, Outcome]

logger = logging.getLogger("cellgate.serve")


class Engine:
    """Lanes and planner of every served model, and the queue before them.

    Args:
        models: open; the engine closes their runtimes.
        limits: of what it takes on.
        clock: monotonic, in seconds; the same clock as of `Work.deadline_s`.
        counters: page to count the runs on; none: one that nobody reads.
    """

    def __init__(
        self,
        models: Sequence[EngineModel],
        limits: EngineLimits,
        clock: Callable[[], float] = time.monotonic,
        counters: CounterPage | None = None,
    ) -> None:
        names = [model.served.name for model in models]
        self._page = CounterPage(CounterLayout(names)) if counters is None else counters
        self._limits = limits
        self._clock = clock
        self._models: dict[str, ModelQueue] = {}  # by their keys, and the current ones by their names
        self._queues: tuple[ModelQueue, ...] = ()
        for model in models:
            self.add(model)
        self._live: dict[Hashable, Request] = {}
        self._waiting_bytes = 0
        self._counts = {"accepted": 0, "answered": 0, "failed": 0, "cancelled": 0, "expired": 0, "refused": 0}
        self._deadlines: MomentHeap[Request] = MomentHeap()

    @property
    def models(self) -> tuple[EngineModel, ...]:
        """The models, in the order of the command line and of loading."""
        return tuple(queue.model for queue in self._queues)

    @property
    def inside(self) -> int:
        """Requests that are not answered."""
        return len(self._live)

    @property
    def inside_bytes(self) -> int:
        """Bytes of their tensors."""
        return self._waiting_bytes

    def add(self, model: EngineModel) -> None:
        """Serve another model from now on, under its key; under its name as well where `prefer` says so, or is first.

        Args:
            model: open, and of a name that the counters have a place for; closed by `remove` or `close`.
        """
        served = model.served
        self._page.layout.add(served.name)
        queue = ModelQueue(model, self._limits, self._clock, RunMeter(self._page, served.name))
        self._models[served.key] = queue
        self._models.setdefault(served.name, queue)
        self._queues = (*self._queues, queue)

    def prefer(self, name: str, key: str | None) -> None:
        """Let a name mean this version from now on, or, with None, no version."""
        if key is None:
            self._models.pop(name, None)
        else:
            self._models[name] = self._models[key]

    def uses_of(self, key: str) -> int:
        """Return how often a model was used: its runs."""
        return self._models[key].runs

    def is_idle(self, key: str) -> bool:
        """Whether nothing is on its way through a model."""
        return self._models[key].is_idle

    def remove(self, key: str) -> None:
        """Close a model that is idle and that no name means."""
        queue = self._models.pop(key)
        assert queue.is_idle
        self._queues = tuple(one for one in self._queues if one is not queue)
        queue.model.runtime.close()

    def submit(self, ticket: Hashable, work: Work) -> None:
        """Take work; it runs in a later `run_once`.

        Args:
            ticket: names the work; unique among those that are not answered.
            work: checked.

        Raises:
            QueueFull: as much waits as may wait.
            UnknownModel: no such model.
        """
        queue = self._models.get(work.model)
        if queue is None:
            raise unknown_model(work.model, (queue.model.served for queue in self._queues))
        size_bytes = work.size_bytes
        live, limits = self._live, self._limits
        if len(live) >= limits.max_waiting:
            self._counts["refused"] += 1
            raise QueueFull(limits.max_waiting)
        if live and self._waiting_bytes + size_bytes > limits.max_waiting_bytes:
            self._counts["refused"] += 1
            raise QueueBytesFull(limits.max_waiting_bytes)
        request = Request(ticket, work, size_bytes, work.sequence.shape[0])
        request.queue = queue
        live[ticket] = request
        self._waiting_bytes += size_bytes
        self._counts["accepted"] += 1
        if work.deadline_s is not None:
            request.deadline_place = self._deadlines.add(work.deadline_s, request)
        try:
            queue.add(request)
        except Exception:
            self._drop([request])  # nothing of it stays
            raise

    def cancel(self, ticket: Hashable) -> None:
        """Drop work that nobody waits for; its rows leave their lanes before the next run. Unknown tickets are fine."""
        request = self._live.get(ticket)
        if request is not None:
            self._counts["cancelled"] += 1
            self._drop([request])

    def wait_s(self) -> float | None:
        """Return how long nothing is due: 0.0 now, None until work comes."""
        waits = [wait for queue in self._queues if (wait := queue.wait_s()) is not None]
        return min(waits, default=None)

    def run_once(self) -> list[Result]:
        """Run the model whose leader is due first, once; return what ended, also what passed its deadline."""
        results = self._expire() if self._deadlines else []
        queues = [queue for queue in self._queues if queue.wait_s() == 0.0]
        if not queues:
            return results
        queue = queues[0] if len(queues) == 1 else min(queues, key=lambda queue: queue.due_s)
        try:
            ended = queue.run()
        except Exception as err:  # noqa: BLE001 - whatever it is, those in the run get an answer and the others go on
            results += self._fail(queue, err)
            return results
        for request in ended:
            results.append((request.ticket, request.ordered_answer()))
            self._forget(request)
        self._counts["answered"] += len(ended)
        return results

    def close(self) -> list[Result]:
        """Refuse everything that still waits and close the runtimes. Closing twice is fine."""
        left = list(self._live.values())
        self._drop(left)
        for queue in reversed(self._queues):
            queue.model.runtime.close()
        return [(request.ticket, NotReady()) for request in left]

    def statistics(self) -> dict[str, Any]:
        """Return counts since the start and what is in the engine now, as plain JSON values."""
        return {
            "requests": {**self._counts, "inside": len(self._live), "inside_bytes": self._waiting_bytes},
            "models": {self._label(queue): queue.statistics() for queue in self._queues},
        }

    def _label(self, queue: ModelQueue) -> str:
        """Return the name of a model that is current, the key of one that is not."""
        served = queue.model.served
        return served.name if self._models.get(served.name) is queue else served.key

    def _fail(self, queue: ModelQueue, err: Exception) -> list[Result]:
        """A run failed: those who were in it are told; the others go on."""
        failed = queue.take_failed()
        if not isinstance(err, ServeError) or err.__cause__ is not None:
            # Here or nowhere: what the runtime says of it is the cause of its error, and clients are told shapes only.
            logger.error("model %s: a run of the engine failed", queue.model.served.name, exc_info=err)
        if not isinstance(err, ServeError):
            err = EngineError("engine: expected the run to end, found a fault in it")
        self._counts["failed"] += len(failed)
        self._drop(failed)
        # One error for each: an exception that is raised twice collects tracebacks.
        return [(request.ticket, EngineError(str(err))) for request in failed]

    def _expire(self) -> list[Result]:
        now, deadlines = self._clock(), self._deadlines
        passed: list[Request] = []
        while deadlines.first_s <= now:
            passed.append(deadlines.pop())
        self._counts["expired"] += len(passed)
        self._drop(passed)
        return [(request.ticket, DeadlineExceeded()) for request in passed]

    def _drop(self, requests: Iterable[Request]) -> None:
        for request in requests:
            request.queue.drop(request)  # names may mean another model by now
            self._forget(request)

    def _forget(self, request: Request) -> None:
        del self._live[request.ticket]
        if request.deadline_place:
            self._deadlines.discard(request.deadline_place)
        self._waiting_bytes -= request.size_bytes
