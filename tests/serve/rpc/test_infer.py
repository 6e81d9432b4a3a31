"""ModelInfer over a real engine: what comes out is what the equations say; who goes away costs nothing."""

import asyncio
import time

import grpc
import numpy as np
import pytest

from cellgate.serve.errors import DeadlineExceeded, EngineError, EngineLost, NotReady, QueueFull
from cellgate.serve.rpc import inference_pb2 as messages
from cellgate.serve.work_queue import WorkQueue

INSIDE = "C:\\secret\\model.onnx"


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize("kind", ["steps", "last", "tokens"])
async def test_answer_is_what_the_equations_say(open_asker, make_network, make_message, read_message, kind, raw):
    network = make_network(kind)
    feeds = network.feeds(3, 5, None if kind == "tokens" else [5, 1, 3], seed=7)
    outputs = ("y", "h_n", "c_n")
    async with open_asker() as asker:
        answer = await asker.infer(make_message(feeds, kind, outputs, raw=raw, id="näh", model_version="3"))

    expected, found = network.compute(feeds), read_message(answer)
    assert (answer.model_name, answer.model_version, answer.id) == (kind, "3", "näh")
    assert bool(answer.raw_output_contents) == raw
    assert tuple(found) == outputs
    for name in outputs:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)


class CountingQueue(WorkQueue):
    """Knows how often something was done in a thread."""

    runs = 0

    async def run(self, work):
        self.runs += 1
        return await super().run(work)


@pytest.mark.parametrize(
    ("rows", "steps", "raw", "runs"),
    [(1, 2, True, 0), (1, 2, False, 0), (1024, 600, True, 2), (800, 100, False, 2), (300, 100, False, 1)],
)
async def test_what_is_large_is_read_and_rendered_away_from_the_loop(
    open_asker, make_message, read_message, rows, steps, raw, runs
):
    one = np.random.default_rng(0).normal(size=(1, steps, 2)).astype(np.float32)
    async with open_asker(max_row_steps=2**20) as asker:
        asker.serving.queue = queue = CountingQueue(2, 10)
        alone = read_message(await asker.infer(make_message({"x": one})))["y"]
        found = read_message(await asker.infer(make_message({"x": np.tile(one, (rows, 1, 1))}, raw=raw)))["y"]

    assert queue.runs == runs
    assert found.shape == (rows, steps, 4)
    np.testing.assert_array_equal(found, np.broadcast_to(alone, found.shape))


async def test_priority_timeout_and_the_calls_deadline_reach_the_engine(open_asker, make_message, make_manual_port):
    port = make_manual_port()
    message = make_message()
    message.parameters["priority"].uint64_param = 1
    message.parameters["timeout"].int64_param = 2_000_000
    async with open_asker(port) as asker:
        works, allowed = [], []
        for asked, timeout in ((message, None), (message, 1.0), (make_message(), 30)):
            call = asker.call(asked, timeout=timeout)
            ticket, work = await port.next_work()
            works.append(work)
            allowed.append(work.deadline_s - time.monotonic())
            port.answer(ticket)
            await call

    assert [work.priority for work in works] == [4, 4, 0]
    assert allowed[0] <= 2.0
    assert allowed[1] < 1.5  # gRPC rounds up
    assert allowed[2] > 2.0


@pytest.mark.parametrize("how", ["cancelled", "deadline"])
async def test_work_of_a_call_that_nobody_waits_for_is_cancelled(open_asker, make_message, make_manual_port, how):
    port = make_manual_port()
    async with open_asker(port) as asker:
        call = asker.call(make_message(), timeout=30 if how == "cancelled" else 0.3)
        waiting = asyncio.ensure_future(port.next_work())
        ticket, _ = await waiting
        if how == "cancelled":
            call.cancel()
        with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
            await call
        async with asyncio.timeout(30):
            while not port.cancelled:
                await asker.call(b"", "ServerLive")

    assert port.cancelled == [ticket]


@pytest.mark.parametrize(
    ("refusal", "code", "facts"),
    [
        (QueueFull(3), "RESOURCE_EXHAUSTED", {"error-code": "queue_full", "retry-after": "1"}),
        (NotReady(), "UNAVAILABLE", {"error-code": "not_ready", "retry-after": "1"}),
        (EngineLost(), "UNAVAILABLE", {"error-code": "engine_lost", "retry-after": "1"}),
        (DeadlineExceeded(), "DEADLINE_EXCEEDED", {"error-code": "deadline"}),
    ],
)
async def test_a_refusal_has_its_code_its_sentence_and_its_facts(
    open_asker, make_message, make_manual_port, refusal, code, facts
):
    async with open_asker(make_manual_port(refusal)) as asker:
        found = await asker.refusal(make_message())

    assert found.code().name == code
    assert found.details() == str(refusal)
    assert dict(found.trailing_metadata()) == facts


