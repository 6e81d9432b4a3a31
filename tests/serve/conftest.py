"""Small real bundles, an oracle that shares no code with what is tested, and a client inside the process."""

import asyncio
import itertools
import json
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from functools import partial

import httpx
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from cellgate.bundle.golden import GoldenCase, pack_golden
from cellgate.bundle.manifest import GraphSignature, Manifest, SessionOptions, StatePair, TensorSpec
from cellgate.bundle.reader import read_bundle
from cellgate.bundle.writer import write_bundle
from cellgate.serve.app import create_app
from cellgate.serve.counter_page import Counters
from cellgate.serve.device_choice import open_runtime
from cellgate.serve.engine.engine import Engine, EngineLimits
from cellgate.serve.engine.models import open_engine_models
from cellgate.serve.engine.threaded import ThreadedEngine
from cellgate.serve.errors import EngineError, NotReady, ServeError
from cellgate.serve.golden_check import GoldenResult
from cellgate.serve.hot_protocol import HotProtocol
from cellgate.serve.onnx_runtime import runtime_version
from cellgate.serve.runtime import RuntimeFacts
from cellgate.serve.served_model import BundlePlace, make_served_model, read_served_bundles
from cellgate.serve.settings import Settings
from cellgate.serve.verification_state import VerificationState

I, H, O, V = 2, 3, 4, 5


def spec(name, dtype, *shape):
    return TensorSpec(name=name, dtype=dtype, shape=shape)


