"""What the tests of processes start from: loops and ports over engines, supervised servers. Every wait has a limit."""

import logging
import shutil
import threading
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial

import numpy as np
import pytest

from cellgate.serve.engine.work import Work
from cellgate.serve.models.served_model import BundlePlace
from cellgate.serve.processes.child_process import ChildProcess
from cellgate.serve.processes.engine_loop import EngineLoop
from cellgate.serve.processes.engine_socket import engine_listener
from cellgate.serve.processes.frames import Kind, pack_json
from cellgate.serve.processes.hello import Offer, make_hello
from cellgate.serve.processes.slots import ENGINE
from cellgate.serve.processes.tensor_frames import ModelCodec, join
from cellgate.serve.settings import Settings

from .adding_engine import AddingEngine, StillDesk
from .hand_engine import meeting
from .held_port import held_child, held_thread
from .supervised import Lines
from .trace_collector import collecting
from .wire import Wire

PATIENCE_S = 30


@pytest.fixture
def make_engine():
    return AddingEngine


@pytest.fixture
def still_desk():
    return StillDesk


@pytest.fixture(scope="session")
def connect_wire():
    @contextmanager
    def connect(path):
        wire = Wire(path)
        with wire.socket:
            yield wire

    return connect


@pytest.fixture(scope="session")
def codec(make_network):
    return ModelCodec(0, "steps", make_network("steps").signature)


@pytest.fixture(scope="session")
def make_work():
    """A small work for the network "steps"."""

    def make(rows=1, steps=2, fill=1.0, outputs=("y",), states=(None, None), model="steps", **more):
        sequence = np.full((rows, steps, 2), fill, np.float32)
        lengths = np.full(rows, steps, np.int32)
        return Work(model=model, sequence=sequence, lengths=lengths, states=states, outputs=outputs, **more)

    return make


@pytest.fixture
def run_loop(codec):
    """Run a loop over an engine in a thread; yields the loop, the path of its socket and its thread."""

    @contextmanager
    def run(engine, hello=None, lifeline=None, **options):
        with engine_listener() as (listener, path):
            options = {"max_frame_bytes": 2**26, "grace_s": PATIENCE_S, **options}
            loop = EngineLoop(engine, StillDesk({0: codec}, hello), listener, **options)
            thread = threading.Thread(target=loop.run, args=(lifeline,))
            thread.start()
            try:
                yield loop, path, thread
            finally:
                loop.stop()
                thread.join(PATIENCE_S)
                assert not thread.is_alive()

    return run


@pytest.fixture(scope="session")
def child_settings():
    return Settings(device="cpu", threads=1)


@pytest.fixture(scope="session")
def engine_child(bundle_paths, child_settings):
    """A real engine's process; yields it and the path of its socket."""
    with engine_listener() as (listener, path):
        places = [[str(place), None] for place in bundle_paths.values()]
        config = {"places": places, "settings": asdict(child_settings), "listener": listener.fileno()}
        child = ChildProcess(ENGINE, config, (listener.fileno(),))
        reports = [{"opening": "before all"}]
        while "opening" in reports[-1]:
            reports += child.read_reports()
        assert "ready" in reports[-1], reports
        yield child, path
        child.terminate()
        assert child.read_reports() is None
        assert child.reap() == 0


@pytest.fixture(params=["threaded", "child"])
def open_port(request, engine_models, engine_child, child_settings):
    """Open a port over a real engine: in this process, or in a child."""

    def open_it(**changes):
        settings = Settings(**{**asdict(child_settings), **changes})
        if request.param == "threaded":
            return held_thread(engine_models, settings)
        return held_child(*engine_child, settings)

    return open_it


@pytest.fixture(scope="session")
def hello_of():
    def make(models):
        offers = [Offer(served=model, number=number, plan="as it comes") for number, model in enumerate(models)]
        return make_hello(offers)

    return make


@pytest.fixture
def collector():
    """Listen as a collector of traces does; return its endpoint, and what returns the spans that came."""
    with collecting(pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")) as found:
        yield found


@pytest.fixture
def models(served_models):
    return [served_models["steps"]]


@pytest.fixture
def hello(models, hello_of):
    return pack_json(Kind.HELLO, 0, hello_of(models))


@pytest.fixture
def answer(codec):
    """Make the ANSWER frame to a WORK frame: y is all `fill`."""

    def make(frame, fill=1.0):
        asked = codec.unpack_work(frame)
        shapes = {"y": (asked.work.rows, asked.work.steps, 4), "h_n": (1, asked.work.rows, 3)}
        full = {name: np.full(shapes[name], fill, np.float32) for name in asked.work.outputs}
        return join(codec.pack_answer(asked, full))

    return make


@pytest.fixture
def meet(tmp_path):
    """Open a client, and a queue with the connections that it makes."""
    return partial(meeting, str(tmp_path / "engine"))


@pytest.fixture
def log():
    handler, logger = Lines(), logging.getLogger("cellgate.supervisor")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def place(bundle_paths, tmp_path):
    """A bundle that a test may take away."""
    shutil.copytree(bundle_paths["steps"], tmp_path / "steps")
    return BundlePlace(tmp_path / "steps")


@pytest.fixture(scope="session")
def repository(make_network, tmp_path_factory):
    """Versions 1 and 2 of one network, with other weights each; nobody writes to them."""
    folder = tmp_path_factory.mktemp("repository")
    for version in (1, 2):
        make_network("steps", version).write(folder / f"steps-{version}", version=version)
    return folder
