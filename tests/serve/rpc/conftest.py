"""A gRPC server in this process, over a real engine or over one that does what the test says."""

import asyncio
import inspect
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import numpy as np
import pytest

from cellgate.serve.engine.engine import Engine
from cellgate.serve.engine.engine_limits import EngineLimits
from cellgate.serve.engine.threaded import ThreadedEngine
from cellgate.serve.gate.admission import Admission, admission_rules
from cellgate.serve.models.model_table import ModelTable
from cellgate.serve.observe.counter_page import Counters
from cellgate.serve.rpc import inference_pb2 as messages
from cellgate.serve.rpc.calls import SERVICE
from cellgate.serve.rpc.server import make_server
from cellgate.serve.rpc.service import Service
from cellgate.serve.serving_state import ServingState
from cellgate.serve.settings import Settings
from cellgate.serve.work_queue import WorkQueue

PATIENCE_S = 30


class Asker:
    """A channel to a server in this process, the server, and what it knows."""

    def __init__(self, channel, server, service, serving):
        self.channel, self.server, self.service, self.serving = channel, server, service, serving

    def call(self, body, method="ModelInfer", **options):
        options = {"timeout": PATIENCE_S, **options}
        body = body if isinstance(body, bytes) else body.SerializeToString()
        return self.channel.unary_unary(f"/{SERVICE}/{method}")(body, **options)

    async def infer(self, message, **options):
        return messages.ModelInferResponse.FromString(await self.call(message, **options))

    async def refusal(self, message, method="ModelInfer", **options):
        with pytest.raises(grpc.aio.AioRpcError) as found:
            await self.call(message, method, **options)
        return found.value

    def stream(self):
        return self.channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")(timeout=PATIENCE_S)


@pytest.fixture(scope="session", autouse=True)
def one_loop():
    """A loop for all tests of this folder, for gRPC's poller calls loops that are closed already.

    It is not anyio's: that would be held until the session ends, and the tests of other folders, which ask for a loop
    of their own kind, would get it instead.
    """
    with asyncio.Runner() as runner:
        yield runner


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    runner = pyfuncitem.funcargs["one_loop"]
    faults = []
    runner.get_loop().set_exception_handler(lambda _, context: faults.append(context))
    runner.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}))
    assert not faults, faults
    return True


@pytest.fixture
def open_asker(engine_models):
    """Return a context with an `Asker`; by default all three bundles on a real engine."""

    @asynccontextmanager
    async def opened(engine=None, tracer=None, **changes):
        settings = Settings(**{"device": "cpu", "threads": 1, "shutdown_grace_s": 5.0, **changes})
        own = None
        if engine is None:
            engine = own = ThreadedEngine(Engine(engine_models, EngineLimits.of(settings)))
            own.start(asyncio.get_running_loop())
        table = ModelTable([model.served for model in engine_models])
        serving = ServingState(
            table=table,
            settings=settings,
            engine=engine,
            admission=Admission(admission_rules(settings)),
            counters=Counters.alone([model.served.name for model in engine_models]),
            protocol="grpc",
            tracer=tracer,
            queue=WorkQueue(2, settings.max_waiting),
        )
        service = Service(serving)
        server = make_server(service, settings)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            options = [("grpc.max_receive_message_length", -1)]
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
                yield Asker(channel, server, service, serving)
        finally:
            await server.stop(None)
            if own is not None:
                own.close()

    return opened


@pytest.fixture(scope="session")
def make_message():
    """A request in raw bytes for the network "steps", or another."""

    def make(feeds=None, model="steps", outputs=(), raw=True, **more):
        feeds = feeds or {"x": np.ones((1, 2, 2), np.float32)}
        words = {"float32": "FP32", "int32": "INT32", "int64": "INT64"}
        fields = {"float32": "fp32_contents", "int32": "int_contents", "int64": "int64_contents"}
        message = messages.ModelInferRequest(model_name=model, **more)
        for name, array in feeds.items():
            tensor = message.inputs.add(name=name, datatype=words[array.dtype.name], shape=array.shape)
            if raw:
                message.raw_input_contents.append(array.tobytes())
            else:
                getattr(tensor.contents, fields[array.dtype.name]).extend(array.reshape(-1).tolist())
        for name in outputs:
            message.outputs.add(name=name)
        return message

    return make


@pytest.fixture(scope="session")
def read_message():
    """Read an answer back into arrays."""

    def read(message):
        dtypes = {"FP32": np.float32, "INT32": np.int32, "INT64": np.int64}
        found = {}
        for place, output in enumerate(message.outputs):
            if message.raw_output_contents:
                flat = np.frombuffer(message.raw_output_contents[place], dtypes[output.datatype])
            else:
                flat = np.array(output.contents.fp32_contents, np.float32)
            found[output.name] = flat.reshape(tuple(output.shape))
        return found

    return read
