"""What the application refuses by itself, with the protocol's error object: paths, models, verbs, headers, sizes."""

import httpx
import numpy as np
import pytest

from .error_answer import check_error


@pytest.fixture
async def client(connect):
    async with connect() as opened:
        yield opened


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/predict",
        "/health",
        "/v2/models/",
        "/v2/health",
        "/v2/models/last/",
        "/v2/models/last/versions",
        "/v2/models/a/b/c",
        "/v2/repository",
        "/v2/repository/models/last/load",
        "/docs/../pyproject.toml",
        "/V2",
    ],
)
async def test_unknown_path_is_a_404_that_says_where_the_known_ones_stand(client, path):
    response = await client.get(path)

    found = f"found GET {response.request.url.path}; GET /docs shows them"
    check_error(response, 404, "not_found", f"request: expected a path of this server, {found}")


@pytest.mark.parametrize("path", ["/docs/%2e%2e/app.py", "//v2", "/%76%32"])
async def test_another_spelling_of_a_path_is_a_404_that_says_so(client, path):
    response = await client.get(httpx.URL("http://127.0.0.1", raw_path=path.encode()))

    check_error(response, 404, "not_found", "request: expected a path in its plainest spelling")
    assert f"found GET {path}" in response.json()["error"]


@pytest.mark.parametrize("path", ["/v2/models/last/stream", "/v2/models/last/versions/3/stream"])
async def test_a_plain_get_of_a_websocket_is_told_what_is_missing(client, path):
    response = await client.get(path)

    check_error(response, 426, "upgrade_required", "expected a WebSocket (Upgrade: websocket), found a plain GET")
    assert (response.headers["upgrade"], response.headers["connection"]) == ("websocket", "Upgrade")


@pytest.mark.parametrize("path", ["/v2/models/nope/stream", "/v2/models/last/versions/4/stream"])
async def test_a_plain_get_of_a_websocket_of_no_model_is_an_unknown_model(client, path):
    check_error(await client.get(path), 404, "unknown_model", "last version 3")


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


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v2/models/last/streams/7", "DELETE, GET, HEAD"),
        ("/v2/models/last/stream", "GET, HEAD"),
        ("/v2/models/last/infer", "POST"),
        ("/docs", "GET, HEAD"),
    ],
)
async def test_a_405_names_every_verb_that_its_path_takes(client, path, allowed):
    response = await client.request("OPTIONS", path)

    check_error(response, 405, "method_not_allowed", f"expected the method {allowed} on this path")
    assert response.headers["allow"] == allowed


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