class Network:
    """An LSTM with a head, its weights, and what it computes, in float64 and from the equations.

    Kinds: "steps" gives y [B,T,O]; "last" gives y [B,O] after each row's last step; "tokens" looks its input up in a
    table, takes no lengths and gives y [B,T,O].
    """

    def __init__(self, kind, seed=0):
        values = np.random.default_rng(seed)
        self.kind = kind
        self.weights = {
            "W": values.normal(size=(1, 4 * H, I)),
            "R": values.normal(size=(1, 4 * H, H)),
            "b": values.normal(size=(1, 8 * H)),
            "head": values.normal(size=(H, O)),
            "table": values.normal(size=(V, I)),
        }
        self.weights = {name: array.astype(np.float32) for name, array in self.weights.items()}

    @property
    def signature(self):
        sequence = spec("tokens", "int64", "B", "T") if self.kind == "tokens" else spec("x", "float32", "B", "T", I)
        lengths = () if self.kind == "tokens" else (spec("lengths", "int32", "B"),)
        state = [spec(name, "float32", 1, "B", H) for name in ("h0", "c0", "h_n", "c_n")]
        y = spec("y", "float32", "B", O) if self.kind == "last" else spec("y", "float32", "B", "T", O)
        return GraphSignature(
            inputs=(sequence, *lengths, *state[:2]),
            outputs=(y, *state[2:]),
            sequence=sequence.name,
            lengths="lengths" if lengths else None,
            state=(StatePair(input="h0", output="h_n"), StatePair(input="c0", output="c_n")),
            vocabulary_size=V if self.kind == "tokens" else None,
        )

    def compute(self, feeds):
        """Step by step; gates in ONNX order: input, output, forget, cell."""
        weights = {name: array.astype(np.float64) for name, array in self.weights.items()}
        x = feeds["x"].astype(np.float64) if "x" in feeds else weights["table"][feeds["tokens"]]
        B, T, _ = x.shape
        lengths = feeds.get("lengths", np.full(B, T))
        h, c = feeds["h0"][0].astype(np.float64), feeds["c0"][0].astype(np.float64)
        y = np.zeros((B, T, O))
        bias = weights["b"][0, : 4 * H] + weights["b"][0, 4 * H :]
        for t in range(T):
            gates = x[:, t] @ weights["W"][0].T + h @ weights["R"][0].T + bias
            i, o, f = (1 / (1 + np.exp(-part)) for part in np.split(gates[:, : 3 * H], 3, axis=1))
            new_c = f * c + i * np.tanh(gates[:, 3 * H :])
            new_h = o * np.tanh(new_c)
            real = (t < lengths)[:, None]
            h, c = np.where(real, new_h, h), np.where(real, new_c, c)
            y[:, t] = np.where(real, h @ weights["head"], 0)
        y = h @ weights["head"] if self.kind == "last" else y
        return {name: array.astype(np.float32) for name, array in (("y", y), ("h_n", h[None]), ("c_n", c[None]))}

    def nodes(self):
        source = "x"
        if self.kind == "tokens":
            yield helper.make_node("Gather", ["table", "tokens"], ["x"])
        yield helper.make_node("Transpose", [source], ["x_t"], perm=[1, 0, 2])
        lengths = "" if self.kind == "tokens" else "lengths"
        inputs = ["x_t", "W", "R", "b", lengths, "h0", "c0"]
        yield helper.make_node("LSTM", inputs, ["y_t", "h_n", "c_n"], hidden_size=H)
        if self.kind == "last":
            yield helper.make_node("Squeeze", ["h_n", "zero"], ["last"])
            yield helper.make_node("MatMul", ["last", "head"], ["y"])
        else:
            yield helper.make_node("Squeeze", ["y_t", "one"], ["y_s"])
            yield helper.make_node("Transpose", ["y_s"], ["y_b"], perm=[1, 0, 2])
            yield helper.make_node("MatMul", ["y_b", "head"], ["y"])

    def model(self):
        kinds = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32, "int64": TensorProto.INT64}
        nodes = list(self.nodes())
        used = {name for node in nodes for name in node.input}
        stored = {**self.weights, "one": np.array([1]), "zero": np.array([0])}

        def value(tensor):
            return helper.make_tensor_value_info(tensor.name, kinds[tensor.dtype], list(tensor.shape))

        graph = helper.make_graph(
            nodes,
            self.kind,
            [value(tensor) for tensor in self.signature.inputs],
            [value(tensor) for tensor in self.signature.outputs],
            [numpy_helper.from_array(array, name) for name, array in stored.items() if name in used],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        return made.SerializeToString(), tuple(sorted({node.op_type for node in nodes}))

    def feeds(self, B, T, lengths=None, seed=0):
        values = np.random.default_rng(seed)
        state = {name: values.normal(size=(1, B, H)).astype(np.float32) for name in ("h0", "c0")}
        if self.kind == "tokens":
            return {"tokens": values.integers(0, V, size=(B, T)), **state}
        given = np.full(B, T) if lengths is None else np.array(lengths)
        return {"x": values.normal(size=(B, T, I)).astype(np.float32), "lengths": given.astype(np.int32), **state}

    def golden(self):
        made = []
        for case_id, B, T, lengths in (("one", 1, 1, None), ("ragged", 3, 5, [5, 1, 3])):
            feeds = self.feeds(B, T, lengths, seed=B)
            made.append(GoldenCase(id=case_id, inputs=feeds, outputs=self.compute(feeds)))
        return made

    def manifest(self, operators, **changes):
        fields = {
            "name": self.kind,
            "version": 3,
            "network": {"kind": "LSTM"},
            "graph": self.signature,
            "opset": 17,
            "operators": operators,
            "streamable": True,
            "bitwise_rows": True,
            "bitwise_chunks": True,
            "precision": "float32",
            "tolerances": {"y": 1e-5, "h_n": 1e-5, "c_n": 1e-5},
            "session": SessionOptions(),
            "tools": {"tests": "1", "onnxruntime": runtime_version()},
            "files": {},
            "labels": ("alpha", "beta", "gamma", "δ") if self.kind == "last" else None,
            "normalisation": {"mean": (0.0, 0.5), "std": (1.0, 2.0)} if self.kind == "last" else None,
        }
        return Manifest(**{**fields, **changes})

    def write(self, out, *, golden=None, model=None, **changes):
        made, operators = self.model()
        contents = {
            "model.onnx": model or made,
            "golden.safetensors": pack_golden(golden or self.golden()),
            "equivalence.json": b"{}",
            "equivalence.html": b"<html></html>",
        }
        write_bundle(out, self.manifest(operators, **changes), contents)
        return out


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


VERIFIED = VerificationState(holds=True, statement="at export")
PROVED = GoldenResult(passed=True, cases=2, outputs=(), problems=())
FACTS = RuntimeFacts(device="cpu", provider="CPUExecutionProvider", threads=1, version="0", reason="asked for")


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
    """Render feeds as the protocol's JSON request."""

    def make(feeds, outputs=None, **more):
        words = {"float32": "FP32", "int32": "INT32", "int64": "INT64"}
        inputs = [
            {"name": name, "shape": list(array.shape), "datatype": words[array.dtype.name], "data": array.tolist()}
            for name, array in feeds.items()
        ]
        request = {"inputs": inputs, **more}
        if outputs is not None:
            request["outputs"] = [{"name": name} for name in outputs]
        return request

    return make


@pytest.fixture(scope="session")
def pack_binary():
    """Render feeds as a request with binary tensors: the body and the length of its head."""

    def pack(feeds, outputs=None, in_json=(), **more):
        words = {"float32": "FP32", "float16": "FP16", "int32": "INT32", "int64": "INT64"}
        inputs = []
        for name, array in feeds.items():
            tensor = {"name": name, "shape": list(array.shape), "datatype": words[array.dtype.name]}
            if name in in_json:
                tensor["data"] = array.tolist()
            else:
                tensor["parameters"] = {"binary_data_size": array.nbytes}
            inputs.append(tensor)
        request = {"inputs": inputs, **more}
        if outputs is not None:
            request["outputs"] = outputs
        head = json.dumps(request).encode()
        return head + b"".join(array.tobytes() for name, array in feeds.items() if name not in in_json), len(head)

    return pack


@pytest.fixture(scope="session")
def read_binary():
    """Read a response with binary tensors back into arrays."""

    def read(response):
        dtypes = {"FP32": np.float32, "INT32": np.int32, "INT64": np.int64}
        head_bytes = int(response.headers["inference-header-content-length"])
        at, found = head_bytes, {}
        for output in json.loads(response.content[:head_bytes])["outputs"]:
            if "data" in output:
                found[output["name"]] = np.array(output["data"], dtypes[output["datatype"]]).reshape(output["shape"])
                continue
            size = output["parameters"]["binary_data_size"]
            array = np.frombuffer(response.content[at : at + size], dtypes[output["datatype"]])
            found[output["name"]], at = array.reshape(output["shape"]), at + size
        assert at == len(response.content)
        return found

    return read


@pytest.fixture(scope="session")
def read_outputs():
    """Read a JSON response back into arrays."""

    def read(response):
        dtypes = {"FP32": np.float32, "INT32": np.int32, "INT64": np.int64}
        return {
            output["name"]: np.array(output["data"], dtype=dtypes[output["datatype"]]).reshape(output["shape"])
            for output in response["outputs"]
        }

    return read


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
def handed_over(monkeypatch):
    """Paths that the hot route left to uvicorn."""
    found = []
    real = HotProtocol._hand_over
    monkeypatch.setattr(HotProtocol, "_hand_over", lambda self: found.append(self._url) or real(self))
    return found
