"""An engine that adds, a loop over it in a thread, and ports over the real one. Every wait has a limit."""

import asyncio
import gzip
import os
import signal
import socket
import threading
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from cellgate.serve.engine.engine import Engine, EngineLimits
from cellgate.serve.engine.threaded import ThreadedEngine
from cellgate.serve.engine.work import Work
from cellgate.serve.errors import NotReady, QueueFull
from cellgate.serve.processes.child_process import ChildProcess
from cellgate.serve.processes.engine_client import EngineClient
from cellgate.serve.processes.engine_loop import EngineLoop
from cellgate.serve.processes.engine_socket import engine_listener
from cellgate.serve.processes.frames import FrameDecoder, Kind, pack_bare, pack_json
from cellgate.serve.processes.hello import Offer, make_hello
from cellgate.serve.processes.slots import ENGINE
from cellgate.serve.processes.tensor_frames import ModelCodec
from cellgate.serve.settings import Settings

PATIENCE_S = 30


class AddingEngine:
    """Keeps the engine's contract; of the network "steps", it answers with the sum of x and of the states given.

    Held back, it keeps what it has; `max_waiting` more are refused.
    """

    def __init__(self, max_waiting=10**6):
        self.max_waiting = max_waiting
        self.waiting = {}
        self.cancelled = 0
        self.is_held = False
        self.is_closed = False

    def submit(self, ticket, work):
        assert ticket not in self.waiting
        if len(self.waiting) >= self.max_waiting:
            raise QueueFull(self.max_waiting)
        self.waiting[ticket] = work

    def cancel(self, ticket):
        self.cancelled += self.waiting.pop(ticket, None) is not None

    def wait_s(self):
        return 0.0 if self.waiting and not self.is_held else None

    def run_once(self):
        if self.is_held:
            return []
        waiting, self.waiting = self.waiting, {}
        return [(ticket, self.outcome(work)) for ticket, work in waiting.items()]

    def outcome(self, work):
        given = sum(float(state.sum()) for state in work.states if state is not None)
        value = np.float32(work.sequence.sum() + given)
        shapes = {"y": (work.rows, work.steps, 4), "h_n": (1, work.rows, 3), "c_n": (1, work.rows, 3)}
        return {name: np.full(shapes[name], value, np.float32) for name in work.outputs}

    def statistics(self):
        return {"inside": len(self.waiting), "cancelled": self.cancelled}

    def close(self):
        self.is_closed = True
        waiting, self.waiting = self.waiting, {}
        return [(ticket, NotReady()) for ticket in waiting]


class StillDesk:
    """Models that never change; orders about them are kept."""

    def __init__(self, codecs, hello):
        self.codecs, self.greeting = codecs, pack_json(Kind.HELLO, 0, hello)
        self.next_look_s = None
        self.orders, self.is_closed = [], False

    def hello(self):
        return self.greeting

    def control(self, *order):
        self.orders.append(order)

    def look(self, _taken):
        self.next_look_s = None
        return False

    def close(self):
        self.is_closed = True


class Wire:
    """A frontend by hand: a blocking connection that speaks in frames."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(path)
        self.frames = []
        self._decoder = FrameDecoder(2**30)

    def send(self, *data):
        self.socket.sendall(b"".join(bytes(piece) for piece in data))

    def receive(self):
        """Return the next frame, or None at the connection's end."""
        while not self.frames:
            try:
                chunk = self.socket.recv(2**16)
            except ConnectionResetError:
                return None
            if not chunk:
                return None
            self.frames += self._decoder.feed(chunk)
        return self.frames.pop(0)

    def ask(self, request_id=10**9):
        """Ask for statistics and return the answer's frame, which comes after everything asked before."""
        self.send(pack_bare(Kind.ASK_STATISTICS, request_id))
        return self.receive()


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


class Gate:
    """A runtime that waits while it is held."""

    def __init__(self, runtime):
        self._runtime = runtime
        self.open = threading.Event()
        self.open.set()

    def __getattr__(self, name):
        return getattr(self._runtime, name)

    def run(self, feeds):
        assert self.open.wait(PATIENCE_S)
        return self._runtime.run(feeds)

    def close(self):
        """The runtime is another's."""


class HeldPort:
    """A port, and how to hold up whatever runs behind it."""

    def __init__(self, port, hold, release):
        self.port, self.hold, self.release = port, hold, release


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
        (report,) = child.read_reports()
        assert "ready" in report, report
        yield child, path
        child.terminate()
        assert child.read_reports() is None
        assert child.reap() == 0


@pytest.fixture(params=["threaded", "child"])
def open_port(request, engine_models, engine_child, child_settings):
    """Open a port over a real engine: in this process, or in a child."""

    @asynccontextmanager
    async def open_threaded(**changes):
        gates = [Gate(model.runtime) for model in engine_models]
        models = [type(model)(model.served, gate, model.cost) for model, gate in zip(engine_models, gates, strict=True)]
        engine = ThreadedEngine(Engine(models, EngineLimits.of(Settings(**{**asdict(child_settings), **changes}))))
        engine.start(asyncio.get_running_loop())

        def hold():
            for gate in gates:
                gate.open.clear()

        def release():
            for gate in gates:
                gate.open.set()

        try:
            yield HeldPort(engine, hold, release)
        finally:
            release()
            engine.close()

    @asynccontextmanager
    async def open_child(**changes):
        child, path = engine_child
        settings = Settings(**{**asdict(child_settings), **changes})
        client = EngineClient(path, settings)
        async with client.running(PATIENCE_S):
            try:
                yield HeldPort(
                    client, lambda: os.kill(child.pid, signal.SIGSTOP), lambda: os.kill(child.pid, signal.SIGCONT)
                )
            finally:
                os.kill(child.pid, signal.SIGCONT)

    return {"threaded": open_threaded, "child": open_child}[request.param]


@pytest.fixture(scope="session")
def hello_of():
    def make(models):
        offers = [Offer(served=model, number=number, plan="as it comes") for number, model in enumerate(models)]
        return make_hello(offers)

    return make


@pytest.fixture
def collector():
    """Listen as a collector of traces does; return its endpoint, and what returns the spans that came."""
    service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    bodies = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            bodies.append(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    def sent_spans():
        return [
            span
            for body in bodies
            for resource in service.ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", sent_spans
    finally:
        server.shutdown()
        thread.join(PATIENCE_S)
        server.server_close()
