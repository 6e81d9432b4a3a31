"""Runtimes and engine's ports without an engine: they compute with the oracle, or do what a test says."""

import asyncio
import itertools

import numpy as np

from cellgate.serve.errors import EngineError, NotReady, ServeError
from cellgate.serve.runtime.runtime import RuntimeFacts

from .small_network import H, O


class FakeRuntime:
    """Keeps the runtime's contract and computes with the oracle; `answer` may replace what it returns."""

    def __init__(self, network, answer=None):
        self.network = network
        self.signature = network.signature
        self.facts = RuntimeFacts(device="cpu", provider="fake", threads=1, version="0", reason="asked for")
        self.provider, self.device = "fake", "cpu"
        self.answer = answer
        self.runs = []
        self.closed = False

    def run(self, feeds):
        self.runs.append(feeds)
        found = self.network.compute(feeds)
        return found if self.answer is None else self.answer(found)

    def close(self):
        self.closed = True


class RuntimePort:
    """An engine's port without an engine: every work is one run on the event loop, by itself.

    It trusts a work as the engine does, and checks that it may.
    """

    def __init__(self, runtimes):
        self.runtimes = runtimes
        self.is_ready = True
        self.cancelled = []
        self._tickets = itertools.count(1)
        self._live = set()

    def has_room(self):
        return True

    def submit(self, work, on_done):
        if not self.is_ready:
            raise NotReady
        check_work(work, self.runtimes[work.model.partition("/")[0]].signature)
        ticket = next(self._tickets)
        self._live.add(ticket)
        asyncio.get_running_loop().call_soon(self._run, ticket, work, on_done)
        return ticket

    def cancel(self, ticket):
        self.cancelled.append(ticket)
        self._live.discard(ticket)

    async def statistics(self):
        return {"live": len(self._live)}

    def _run(self, ticket, work, on_done):
        if ticket not in self._live:
            return
        self._live.discard(ticket)
        runtime = self.runtimes[work.model.partition("/")[0]]
        try:
            found = runtime.run(feeds_of(work, runtime.signature))
        except ServeError as err:
            on_done(err)
        except Exception as err:  # noqa: BLE001 - as the engine does
            fault = EngineError("engine: expected the run to end, found a fault in it")
            fault.__cause__ = err
            on_done(fault)
        else:
            on_done({name: found[name] for name in work.outputs})


class ManualPort:
    """An engine's port that does what the test says: it keeps what comes, answers when told, raises when told."""

    def __init__(self, refusal=None):
        self.refusal = refusal
        self.is_ready = True
        self.waiting = {}
        self.cancelled = []
        self._tickets = itertools.count(1)
        self._submitted = asyncio.Event()
        self.is_full = False

    def has_room(self):
        return not self.is_full

    def submit(self, work, on_done):
        if self.refusal is not None:
            raise self.refusal
        ticket = next(self._tickets)
        self.waiting[ticket] = (work, on_done)
        self._submitted.set()
        return ticket

    def cancel(self, ticket):
        self.cancelled.append(ticket)
        self.waiting.pop(ticket, None)

    async def statistics(self):
        return {}

    async def next_work(self):
        """Wait for the oldest work that nobody has answered; return its ticket and itself."""
        while not self.waiting:
            self._submitted.clear()
            await self._submitted.wait()
        ticket = min(self.waiting)
        return ticket, self.waiting[ticket][0]

    def answer(self, ticket, outcome=None):
        """End a work with an outcome, or with ones of the shape that was asked for (kind "steps" only)."""
        work, on_done = self.waiting.pop(ticket)
        if outcome is None:
            shapes = {"y": (work.rows, work.steps, O), "h_n": (1, work.rows, H), "c_n": (1, work.rows, H)}
            outcome = {name: np.ones(shapes[name], np.float32) for name in work.outputs}
        on_done(outcome)


def check_work(work, signature):
    specs = {spec.name: spec for spec in signature.inputs}
    sequence = work.sequence
    assert sequence.dtype == specs[signature.sequence].dtype
    assert sequence.flags.c_contiguous
    assert sequence.flags.aligned
    assert (work.lengths.dtype, work.lengths.shape) == ("int32", (work.rows,))
    assert 1 <= work.lengths.min() <= work.lengths.max() <= work.steps
    assert len(work.states) == len(signature.state)
    assert len(set(work.outputs)) == len(work.outputs) > 0
    for array in (sequence, *(state for state in work.states if state is not None)):
        assert np.isfinite(array).all()
        assert array.flags.c_contiguous


def feeds_of(work, signature):
    feeds = {signature.sequence: work.sequence}
    if signature.lengths:
        feeds[signature.lengths] = work.lengths
    for pair, state in zip(signature.state, work.states, strict=True):
        feeds[pair.input] = np.zeros((1, work.rows, H), np.float32) if state is None else state
    return feeds
