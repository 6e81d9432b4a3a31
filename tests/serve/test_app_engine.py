"""What comes of the engine's answers, refusals and faults over HTTP, and of clients that do not wait for them."""

import asyncio
import json
import logging
import time

import anyio
import numpy as np
import pytest
from starlette.requests import ClientDisconnect

from cellgate.serve.engine.work import Work
from cellgate.serve.errors import DeadlineExceeded, EngineError, EngineLost, NotReady, QueueFull
from cellgate.serve.infer.infer_exchange import infer_while_connected

from .error_answer import check_error

PATIENCE_S = 10


@pytest.fixture
def with_runtime(served_models, make_fake, make_network, make_runtime_port, connect):
    """A client of one model, "steps", on a runtime that answers as told."""

    def connect_with(answer=None, **changes):
        fake = make_fake(make_network("steps"), answer)
        return connect([served_models["steps"]], make_runtime_port({"steps": fake}), **changes)

    return connect_with


@pytest.fixture
def with_port(served_models, make_manual_port, connect):
    """A client of one model, "steps", on a port that the test commands: `client.engine`."""

    def connect_with(refusal=None, **changes):
        return connect([served_models["steps"]], make_manual_port(refusal), **changes)

    return connect_with


async def test_output_that_json_cannot_carry_is_a_500_naming_the_output(with_runtime, post, make_request, caplog):
    async with with_runtime(lambda found: {**found, "y": found["y"] * np.nan}) as client:
        response = await post(client, make_request({"x": np.zeros((1, 1, 2), np.float32)}))

    check_error(response, 500, "engine", "outputs.y: expected finite values")
    assert b"NaN" not in response.content.replace(b"found NaN or infinity", b"")
    assert response.json()["request_id"] in caplog.text


@pytest.mark.parametrize("error", [EngineError("runtime: broken (x (1, 1, 2))"), KeyError("secret")])
@pytest.mark.parametrize("place", ["submit", "run"])
async def test_fault_is_a_500_with_an_id_and_nothing_of_the_inside(with_port, post, make_request, caplog, error, place):
    error.__cause__ = RuntimeError("/secret/path")
    request = make_request({"x": np.zeros((1, 1, 2), np.float32)})
    async with with_port(error if place == "submit" else None) as client:
        if place == "submit":
            response = await post(client, request)
        elif isinstance(error, EngineError):
            response = await answered(client, post, request, error)
        else:
            response = await answered(client, post, request, {"y": "no array"})

    code = "engine" if isinstance(error, EngineError) else "internal"
    check_error(response, 500, code, "the server's log has more under request id")
    assert "secret" not in response.text
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert response.json()["request_id"] in record.getMessage()
    if isinstance(error, EngineError) or place == "submit":
        assert "/secret/path" in caplog.text


async def answered(client, post, request, outcome=None, **more):
    """Send a request and end its work with an outcome; return the response."""
    with anyio.fail_after(PATIENCE_S):
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(post(client, request, **more))
            ticket, _ = await client.engine.next_work()
            client.engine.answer(ticket, outcome)
    return asked.result()


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (QueueFull(7), 503, "expected fewer than 7 waiting requests"),
        (NotReady(), 503, "expected it ready"),
        (EngineLost(), 503, "send it again"),
        (DeadlineExceeded(), 504, "allow more time"),
    ],
    ids=lambda value: getattr(value, "code", None),
)
@pytest.mark.parametrize("place", ["submit", "run"])
async def test_what_the_engine_refuses_is_said_with_when_to_come_back(
    with_port, post, make_request, error, status, text, place
):
    request = make_request({"x": np.zeros((1, 1, 2), np.float32)})
    async with with_port(error if place == "submit" else None) as client:
        response = await (post(client, request) if place == "submit" else answered(client, post, request, error))

    check_error(response, status, error.code, text)
    assert response.headers.get("retry-after") == ("1" if status == 503 else None)


