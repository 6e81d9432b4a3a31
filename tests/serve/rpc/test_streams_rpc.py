"""Streams by gRPC: the same table as over HTTP, on an engine that keeps them in memory."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import numpy as np
import pytest

from cellgate.serve.engine.engine import Engine
from cellgate.serve.engine.engine_limits import EngineLimits
from cellgate.serve.engine.threaded import ThreadedEngine
from cellgate.serve.rpc import inference_pb2 as messages
from cellgate.serve.settings import Settings
from cellgate.serve.streams.limits import StreamLimits
from cellgate.serve.streams.memory_store import MemoryStore
from cellgate.serve.streams.streaming_engine import StreamingEngine


@pytest.fixture
def streaming(open_asker, engine_models):
    """An asker whose engine keeps streams."""

    @asynccontextmanager
    async def opened(**changes):
        settings = Settings(device="cpu", threads=1)
        inner = Engine(engine_models, EngineLimits.of(settings))
        engine = StreamingEngine(inner, MemoryStore(max_ended=100), StreamLimits.of(settings))
        port = ThreadedEngine(engine, order=engine.order)
        engine.waker = port.wake
        port.start(asyncio.get_running_loop())
        try:
            async with open_asker(port, **changes) as asker:
                yield asker
        finally:
            port.close()

    return opened


@pytest.fixture
def chunk(make_message):
    def make(x, **parameters):
        message = make_message({"x": x}, "steps", ("y",))
        for name, value in parameters.items():
            kind = {bool: "bool_param", int: "int64_param", str: "string_param"}[type(value)]
            setattr(message.parameters[f"sequence_{name}"], kind, value)
        return message

    return make


@pytest.mark.parametrize("stream", [7, "seven"])
async def test_a_stream_in_chunks_is_the_whole_sequence_bit_for_bit(
    streaming, chunk, make_network, read_message, stream
):
    x = make_network("steps").feeds(1, 6)["x"]
    async with streaming() as asker:
        whole = await asker.infer(chunk(x))
        parts = [
            await asker.infer(chunk(x[:, :2], id=stream, step=0, start=True)),
            await asker.infer(chunk(x[:, 2:3], id=stream, step=1)),
            await asker.infer(chunk(x[:, 3:], id=stream, step=2, end=True)),
        ]

    found = np.concatenate([read_message(part)["y"] for part in parts], axis=1)
    np.testing.assert_array_equal(found, read_message(whole)["y"])
    assert [part.parameters["sequence_step"].int64_param for part in parts] == [0, 1, 2]


async def test_a_repeated_step_is_answered_as_the_first_time(streaming, chunk, make_network):
    x = make_network("steps").feeds(1, 2)["x"]
    async with streaming() as asker:
        first = await asker.infer(chunk(x, id="a", step=0, start=True))
        again = await asker.infer(chunk(x, id="a", step=0, start=True))

    assert again.parameters["replayed"].bool_param
    assert "replayed" not in first.parameters
    assert again.raw_output_contents == first.raw_output_contents


@pytest.mark.parametrize(
    ("parameters", "code", "facts"),
    [
        ({"id": "a", "step": 5}, grpc.StatusCode.ABORTED, {"error-code": "step_gap", "expected-step": "1"}),
        ({"id": "a", "step": 0}, grpc.StatusCode.FAILED_PRECONDITION, {"error-code": "step_conflict"}),
        ({"id": "b", "step": 1}, grpc.StatusCode.NOT_FOUND, {"error-code": "unknown_stream"}),
        ({"start": True}, grpc.StatusCode.INVALID_ARGUMENT, {"error-code": "bad_input"}),
    ],
)
async def test_refusals_are_those_of_the_table(streaming, chunk, make_network, parameters, code, facts):
    x = make_network("steps").feeds(1, 2)["x"]
    async with streaming() as asker:
        await asker.infer(chunk(x, id="a", step=0, start=True))
        refused = await asker.refusal(chunk(x + 1, **parameters))

    assert refused.code() is code
    assert facts.items() <= dict(refused.trailing_metadata()).items()


async def test_chunks_of_one_call_are_applied_in_their_order(streaming, chunk, make_network, read_message):
    x = make_network("steps").feeds(1, 8)["x"]
    async with streaming() as asker:
        whole = read_message(await asker.infer(chunk(x)))["y"]
        call = asker.stream()
        for t in range(8):
            message = chunk(x[:, t : t + 1], id="a", start=t == 0, end=t == 7)
            await call.write(message.SerializeToString())
        await call.done_writing()
        parts = [messages.ModelStreamInferResponse.FromString(await call.read()) for _ in range(8)]

    assert [part.error_message for part in parts] == [""] * 8
    found = np.concatenate([read_message(part.infer_response)["y"] for part in parts], axis=1)
    np.testing.assert_array_equal(found, whole)


async def test_a_state_that_the_client_carries_goes_and_comes_as_a_parameter(
    streaming, chunk, make_network, read_message, tmp_path
):
    x = make_network("steps").feeds(1, 4)["x"]
    (tmp_path / "keys").write_text("k" * 64 + "\n")
    (tmp_path / "keys").chmod(0o600)
    async with streaming(state_keys_path=str(tmp_path / "keys")) as asker:
        whole = read_message(await asker.infer(chunk(x)))["y"]
        first = await asker.infer(chunk(x[:, :1], state=""))
        token = first.parameters["sequence_state"].string_param
        second = await asker.infer(chunk(x[:, 1:], state=token))

    found = np.concatenate([read_message(part)["y"] for part in (first, second)], axis=1)
    np.testing.assert_array_equal(found, whole)
    assert second.parameters["sequence_step"].int64_param == 1
