"""Bodies and names of the advisories, sent to a real server: refused in one sentence, and the server lives on."""

import json

import pytest
from tests.security.conftest import BODY, X, check_error, request

pytestmark = pytest.mark.slow


def infer(served, body, *lines, path="/v2/models/steps/infer"):
    return served.ask(request("POST", path, *lines, body=body))


def request_of(**changes):
    return json.dumps({"inputs": [{**X, **changes}]}).encode()


HEAD_LENGTHS = ["", "-1", "1e9", "1000000000", "99999999999", "9" * 400, "ten", "+5", "0x5", "5 5", "5,5", "٣", " "]


@pytest.mark.parametrize("value", HEAD_LENGTHS)
@pytest.mark.parametrize("path", ["/v2/models/steps/infer", "/v2/models/steps/versions/3/infer"])
def test_cve_2026_24175_value_of_the_head_length(served, value, path):
    line = f"Inference-Header-Content-Length: {value}".encode().decode("latin-1")

    assert check_error(infer(served, BODY, line, path=path), 400) == "bad_input"


def test_cve_2026_47480_head_length_twice(served):
    assert check_error(infer(served, BODY, *["Inference-Header-Content-Length: 5"] * 2), 400) == "bad_input"


@pytest.mark.parametrize("depth", [50, 101, 1000])
@pytest.mark.parametrize("kind", ["arrays", "objects", "data", "parameters"])
def test_cve_2025_23325_recursion_in_json(served, depth, kind):
    nested = "[" * depth + "1" + "]" * depth
    bodies = {
        "arrays": nested,
        "objects": '{"inputs":' * depth + "1" + "}" * depth,
        "data": json.dumps({"inputs": [{**X, "data": 0}]}).replace('"data": 0', f'"data": {nested}'),
        "parameters": json.dumps({"inputs": [X], "parameters": {"a": 0}}).replace('"a": 0', f'"a": {nested}'),
    }

    assert check_error(infer(served, bodies[kind].encode()[:4096]), 400) == "bad_input"


SIZES = [0, -1, 2**31, 2**63, 2**64, 10**12, 2**60 + 2, 1.5, True, None, "1", []]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_cve_2025_23321_dimension(served, size, axis):
    shape = [1, 2, 2]
    shape[axis] = size

    if size is not True:
        assert check_error(infer(served, request_of(shape=shape)), 400) == "bad_input"
    assert check_error(infer(served, request_of(shape=shape, data=[])), 400) == "bad_input"


@pytest.mark.parametrize(
    "shape", [[2**4, 2**60 + 2], [2**2, 2**60 + 2, 2], [2**31 - 1, 2**31 - 1, 2], [10**12], [], [1] * 9]
)
@pytest.mark.parametrize("size", [0, 4, 2**63, -4, 2**64 + 4])
def test_cve_2025_23331_declared_size_of_a_tensor_allocates_nothing(served, shape, size):
    head = json.dumps(
        {"inputs": [{"name": "x", "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": size}}]}
    )
    found = infer(served, head.encode() + b"abcd", f"Inference-Header-Content-Length: {len(head)}")

    assert check_error(found, 400) == "bad_input"


@pytest.mark.parametrize("key", ["outputs", "inputs"])
def test_cve_2026_24146_many_and_equal_names(served, key):
    item = {"name": "y"} if key == "outputs" else X
    for count in (2, 300):
        body = json.dumps({"inputs": [X], key: [item] * count})
        assert check_error(infer(served, body.encode()[:4096]), 400) == "bad_input"


@pytest.mark.parametrize(
    "name",
    [
        "a;b",
        "$(id)",
        "`id`",
        "a\nb",
        "a\x00b",
        "..",
        "../../etc/passwd",
        "a" * 10_000,
        "%s%n",
        "{{7*7}}",
        "steps\r\nX: y",
    ],
)
def test_cve_2025_23316_name_in_the_body_and_in_the_path(served, name):
    bodies = [request_of(name=name), json.dumps({"inputs": [X], "outputs": [{"name": name}]}).encode()]
    for body in bodies:
        status, _, _ = found = infer(served, body)
        assert check_error(found, 400, 413) in ("bad_input", "body_too_large"), status
    escaped = "".join(f"%{byte:02x}" for byte in name.encode())
    assert check_error(served.ask(request("GET", f"/v2/models/{escaped}")), 404, 431)
    assert check_error(infer(served, BODY, path=f"/v2/models/{escaped}/infer"), 404, 431)