async def test_server_without_an_engine_is_not_ready_and_refuses_before_the_body_is_read(with_port):
    async def body():
        raise AssertionError("nobody should read it")
        yield b""

    async with with_port() as client:
        client.engine.is_ready = False
        ready = await client.get("/v2/health/ready")
        model_ready = await client.get("/v2/models/steps/ready")
        infer = await client.post("/v2/models/steps/infer", content=body())
        client.engine.is_ready = True
        again = await client.get("/v2/health/ready")

    assert [ready.status_code, model_ready.status_code, again.status_code] == [503, 503, 200]
    check_error(infer, 503, "not_ready", "expected it ready")


async def test_client_that_goes_away_cancels_its_work(with_port, make_request):
    body = json.dumps(make_request({"x": np.zeros((1, 1, 2), np.float32)})).encode()
    gone, sent = asyncio.Event(), []
    messages = [
        {"type": "http.request", "more_body": False},
        {"type": "http.request", "body": body, "more_body": False},
    ]

    async def receive():
        if messages:
            return messages.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v2/models/steps/infer", "headers": [], "query_string": b""}
    async with with_port() as client:
        with anyio.fail_after(PATIENCE_S):
            async with asyncio.TaskGroup() as group:
                group.create_task(client.app(scope, receive, send))
                ticket, _ = await client.engine.next_work()
                gone.set()

    assert (client.engine.cancelled, client.engine.waiting, sent) == ([ticket], {}, [])


@pytest.mark.parametrize("turns", range(5))
async def test_client_that_goes_away_as_its_answer_comes_is_answered_or_cancelled(make_manual_port, turns):
    port, gone = make_manual_port(), asyncio.Event()
    arrays = {"sequence": np.zeros((1, 1, 2), np.float32), "lengths": np.ones(1, np.int32)}
    work = Work(model="steps", **arrays, states=(None, None), outputs=("y",))

    async def receive():
        await gone.wait()
        return {"type": "http.disconnect"}

    with anyio.fail_after(PATIENCE_S):
        asked = asyncio.ensure_future(infer_while_connected(port, work, receive))
        ticket, _ = await port.next_work()
        await anyio.wait_all_tasks_blocked()
        gone.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        was_cancelled = ticket in port.cancelled
        if not was_cancelled:
            port.answer(ticket)
        (found,) = await asyncio.gather(asked, return_exceptions=True)

    assert isinstance(found, ClientDisconnect) is (port.cancelled == [ticket])
    assert isinstance(found, dict | ClientDisconnect)
    assert not was_cancelled or isinstance(found, ClientDisconnect)


async def test_cancelled_request_cancels_its_work(with_port, post, make_request):
    request = make_request({"x": np.zeros((1, 1, 2), np.float32)})
    async with with_port() as client:
        with anyio.fail_after(PATIENCE_S):
            asked = asyncio.ensure_future(post(client, request))
            ticket, _ = await client.engine.next_work()
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked

    assert client.engine.cancelled == [ticket]


@pytest.mark.parametrize(
    ("parameters", "priority", "timeout_s"),
    [
        ({}, 0, None),
        ({"priority": 0, "timeout": 0}, 0, None),
        ({"priority": 1, "timeout": 1_500_000}, 4, 1.5),
        ({"priority": 5}, 0, None),
        ({"priority": 9, "timeout": 1}, -4, 1e-6),
    ],
)
async def test_priority_and_timeout_reach_the_engine(with_port, post, make_request, parameters, priority, timeout_s):
    request = make_request({"x": np.zeros((1, 1, 2), np.float32)}, parameters=parameters)
    before = time.monotonic()
    async with with_port() as client:
        with anyio.fail_after(PATIENCE_S):
            async with asyncio.TaskGroup() as group:
                asked = group.create_task(post(client, request))
                ticket, work = await client.engine.next_work()
                client.engine.answer(ticket)

    assert asked.result().status_code == 200
    assert work.priority == priority
    if timeout_s is None:
        assert work.deadline_s is None
    else:
        assert before + timeout_s <= work.deadline_s <= time.monotonic() + timeout_s
