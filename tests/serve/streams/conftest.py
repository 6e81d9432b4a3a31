"""Streams over the real engine and real networks; a clock that stands, a store that fails when told, and the oracle.

The oracle runs a whole sequence once, on the runtime itself: what its chunks give must have the same bits.
"""

import itertools
import shutil
import socket
import subprocess
from contextlib import closing, contextmanager

import numpy as np
import pytest

from cellgate.serve.engine.engine import Engine, EngineLimits
from cellgate.serve.engine.work import StreamRef, Work
from cellgate.serve.errors import ServeError
from cellgate.serve.settings import Settings
from cellgate.serve.streams.limits import StreamLimits
from cellgate.serve.streams.memory_store import MemoryStore
from cellgate.serve.streams.record import StreamRecord
from cellgate.serve.streams.store import StoreError
from cellgate.serve.streams.streaming_engine import StreamingEngine

DIGEST = "ab" * 32
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


def record_of(step=0, *, rows=2, ended=None, payload=b"\1" * 32, revision=5, touched_s=1000.0, digest=DIGEST, fill=1.0):
    """A record as a store may hold it; a payload of None is of a request that said no step."""
    states = () if ended else tuple(np.full((1, rows, 3), fill + place, np.float32) for place in range(2))
    return StreamRecord(
        revision=revision,
        step=step,
        digest=digest,
        rows=rows,
        states=states,
        payload_hash=payload,
        answer=None if payload is None else {"y": np.full((rows, 2, 4), fill, np.float32)},
        ended=ended,
        touched_s=touched_s,
    )


def same_record(actual, expected):
    """Equal in every field, arrays in dtype, shape and bytes."""
    plain = ("revision", "step", "digest", "rows", "payload_hash", "ended", "touched_s")
    if any(getattr(actual, name) != getattr(expected, name) for name in plain):
        return False
    if (actual.answer is None) != (expected.answer is None) or len(actual.states) != len(expected.states):
        return False
    pairs = list(zip(actual.states, expected.states, strict=True))
    if expected.answer is not None:
        if list(actual.answer) != list(expected.answer):
            return False
        pairs += [(actual.answer[name], expected.answer[name]) for name in expected.answer]
    return all((a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()) for a, b in pairs)


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


@pytest.fixture(scope="session")
def make_clock():
    return ManualClock


@pytest.fixture(scope="session")
def make_limits():
    return limits_of


@pytest.fixture(scope="session")
def make_record():
    return record_of


@pytest.fixture(scope="session")
def is_same_record():
    return same_record


@pytest.fixture(scope="session")
def make_shaky():
    return ShakyStore


@pytest.fixture
def make_driver(engine_models):
    """Make a driver over real networks; by default with a memory store."""
    import threading

    made = []

    def make(store=None, *, clock=None, wall=None, engine=None, **limits):
        clock, wall = clock or ManualClock(), wall or ManualClock(5e8)
        store = MemoryStore(1000) if store is None else store
        settings = Settings(**(engine or {}))
        driver = Driver(engine_models, store, clock, wall, limits_of(**limits), EngineLimits.of(settings))
        driver.woken = threading.Event()
        driver.engine.waker = driver.woken.set
        made.append(driver)
        return driver

    yield make
    for driver in made:
        driver.engine.close()


@pytest.fixture(scope="session")
def make_work():
    """Work for the network "steps": rows of x, all as long as the chunk."""

    def make(x, stream=None, *, lengths=None, states=(None, None), outputs=("y",), model="steps", **more):
        rows, steps = x.shape[:2]
        lengths = np.full(rows, steps, np.int32) if lengths is None else np.array(lengths, np.int32)
        return Work(
            model=model,
            sequence=np.ascontiguousarray(x),
            lengths=lengths,
            states=states,
            outputs=outputs,
            stream=stream,
            **more,
        )

    return make


@pytest.fixture(scope="session")
def make_x():
    def make(T, rows=1, seed=0):
        return np.random.default_rng(seed).normal(size=(rows, T, 2)).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def cut():
    """Cut a sequence into chunks of random lengths, and number them as the requests of a stream."""

    def make(x, stream_id, seed, *, chunks=None, steps=True):
        random = np.random.default_rng(seed)
        T = x.shape[1]
        chunks = chunks or int(random.integers(1, min(T, 8) + 1))
        edges = [0, *sorted(random.choice(np.arange(1, T), chunks - 1, replace=False).tolist()), T]
        return [
            (
                x[:, begin:end],
                StreamRef(id=stream_id, is_start=place == 0, is_end=end == T, step=place if steps else None),
            )
            for place, (begin, end) in enumerate(itertools.pairwise(edges))
        ]

    return make


@pytest.fixture(scope="session")
def whole_of(engine_models):
    """Run a whole sequence once on the runtime itself."""
    runtimes = {model.served.name: model.runtime for model in engine_models}

    def run(x, name="steps"):
        B, T = x.shape[:2]
        zero = np.zeros((1, B, 3), np.float32)
        return runtimes[name].run({"x": x, "lengths": np.full(B, T, np.int32), "h0": zero, "c0": zero})

    return run


class RedisServer:
    """A real server on a Unix socket of its own; can be killed and started again."""

    def __init__(self, folder, *options):
        self.folder, self.options = folder, options
        self.socket = f"{folder}/redis.sock"
        self.url = f"unix://{self.socket}"
        self.process = None

    def start(self):
        command = ["redis-server", "--port", "0", "--unixsocket", self.socket, "--dir", str(self.folder), *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in self.process.stdout:
            if ("accept connections" in line and "unix" in line.lower()) or "ready to accept connections at" in line:
                return self
        raise AssertionError(f"redis-server ended with {self.process.wait()}")

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self.process.stdout.close()

    def ping(self):
        with closing(socket.socket(socket.AF_UNIX)) as wire:
            wire.connect(self.socket)
            wire.sendall(b"PING\r\n")
            return wire.recv(64)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    """Start Redis servers of one's own, or skip where the system has none."""
    if shutil.which("redis-server") is None:
        pytest.skip("the system's package redis-server is not installed")

    @contextmanager
    def run(*options):
        folder = tmp_path_factory.mktemp("redis")
        server = RedisServer(folder, "--appendonly", "yes", "--appendfsync", "always", "--save", "", *options).start()
        try:
            yield server
        finally:
            if server.process.poll() is None:
                server.kill()

    return run


@pytest.fixture(scope="session")
def make_store_error():
    return StoreError


@pytest.fixture
def only_for_this_user():
    return lambda path: path.stat().st_mode & 0o777
