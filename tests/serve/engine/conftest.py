"""What the engine's tests start from: the makers of `adding`, and engines over it."""

import asyncio
import gc
import itertools

import anyio
import pytest

from cellgate.serve.engine.engine import Engine
from cellgate.serve.engine.threaded import ThreadedEngine

from .adding import (
    AddingRuntime,
    ManualClock,
    drain_engine,
    limits_of,
    linear_cost,
    model_of,
    same_answer,
    sums_of,
    work_of,
)
from .waiters import Breakable, Gate


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def collects_what_comes():
    """Let the collector pass over what is there: in a worker that has exported, looking at it takes seconds."""
    gc.freeze()


@pytest.fixture(scope="session")
def make_clock():
    return ManualClock


@pytest.fixture(scope="session")
def make_runtime():
    return AddingRuntime


@pytest.fixture(scope="session")
def make_cost():
    return linear_cost


@pytest.fixture(scope="session")
def make_model():
    return model_of


@pytest.fixture(scope="session")
def make_limits():
    return limits_of


@pytest.fixture(scope="session")
def make_work():
    return work_of


@pytest.fixture(scope="session")
def expected_of():
    return sums_of


@pytest.fixture(scope="session")
def is_same():
    return same_answer


@pytest.fixture(scope="session")
def drain():
    return drain_engine


@pytest.fixture(scope="session")
def make_engine():
    """An engine of one adding network, or of the models given, with a clock that stands."""

    def make(*models, clock=None, **limits):
        clock = clock or ManualClock()
        return Engine(models or (model_of(AddingRuntime()),), limits_of(**limits), clock), clock

    return make


@pytest.fixture
def tickets():
    return itertools.count(1)


@pytest.fixture
async def start(make_engine, make_model):
    """Start an engine over a runtime on this loop; closed at the end."""
    opened = []

    async def start_it(runtime, **limits):
        engine, _ = make_engine(make_model(runtime), **limits)
        port = ThreadedEngine(Breakable(engine))
        port.start(asyncio.get_running_loop())
        opened.append(port)
        return port

    yield start_it
    for port in opened:
        port.close()
        await anyio.wait_all_tasks_blocked()


@pytest.fixture
def gate():
    found = Gate()
    yield found
    found.opened.set()