MEDIA = [
    "application/x-pickle",
    "application/python-pickle",
    "application/vnd.bentoml+pickle",
    "multipart/form-data; boundary=x",
    "multipart/mixed",
    "application/x-www-form-urlencoded",
    "application/yaml",
    "application/x-tar",
    "text/plain",
    "application/json; charset=utf-7",
]
PICKLED = b"cos\nsystem\n(S'true'\ntR."


@pytest.mark.parametrize("media", MEDIA)
@pytest.mark.parametrize(
    "body", [BODY, PICKLED, b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--x--\r\n"]
)
def test_cve_2025_27520_cve_2024_24762_other_content_types(served, media, body):
    assert check_error(infer(served, body, f"Content-Type: {media}"), 415) == "unsupported_media"


@pytest.mark.parametrize(
    "lines", [(), ("Content-Type: application/octet-stream", "Inference-Header-Content-Length: 0")]
)
def test_cve_2025_32375_pickle_under_a_good_type_is_bytes(served, lines):
    assert check_error(infer(served, PICKLED + b"xy", *lines), 400) == "bad_input"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, identity", "GZIP", "x-gzip"])
def test_cve_2026_24158_compressed_body(served, encoding):
    assert check_error(infer(served, b"\x1f\x8b\x08" + bytes(500), f"Content-Encoding: {encoding}"), 415)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/systemsharedmemory/status"),
        ("POST", "/v2/systemsharedmemory/region/a/register"),
        ("POST", "/v2/cudasharedmemory/region/a/register"),
        ("POST", "/v2/repository/models/steps/load"),
        ("POST", "/v2/logging"),
        ("POST", "/v2/trace/setting"),
        ("POST", "/v2/models/steps/trace/setting"),
        ("POST", "/invocations"),
        ("GET", "/ping"),
        ("POST", "/predict"),
        ("POST", "/models?url=http://127.0.0.1/m.mar"),
        ("GET", "/ajax-api/2.0/mlflow/experiments/list"),
        ("GET", "/v1/models/steps"),
    ],
)
def test_cve_2024_0087_0088_cve_2023_43654_endpoint_of_others_is_absent(served, method, path):
    assert check_error(served.ask(request(method, path, body=b"{}" if method == "POST" else b"")), 404) == "not_found"


@pytest.mark.parametrize("lengths", [[0], [3], [-1], [2**31], [1.5], [], [1, 1], ["1"]])
def test_ort_28052_torch_2998_length_outside_the_sequence(served, lengths):
    tensor = {"name": "lengths", "shape": [1], "datatype": "INT32", "data": lengths}

    assert check_error(infer(served, json.dumps({"inputs": [X, tensor]}).encode()), 400) == "bad_input"


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e400", "1e39"])
def test_value_that_is_not_finite(served, value):
    assert check_error(infer(served, request_of().replace(b"[1, 2, 3, 4]", f"[1, 2, 3, {value}]".encode())), 400)


def test_range_is_not_read(served):
    """CVE-2025-62727: no file is ever sent in parts."""
    status, headers, body = served.ask(request("GET", "/docs/swagger-ui.css", "Range: bytes=" + "0-," * 900 + "0-"))

    assert status == 200
    assert "content-range" not in headers
    assert len(body) == int(headers["content-length"])


def test_cve_2024_0095_log_injection(served):
    marker = "\r\n\x1b[31mFORGED"
    infer(served, json.dumps({"inputs": [{**X, "name": marker}], "id": marker}).encode())
    served.ask(request("GET", "/v2/models/%0d%0a%1b%5b31mFORGED"))
    served.ask(request("GET", "/v2/models/x", "X-Request-Id: a\x1b[31mFORGED", "User-Agent: \x1b[31mFORGED"))

    text = served.logged()
    assert "\x1b" not in text
    assert not [line for line in text.splitlines() if line.startswith(("FORGED", "[31m"))]
    assert all(isinstance(json.loads(line), dict) for line in text.splitlines() if line.startswith("{"))


def test_server_is_as_it_was(served):
    assert infer(served, BODY)[0] == 200
    assert len(served.modules()["engine_child"]) == 1
