"""The protocol over HTTP, in process: statuses, bodies and headers of every route."""

import asyncio
import json
import logging
import time
from contextlib import asynccontextmanager

import anyio
import httpx
import numpy as np
import pytest
from starlette.requests import ClientDisconnect

from cellgate.serve.app import create_app
from cellgate.serve.engine.work import Work
from cellgate.serve.errors import DeadlineExceeded, EngineError, EngineLost, NotReady, QueueFull
from cellgate.serve.infer_exchange import infer_while_connected
from cellgate.serve.settings import Settings

PATIENCE_S = 10
EXTENSIONS = [
    "binary_tensor_data",
    "schedule_policy",
    "sequence",
    "sequence(string_id)",
    "statistics",
    "model_configuration",
]


def check_error(response, status, code, text):
    """Every failure is JSON of one form."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json")
    found = response.json()
    assert found["code"] == code
    assert text in found["error"]
    assert set(found) <= {"error", "code", "request_id"}


@pytest.fixture
async def client(connect):
    async with connect() as opened:
        yield opened


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


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2", {"name": "cellgate", "version": "0.1.0", "extensions": EXTENSIONS}),
        ("/v2/", {"name": "cellgate", "version": "0.1.0", "extensions": EXTENSIONS}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models", {"models": ["steps", "last", "tokens"]}),
        ("/v2/models/last/ready", {"name": "last", "ready": True}),
        ("/v2/models/last/versions/3/ready", {"name": "last", "ready": True}),
    ],
)
async def test_small_answers(client, path, expected):
    response = await client.get(path)

    assert (response.status_code, response.json()) == (200, expected)
    assert response.headers["content-type"] == "application/json"


async def test_metadata_is_the_same_with_and_without_a_version(client):
    plain = await client.get("/v2/models/last")
    versioned = await client.get("/v2/models/last/versions/3")

    assert plain.status_code == versioned.status_code == 200
    assert plain.json() == versioned.json()
    assert plain.json()["name"] == "last"


@pytest.mark.parametrize("kind", ["steps", "last", "tokens"])
async def test_answer_is_what_the_equations_say(client, make_network, make_request, read_outputs, kind):
    network = make_network(kind)
    feeds = network.feeds(3, 5, [5, 1, 3], seed=4)

    body = make_request(feeds, ["y", "h_n", "c_n"], id="abc")
    response = await client.post(f"/v2/models/{kind}/infer", json=body)

    assert response.status_code == 200
    answer = response.json()
    assert {key: answer[key] for key in ("model_name", "model_version", "id")} == {
        "model_name": kind,
        "model_version": "3",
        "id": "abc",
    }
    expected = network.compute(feeds)
    for name, array in read_outputs(answer).items():
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-5)


async def test_states_are_returned_only_when_asked_for(client, post, make_network, make_request):
    response = await post(client, make_request({"x": make_network("steps").feeds(1, 2)["x"]}))

    assert [output["name"] for output in response.json()["outputs"]] == ["y"]
    assert "id" not in response.json()


@pytest.mark.parametrize("kind", ["steps", "last", "tokens"])
@pytest.mark.parametrize("all_binary", [True, False])
async def test_binary_tensors_both_ways_give_the_bits_of_json(
    client, post, make_network, make_request, pack_binary, read_binary, read_outputs, kind, all_binary
):
    feeds = make_network(kind).feeds(3, 5, [5, 1, 3], seed=4)
    expected = read_outputs((await post(client, make_request(feeds, ["h_n", "y"]), kind)).json())

    wanted = [{"name": "h_n", "parameters": {"binary_data": True}}, {"name": "y"}]
    body, head_bytes = pack_binary(feeds, wanted, parameters={"binary_data_output": all_binary}, id="abc")
    headers = {"Inference-Header-Content-Length": str(head_bytes), "Content-Type": "application/octet-stream"}
    response = await client.post(f"/v2/models/{kind}/infer", content=body, headers=headers)

    assert (response.status_code, response.headers["content-type"]) == (200, "application/octet-stream")
    found = read_binary(response)
    assert list(found) == ["h_n", "y"]
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])


async def test_raw_body_is_answered_in_binary(client, make_network, read_binary):
    x = make_network("last").feeds(1, 5)["x"]

    response = await client.post(
        "/v2/models/last/infer", content=x.tobytes(), headers={"Inference-Header-Content-Length": "0"}
    )

    zeros = {name: np.zeros((1, 1, 3), np.float32) for name in ("h0", "c0")}
    expected = make_network("last").compute({"x": x, **zeros})["y"]
    np.testing.assert_allclose(read_binary(response)["y"], expected, rtol=0, atol=1e-5)


async def test_versioned_infer_answers_the_same(client, make_network, make_request):
    body = make_request({"x": make_network("steps").feeds(1, 2)["x"]})

    plain = await client.post("/v2/models/steps/infer", json=body)
    versioned = await client.post("/v2/models/steps/versions/3/infer", json=body)

    assert plain.status_code == 200
    assert plain.content == versioned.content


async def test_content_type_may_be_left_out(client, make_network, make_request):
    body = json.dumps(make_request({"x": make_network("steps").feeds(1, 2)["x"]})).encode()

    response = await client.post("/v2/models/steps/infer", content=body)

    assert "content-type" not in response.request.headers
    assert response.status_code == 200


async def test_ragged_rows_equal_each_row_alone(client, post, make_network, make_request, read_outputs):
    feeds = make_network("last").feeds(3, 6, [6, 2, 4])
    together = read_outputs((await post(client, make_request(feeds), "last")).json())["y"]

    for row, length in enumerate([6, 2, 4]):
        alone = {"x": feeds["x"][row : row + 1, :length], "h0": feeds["h0"][:, [row]], "c0": feeds["c0"][:, [row]]}
        found = read_outputs((await post(client, make_request(alone), "last")).json())["y"]
        np.testing.assert_array_equal(found[0], together[row])


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v2/models/",
        "/v2/health",
        "/v2/models/last/",
        "/v2/models/last/versions",
        "/v2/models/a/b/c",
        "/v2/repository",
        "/v2/repository/models/last/load",
        "/docs/../pyproject.toml",
        "/docs/%2e%2e/app.py",
        "/V2",
        "//v2",
    ],
)
async def test_unknown_path_is_a_404_with_an_error_object(client, path):
    check_error(await client.get(path), 404, "not_found", "request: expected a path of GET /openapi.json, found GET")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/models/nope"),
        ("GET", "/v2/models/nope/ready"),
        ("GET", "/v2/models/last/versions/4"),
        ("GET", "/v2/models/last/versions/x/ready"),
        ("POST", "/v2/models/nope/infer"),
        ("POST", "/v2/models/last/versions/4/infer"),
        ("GET", "/v2/models/" + "a" * 10_000),
        ("GET", "/v2/models/$(id);%0a%00"),
    ],
)
async def test_unknown_model_or_version_is_a_404_that_says_what_there_is(client, method, path):
    response = await client.request(method, path)

    check_error(response, 404, "unknown_model", "last version 3")
    assert len(response.content) < 500


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v2/models/last/infer", "POST"),
        ("PUT", "/v2/models/last/infer", "POST"),
        ("POST", "/v2", "GET"),
        ("DELETE", "/v2/models/last", "GET"),
        ("POST", "/v2/health/live", "GET"),
        ("POST", "/docs", "GET"),
        ("GET", "/v2/repository/index", "POST"),
        ("POST", "/metrics", "GET"),
        ("POST", "/v2/models/last/stats", "GET"),
    ],
)
async def test_wrong_verb_is_a_405_that_says_the_right_one(client, method, path, allowed):
    response = await client.request(method, path)

    check_error(response, 405, "method_not_allowed", f"found {method} {path}")
    assert allowed in response.headers["allow"]


async def test_bad_request_is_a_400_naming_field_expected_and_found(client, post, make_request):
    request = make_request({"x": np.zeros((1, 2, 7), np.float32)})

    check_error(
        await post(client, request), 400, "bad_input", "inputs.x.shape: expected [B, T, 2] = [1, 2, 2], found [1, 2, 7]"
    )


@pytest.mark.parametrize(
    ("headers", "code", "status"),
    [
        ({"Content-Type": "text/csv"}, "unsupported_media", 415),
        ({"Content-Encoding": "gzip"}, "unsupported_media", 415),
        ({"Inference-Header-Content-Length": "5"}, "bad_input", 400),
        ({"Inference-Header-Content-Length": "-1"}, "bad_input", 400),
        ({"Content-Length": "99999999999"}, "body_too_large", 413),
        ({"Content-Length": "-1"}, "bad_input", 400),
    ],
)
async def test_headers_are_judged_before_the_body(client, post, headers, code, status):
    check_error(await post(client, b"{}", headers=headers), status, code, "expected")


@pytest.mark.parametrize(("size", "status"), [(2047, 400), (2048, 400), (2049, 413)])
@pytest.mark.parametrize("declared", [True, False])
async def test_limit_on_bodies_is_exact_declared_or_not(connect, size, status, declared):
    async def chunks():
        for start in range(0, size, 100):
            yield b" " * min(100, size - start)

    async with connect(max_body_bytes=2048) as client:
        response = await client.post("/v2/models/last/infer", content=b" " * size if declared else chunks())

    assert response.status_code == status
    assert (response.headers.get("connection") == "close") is (status == 413)


async def test_limits_of_the_settings_hold(connect, post, make_request):
    async with connect(max_batch_rows=2) as client:
        response = await post(client, make_request({"x": np.zeros((3, 1, 2), np.float32)}))

    check_error(response, 400, "bad_input", "at most 2 rows, found 3")


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


async def test_large_body_is_read_and_its_answer_rendered_beside_the_event_loop(
    connect, post, make_network, make_request
):
    feeds = make_network("steps").feeds(1, 12_000)
    async with connect() as client:
        queue, used = client.app.state.serving.queue, []
        real = queue.run

        async def run(work):
            used.append(work.func.__name__)
            return await real(work)

        queue.run = run
        response = await post(client, make_request({"x": feeds["x"]}))
        await post(client, make_request({"x": feeds["x"][:, :10]}))

    assert response.status_code == 200
    assert used == ["read", "render_answer"]


async def test_server_outside_its_lifespan_is_not_ready(served_models, make_manual_port):
    app = create_app([served_models["last"]], Settings(), make_manual_port())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        ready = await client.get("/v2/health/ready")
        one_ready = await client.get("/v2/models/last/ready")
        infer = await client.post("/v2/models/last/infer", json={})
        live = await client.get("/v2/health/live")

    assert (ready.status_code, ready.json()) == (503, {"ready": False})
    assert (one_ready.status_code, one_ready.json()) == (503, {"name": "last", "ready": False})
    check_error(infer, 503, "not_ready", "expected it ready")
    assert infer.headers["retry-after"] == "1"
    assert live.status_code == 200


async def test_draining_server_says_not_ready_and_still_answers(client, post, make_request):
    client.app.state.serving.draining = True

    ready = await client.get("/v2/health/ready")
    response = await post(client, make_request({"x": np.zeros((1, 1, 2), np.float32)}))

    assert (ready.status_code, response.status_code) == (503, 200)


async def test_what_runs_round_the_application_is_entered_first_and_left_last(served_models, make_manual_port):
    order = []

    @asynccontextmanager
    async def running():
        order.append(f"enter, ready: {app.state.serving.is_ready}")
        yield
        order.append(f"leave, ready: {app.state.serving.is_ready}")

    app = create_app([served_models["last"]], Settings(), make_manual_port(), running)
    async with app.router.lifespan_context(app):
        order.append(f"inside, ready: {app.state.serving.is_ready}")

    assert order == ["enter, ready: False", "inside, ready: True", "leave, ready: False"]
