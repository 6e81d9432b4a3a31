"""HEAD is answered as GET is, without the body: on every route, through both protocols and on the control listener."""

import http.client
import json
import logging

import httpx
import pytest

from cellgate.serve.routes.head_method import HeadAsGet, with_head

from ..listening import PATIENCE_S, listening

READ = [
    "/",
    "/v2",
    "/v2/",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models",
    "/v2/models/steps",
    "/v2/models/steps/ready",
    "/v2/models/steps/versions/3/ready",
    "/v2/models/steps/config",
    "/v2/models/stats",
    "/docs",
    "/docs/swagger-ui-bundle.js",
    "/openapi.json",
]
OF_THE_MOMENT = {"date", "x-request-id"}


def lasting(headers):
    return {name.lower(): value for name, value in headers.items() if name.lower() not in OF_THE_MOMENT}


@pytest.fixture(scope="module", params=[True, False], ids=["hot", "plain"])
def host(request, bundle_paths, open_served):
    with listening(*open_served(bundle_paths["steps"]), hot_route=request.param) as found:
        yield found


@pytest.mark.parametrize("path", [*READ, "/v2/models/other", "/v2/models/steps/stream", "/other"])
def test_head_has_the_status_and_headers_of_get_and_no_body(host, path):
    with httpx.Client(base_url=f"http://{host}") as client:
        got, headed = client.get(path), client.head(path)

    assert headed.content == b""
    assert headed.status_code == got.status_code
    assert lasting(headed.headers) == lasting(got.headers)


def test_metrics_are_probed_too(host):
    with httpx.Client(base_url=f"http://{host}") as client:
        headed = client.head("/metrics")

    assert (headed.status_code, headed.content) == (200, b"")
    assert int(headed.headers["content-length"]) > 0


def test_the_next_request_on_the_connection_is_read_rightly(host):
    connection = http.client.HTTPConnection(host, timeout=PATIENCE_S)
    connection.request("HEAD", "/v2/health/ready")
    connection.getresponse().read()
    connection.request("GET", "/v2/health/ready")
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()

    assert found == (200, {"ready": True})


def test_what_is_not_read_takes_no_head_and_says_what_it_takes(host):
    with httpx.Client(base_url=f"http://{host}") as client:
        headed = client.head("/v2/models/steps/infer")
        posted = client.post("/v2/models")

    assert (headed.status_code, headed.headers["allow"]) == (405, "POST")
    assert (posted.status_code, posted.headers["allow"]) == (405, "GET, HEAD")
    assert "expected the method GET, HEAD on this path" in posted.json()["error"]


async def test_open_paths_need_no_key_for_it_and_others_do(connect, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("robot:0123456789abcdef\n")

    async with connect(api_keys_file=str(keys), open_paths="health,docs") as client:
        paths = ("/v2/health/ready", "/", "/docs", "/v2/models")
        found = {path: (await client.head(path)).status_code for path in paths}

    assert found == {"/v2/health/ready": 200, "/": 307, "/docs": 200, "/v2/models": 401}


async def test_the_log_says_which_method_came_and_that_no_byte_was_answered(connect, caplog):
    caplog.set_level(logging.INFO, logger="cellgate.access")

    async with connect(access_log=True) as client:
        await client.head("/v2/health/live")

    line = json.loads(caplog.messages[0])
    assert (line["method"], line["status"], line["answer_bytes"]) == ("HEAD", 200, 0)


async def test_what_is_no_request_passes():
    seen = []

    async def app(scope, _receive, _send):
        seen.append(scope)

    await HeadAsGet(app)({"type": "lifespan"}, None, None)

    assert seen == [{"type": "lifespan"}]


@pytest.mark.parametrize(
    ("methods", "expected"),
    [("GET", "GET, HEAD"), ("HEAD, GET", "GET, HEAD"), ("POST", "POST"), ("PUT, GET", "GET, HEAD, PUT"), ("", "")],
)
def test_methods_are_named_in_one_order(methods, expected):
    assert with_head(methods) == expected
