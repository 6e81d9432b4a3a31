"""What serving's tests start from: small real bundles, models on a real engine, and a client inside the process."""

import asyncio
import json
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from functools import partial

import httpx
import numpy as np
import pytest

from cellgate.bundle.reader import read_bundle
from cellgate.serve.app import create_app
from cellgate.serve.connection.hot_protocol import HotProtocol
from cellgate.serve.engine.engine import Engine
from cellgate.serve.engine.engine_limits import EngineLimits
from cellgate.serve.engine.models import open_engine_models
from cellgate.serve.engine.threaded import ThreadedEngine
from cellgate.serve.models.served_model import BundlePlace, make_served_model, read_served_bundles
from cellgate.serve.models.verification_state import VerificationState
from cellgate.serve.observe.counter_page import Counters
from cellgate.serve.runtime.device_choice import open_runtime
from cellgate.serve.runtime.golden_check import GoldenResult
from cellgate.serve.runtime.runtime import RuntimeFacts
from cellgate.serve.settings import Settings

from .messages import arrays_of_binary, arrays_of_json, binary_request, json_request
from .ports import FakeRuntime, ManualPort, RuntimePort
from .small_network import Network

VERIFIED = VerificationState(holds=True, statement="at export")
PROVED = GoldenResult(passed=True, cases=2, outputs=(), problems=())
FACTS = RuntimeFacts(device="cpu", provider="CPUExecutionProvider", threads=1, version="0", reason="asked for")


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="session")
def make_network():
    return Network


@pytest.fixture(scope="session")
def make_fake():
    return FakeRuntime


@pytest.fixture(scope="session")
def bundle_paths(tmp_path_factory):
    """A bundle on the disk for each kind of network; nobody writes to them."""
    root = tmp_path_factory.mktemp("bundles")
    return {kind: Network(kind).write(root / kind) for kind in ("steps", "last", "tokens")}


@pytest.fixture(scope="session")
def bundles(bundle_paths):
    return {kind: read_bundle(path) for kind, path in bundle_paths.items()}


@pytest.fixture
def limits():
    return Settings().limits


@pytest.fixture(scope="session")
def make_request():
    return json_request


@pytest.fixture(scope="session")
def pack_binary():
    return binary_request


@pytest.fixture(scope="session")
def read_binary():
    return arrays_of_binary


@pytest.fixture(scope="session")
def read_outputs():
    return arrays_of_json


@pytest.fixture(scope="session")
def make_manual_port():
    return ManualPort


@pytest.fixture(scope="session")
def make_runtime_port():
    return RuntimePort


@pytest.fixture(scope="session")
def open_served():
    """Read bundles and open their runtimes: served models and a port that runs them."""

    def open_them(*places):
        read = read_served_bundles(
            [place if isinstance(place, BundlePlace) else BundlePlace(place) for place in places]
        )
        runtimes = {one.name: open_runtime(one.bundle, device="cpu", threads=1) for one in read}
        models = [make_served_model(one, runtimes[one.name].facts, PROVED, VERIFIED) for one in read]
        return models, RuntimePort(runtimes)

    return open_them


@pytest.fixture(scope="session")
def served_models(bundle_paths):
    """The records of all three bundles; no runtime is open."""
    read = read_served_bundles([BundlePlace(path) for path in bundle_paths.values()])
    return {one.name: make_served_model(one, FACTS, PROVED, VERIFIED) for one in read}


class KeptOpen:
    """A runtime that several engines use one after the other; they do not close it."""

    def __init__(self, runtime):
        self._runtime = runtime

    def __getattr__(self, name):
        return getattr(self._runtime, name)

    def close(self):
        pass


@pytest.fixture(scope="session")
def engine_models(bundle_paths):
    """All three bundles as the engine holds them, measured once."""
    models = open_engine_models(
        [BundlePlace(path) for path in bundle_paths.values()], Settings(device="cpu", threads=1)
    )
    yield [kept_open(model) for model in models]
    for model in models:
        model.runtime.close()


def kept_open(model):
    return replace(model, runtime=KeptOpen(model.runtime))


@pytest.fixture(scope="session")
def keep_open():
    """Return a model that several engines may use one after the other."""
    return kept_open


@pytest.fixture
def serve_alone(connect):
    """Return an opened model's engine, and before it a context with a client of an application that serves it there."""

    def serve(opened):
        limits = EngineLimits.of(Settings(device="cpu", threads=1))
        engine = ThreadedEngine(Engine([kept_open(opened)], limits))
        return connect([opened.served], engine), engine

    return serve


@pytest.fixture(scope="session")
def connect(engine_models):
    """Return a context with a client of a running application; by default with all three bundles on a real engine."""

    @asynccontextmanager
    async def open_client(models=None, engine=None, tracer=None, **changes):
        settings = Settings(**{"device": "cpu", "threads": 1, **changes})
        running, counters = nullcontext, None
        if models is None:
            models = [model.served for model in engine_models]
            counters = Counters.alone([model.name for model in models])
            engine = ThreadedEngine(Engine(engine_models, EngineLimits.of(settings), counters=counters.own))
            running = partial(started, engine)
        app = create_app(models, settings, engine, running, counters, tracer)
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            client.app = app
            client.engine = engine
            yield client

    return open_client


@asynccontextmanager
async def started(engine):
    engine.start(asyncio.get_running_loop())
    try:
        yield
    finally:
        engine.close()


@pytest.fixture
def post(make_request):
    """Send a request for inference, as an object or as bytes."""

    async def send(client, body, name="steps", **more):
        content = body if isinstance(body, bytes) else json.dumps(body)
        headers = {"Content-Type": "application/json", **more.pop("headers", {})}
        return await client.post(f"/v2/models/{name}/infer", content=content, headers=headers, **more)

    return send


@pytest.fixture
def message(make_request):
    """A message of a live connection: a request of T steps for the network "steps"."""
    return lambda T=2, **more: json.dumps(make_request({"x": np.zeros((1, T, 2), np.float32)}, **more))


@pytest.fixture
def handed_over(monkeypatch):
    """Paths that the hot route left to uvicorn."""
    found = []
    real = HotProtocol._hand_over
    monkeypatch.setattr(HotProtocol, "_hand_over", lambda self: found.append(self._url) or real(self))
    return found
