"""A streaming engine driven by hand: a clock that stands, and a store that fails when told."""

import itertools

from cellgate.serve.engine.engine import Engine
from cellgate.serve.errors import ServeError
from cellgate.serve.streams.limits import StreamLimits
from cellgate.serve.streams.memory_store import MemoryStore
from cellgate.serve.streams.streaming_engine import StreamingEngine

PATIENCE_S = 30


class ManualClock:
    """Stands until it is moved."""

    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


def limits_of(**changes):
    usual = {
        "idle_s": 600.0,
        "tombstone_s": 300.0,
        "max_streams": 1000,
        "max_stream_bytes": 2**24,
        "max_waiting": 1024,
        "max_waiting_bytes": 2**28,
    }
    return StreamLimits(**{**usual, **changes})


class ShakyStore:
    """A memory store that can be said to be durable or shared, and fails when told.

    Attributes:
        before, after: called with the writes of a commit before and after it is done; may raise.
        reading: called with the key of a load; may raise.
        commits: sizes of the commits.
    """

    def __init__(self, inner=None, *, is_durable=False, is_shared=False):
        self.inner = inner or MemoryStore(1000)
        self.is_durable, self.is_shared = is_durable, is_shared
        self.line = "shaky"
        self.before = self.after = self.reading = None
        self.commits = []
        self.closed = 0

    @property
    def usage(self):
        return self.inner.usage

    def load(self, key):
        if self.reading is not None:
            self.reading(key)
        return self.inner.load(key)

    def commit(self, writes):
        self.commits.append(len(writes))
        if self.before is not None:
            self.before(writes)
        won = self.inner.commit(writes)
        if self.after is not None:
            self.after(writes)
        return won

    def sweep(self, now_s):
        return self.inner.sweep(now_s)

    def close(self):
        self.closed += 1


class Driver:
    """A streaming engine driven by hand over the models of `engine_models`."""

    def __init__(self, models, store, clock, wall, limits, engine_limits):
        self.clock, self.wall, self.store = clock, wall, store
        self.engine = StreamingEngine(Engine(models, engine_limits, clock), store, limits, clock, wall)
        self.tickets = itertools.count(1)
        self.outcomes = {}

    def post(self, work):
        ticket = next(self.tickets)
        self.engine.submit(ticket, work)
        return ticket

    def turn(self):
        for ticket, outcome in self.engine.run_once():
            assert ticket not in self.outcomes
            self.outcomes[ticket] = outcome

    def drain(self, most=10_000):
        """Run until nothing is due now; return all outcomes so far."""
        for _ in range(most):
            wait_s = self.engine.wait_s()
            self.turn()
            if wait_s is None or wait_s > 1.0:
                return self.outcomes
            self.clock.now += wait_s
            self.wall.now += wait_s
        raise AssertionError(f"still something to do: {self.engine.statistics()}")

    def drain_until(self, *tickets):
        """Run until these are answered; for stores on a thread. The clock stands."""
        left = PATIENCE_S / 0.001
        while not all(ticket in self.outcomes for ticket in tickets):
            self.turn()
            if self.engine.wait_s() != 0.0:
                self.woken.wait(0.001)
                self.woken.clear()
                self.clock.now += 1e-4  # a held run becomes due
                left -= 1
                assert left > 0, self.engine.statistics()
        return [self.outcomes[ticket] for ticket in tickets]

    def ask_only(self, work):
        """Post one work and return what refused it, or None."""
        try:
            self.post(work)
        except ServeError as err:
            return err
        return None

    def ask(self, work):
        """Post one work and return its outcome; what `submit` raises is one too."""
        try:
            ticket = self.post(work)
        except ServeError as err:
            return err
        return self.drain()[ticket]
