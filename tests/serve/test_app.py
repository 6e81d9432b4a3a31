"""The protocol over HTTP, in process: statuses, bodies and headers of every route."""

import json
import logging
import threading
from dataclasses import replace

import anyio
import httpx
import numpy as np
import pytest

from cellgate.serve.app import create_app
from cellgate.serve.errors import EngineError
from cellgate.serve.served_model import BundlePlace, open_model
from cellgate.serve.settings import Settings

PATIENCE_S = 10


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
def with_runtime(bundle_paths, make_fake, make_network, connect):
    """A client of one model, "steps", on a runtime that answers as told."""

    def connect_with(answer=None, **changes):
        model = open_model(BundlePlace(bundle_paths["steps"]), Settings(device="cpu", threads=1))
        fake = make_fake(make_network("steps"), answer)
        return connect([replace(model, runtime=fake)], **changes)

    return connect_with


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2", {"name": "cellgate", "version": "0.1.0", "extensions": []}),
        ("/v2/", {"name": "cellgate", "version": "0.1.0", "extensions": []}),
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
        "/v2/repository/index",
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
        ({"Inference-Header-Content-Length": "5"}, "unsupported_media", 415),
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
async def test_fault_is_a_500_with_an_id_and_nothing_of_the_inside(with_runtime, make_request, caplog, error):
    def fail(_found):
        raise error from RuntimeError("/secret/path")

    async with with_runtime(fail) as client:
        body = make_request({"x": np.zeros((1, 1, 2), np.float32)})
        response = await client.post("/v2/models/steps/infer", json=body)

    code = "engine" if isinstance(error, EngineError) else "internal"
    check_error(response, 500, code, "the server's log has more under request id")
    assert "secret" not in response.text
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert response.json()["request_id"] in record.getMessage()
    assert "/secret/path" in caplog.text


async def test_full_queue_is_refused_with_retry_after(with_runtime, post, make_request):
    opened = threading.Event()

    def wait(found):
        assert opened.wait(PATIENCE_S)
        return found

    request = make_request({"x": np.zeros((1, 1, 2), np.float32)})
    statuses = []
    async with with_runtime(wait, max_running=1, max_waiting=1) as client:
        try:
            with anyio.fail_after(PATIENCE_S):
                async with anyio.create_task_group() as group:

                    async def ask():
                        statuses.append((await post(client, request)).status_code)

                    group.start_soon(ask)
                    group.start_soon(ask)
                    await anyio.wait_all_tasks_blocked()

                    refused = await post(client, request)
                    live = await client.get("/v2/health/live")
                    opened.set()
        finally:
            opened.set()

    check_error(refused, 503, "queue_full", "try again later")
    assert refused.headers["retry-after"] == "1"
    assert live.status_code == 200
    assert statuses == [200, 200]


async def test_server_outside_its_lifespan_is_not_ready(bundle_paths):
    model = open_model(BundlePlace(bundle_paths["last"]), Settings(device="cpu", threads=1))
    app = create_app([model], Settings())
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


async def test_lifespan_closes_every_runtime(connect, bundle_paths):
    async with connect() as client:
        models = client.app.state.serving.table.models
    for model in models:
        with pytest.raises(EngineError, match="closed"):
            model.runtime.run({})