@pytest.mark.parametrize("fault", [RuntimeError(INSIDE), EngineError("outputs.y: expected finite values")])
async def test_a_fault_of_ours_says_nothing_of_the_inside(open_asker, make_message, make_manual_port, fault, caplog):
    async with open_asker(make_manual_port(fault)) as asker:
        found = await asker.refusal(make_message())

    facts = dict(found.trailing_metadata())
    assert found.code() is grpc.StatusCode.INTERNAL
    assert INSIDE not in found.details()
    assert facts["request-id"] in found.details()
    assert f"request {facts['request-id']} failed" in caplog.text
    assert str(fault) in caplog.text


async def test_a_server_without_an_engine_says_so_everywhere(open_asker, make_message, make_manual_port):
    port = make_manual_port()
    port.is_ready = False
    async with open_asker(port) as asker:
        found = await asker.refusal(make_message())
        ready = messages.ServerReadyResponse.FromString(await asker.call(b"", "ServerReady"))
        model = messages.ModelReadyRequest(name="steps")
        model_ready = messages.ModelReadyResponse.FromString(await asker.call(model, "ModelReady"))
        index = messages.RepositoryIndexResponse.FromString(await asker.call(b"", "RepositoryIndex"))
        only_ready = messages.RepositoryIndexRequest(ready=True)
        ready_index = messages.RepositoryIndexResponse.FromString(await asker.call(only_ready, "RepositoryIndex"))
        health = await asker.channel.unary_unary("/grpc.health.v1.Health/Check")(b"")

    assert found.code() is grpc.StatusCode.UNAVAILABLE
    assert (ready.ready, model_ready.ready) == (False, False)
    assert {one.state for one in index.models} == {"UNAVAILABLE"}
    assert all(one.reason for one in index.models)
    assert list(ready_index.models) == []
    assert health == b"\x08\x02"  # NOT_SERVING


async def test_a_message_above_the_limit_is_refused(open_asker, make_message):
    limit = 4096
    async with open_asker(max_body_bytes=limit) as asker:
        body = make_message().SerializeToString()
        filled = body + b"\x1a\xff\x1e" + b"i" * (31 * 128 - 1)  # an id, too long to be taken, but read
        exact = filled[: limit - len(filled)] if len(filled) > limit else filled
        fits = await asker.refusal(exact)
        above = await asker.refusal(exact + b"\x08" * (limit + 1 - len(exact)))

    assert fits.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert above.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.slow
async def test_a_crowd_of_calls_in_one_moment_is_answered_or_refused_and_never_cancelled(open_asker, make_message):
    async with open_asker(max_waiting=4096) as asker:
        body = make_message().SerializeToString()
        calls = [asyncio.ensure_future(asker.call(body, timeout=None)) for _ in range(3500)]
        found = await asyncio.gather(*calls, return_exceptions=True)

    codes = {None if isinstance(one, bytes) else one.code() for one in found}
    assert codes <= {None, grpc.StatusCode.RESOURCE_EXHAUSTED}


async def test_a_question_without_tensors_may_not_be_long(open_asker):
    async with open_asker() as asker:
        found = await asker.refusal(messages.ModelMetadataRequest(name="x" * 2**17), "ModelMetadata")
        garbage = await asker.refusal(b"\x0a\x05abc", "ModelMetadata")

    assert found.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert garbage.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "name", ["x; rm -rf /", "$(id)", "a\nb", "a\x00b", "../../etc/passwd", "\x1b[31mred", "n" * 10_000]
)
async def test_a_hostile_name_is_not_found_and_comes_back_printable_and_short(open_asker, make_message, name):
    async with open_asker() as asker:
        found = await asker.refusal(make_message(model=name))

    assert found.code() is grpc.StatusCode.NOT_FOUND
    assert found.details().isprintable()
    assert len(found.details()) < 500


async def test_control_characters_in_an_id_come_back_as_they_are(open_asker, make_message):
    async with open_asker() as asker:
        answer = await asker.infer(make_message(id="a\r\nb\x1b"))

    assert answer.id == "a\r\nb\x1b"
