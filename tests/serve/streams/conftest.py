"""Streams over the real engine and real networks, by hand (`driver`); the oracle; and servers of Redis.

The oracle runs a whole sequence once, on the runtime itself: what its chunks give must have the same bits.
"""

import itertools
import shutil
import subprocess
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cellgate.serve.engine.engine_limits import EngineLimits
from cellgate.serve.engine.work import StreamRef, Work
from cellgate.serve.settings import Settings
from cellgate.serve.streams.memory_store import MemoryStore
from cellgate.serve.streams.store import StoreError

from .driver import Driver, ManualClock, ShakyStore, limits_of
from .records import record_of, same_record
from .redis_process import NO_SERVER, PROGRAMS, RedisServer, version_of

KNOWS_WAITAOF = [program for program in PROGRAMS if version_of(program) >= (7, 2)]
WAITS_FOR_DISK = [program for program in PROGRAMS if program == "redis-server" and version_of(program) >= (8, 0)]


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


@pytest.fixture
def make_durable(make_driver, make_shaky):
    """A driver over a store on a thread; what it committed outlives it."""

    def make(inner=None, *, is_shared=False, **limits):
        driver = make_driver(make_shaky(inner, is_durable=True, is_shared=is_shared), **limits)
        driver.ask = lambda work: driver.drain_until(driver.post(work))[0]
        return driver

    return make


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


@pytest.fixture(scope="session")
def start_redis(tmp_path_factory):
    """Run a server of one's own of some program."""

    @contextmanager
    def run(program, *options, preload=None):
        log = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
        server = RedisServer(program, tmp_path_factory.mktemp("redis"), *log, *options, preload=preload).start()
        try:
            yield server
        finally:
            if server.process.poll() is None:
                server.kill()

    return run


@pytest.fixture(scope="session", params=PROGRAMS or ["none"])
def redis_server(start_redis, request):
    """Start servers of one's own, of every program that the system has, or skip."""
    if request.param not in PROGRAMS:
        pytest.skip(NO_SERVER)
    return partial(start_redis, request.param)


@pytest.fixture(scope="session", params=KNOWS_WAITAOF or ["none"])
def waitaof_server(start_redis, request):
    """Start servers that have WAITAOF, or skip."""
    if request.param not in KNOWS_WAITAOF:
        pytest.skip("found no redis-server or valkey-server of 7.2 or newer, which has WAITAOF")
    return partial(start_redis, request.param)


@pytest.fixture(scope="session", params=WAITS_FOR_DISK or ["none"])
def waiting_server(start_redis, request):
    """Start servers whose WAITAOF waits for the disk under `appendfsync everysec` too, or skip."""
    if request.param not in WAITS_FOR_DISK:
        pytest.skip(
            "found no redis-server of 8.0 or newer, whose WAITAOF waits for the disk under appendfsync everysec"
        )
    return partial(start_redis, request.param)


@pytest.fixture(scope="session")
def forgetful_disk(tmp_path_factory):
    """The library of a disk that keeps what was asked of it, and nothing else; or skip."""
    if shutil.which("cc") is None:
        pytest.skip("found no C compiler, which builds the disk that forgets")
    library = tmp_path_factory.mktemp("disk") / "held_log.so"
    source = Path(__file__).with_name("held_log.c")
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, source, "-ldl", "-lpthread"], check=True
    )
    return library


@pytest.fixture(scope="session")
def make_store_error():
    return StoreError


@pytest.fixture
def only_for_this_user():
    return lambda path: path.stat().st_mode & 0o777
