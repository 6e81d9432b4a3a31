"""Requests of every kind to one model: what the hot route answers itself, and what it leaves to the other."""

import json

import numpy as np
from tests.serve.hot_wire import (
    ALL_BINARY,
    BAD,
    BLOB,
    HEAD,
    INFER,
    JSON,
    X,
    binary,
    chunked,
    raw,
)

STATES = json.dumps({"inputs": [X], "outputs": [{"name": "h_n"}, {"name": "y"}]}).encode()


MIXED = [{"name": "y", "parameters": {"binary_data": True}}, {"name": "c_n", "parameters": {"binary_data": False}}]


def large_json():
    return json.dumps({"inputs": [{**X, "shape": [1000, 40, 2], "data": [0.5] * 80_000}]}).encode()


def large_answer():
    text = json.dumps(
        {"inputs": [{**HEAD, "shape": [500, 10, 2], "parameters": {"binary_data_size": 40_000}}]}
    ).encode()
    return raw(text + bytes(40_000), f"Inference-Header-Content-Length: {len(text)}")


# id: the request, its status, and whether the hot route answers it
TABLE = {
    "json": (raw(JSON), 200, True),
    "json-typed": (raw(JSON, "Content-Type: application/json"), 200, True),
    "json-states": (raw(STATES, "Accept: */*", "User-Agent: test"), 200, True),
    "json-as-octets": (raw(JSON, "content-type: application/octet-stream"), 200, True),
    "json-charset": (raw(JSON, "Content-Type: application/json; charset=utf-8"), 200, False),
    "json-large": (raw(large_json()), 200, False),
    "versioned": (raw(JSON, path="/v2/models/steps/versions/3/infer"), 200, True),
    "binary": (binary(), 200, True),
    "binary-id": (binary(id="b"), 200, True),
    "binary-out": (binary(parameters=ALL_BINARY), 200, True),
    "binary-mixed": (binary(outputs=MIXED), 200, True),
    "binary-large-answer": (large_answer(), 200, False),
    "raw": (raw(BLOB, "INFERENCE-HEADER-CONTENT-LENGTH: 0"), 200, True),
    "json-out-binary": (raw(json.dumps({"inputs": [X], "parameters": ALL_BINARY}).encode()), 200, True),
    "no-json": (raw(b"{"), 400, True),
    "empty": (raw(b""), 400, True),
    "bad-shape": (raw(BAD), 400, True),
    "nan": (binary(np.full(4, np.nan, "<f4").tobytes()), 400, True),
    "trailing": (binary(BLOB + b"\0"), 400, True),
    "missing": (binary(BLOB[:-1]), 400, True),
    "no-header": (raw(json.dumps({"inputs": [HEAD]}).encode()), 400, True),
    "header-beyond": (raw(JSON, "Inference-Header-Content-Length: 9999"), 400, True),
    "header-odd": (raw(JSON, "Inference-Header-Content-Length: -1"), 400, False),
    "header-empty": (raw(JSON, "Inference-Header-Content-Length:"), 400, False),
    "header-twice": (raw(JSON, *["Inference-Header-Content-Length: 5"] * 2), 400, False),
    "type-twice": (raw(JSON, *["Content-Type: application/json"] * 2), 415, False),
    "type-csv": (raw(JSON, "Content-Type: text/csv"), 415, False),
    "gzip": (raw(JSON, "Content-Encoding: gzip"), 415, False),
    "chunked": (chunked(JSON), 200, False),
    "chunked-too-long": (chunked(b" " * 3000), 413, False),
    "declared-too-long": (raw(b"", "Content-Length: 2049", length=False), 413, False),
    "expect": (raw(JSON, "Expect: 100-continue"), 200, False),
    "named": (raw(JSON, "X-Request-Id: a-client's.word/1"), 200, True),
    "named-well": (raw(JSON, "X-Request-Id: client-7.a/b:c+d=e@f"), 200, True),
    "named-bad": (raw(BAD, "x-request-id: client-7"), 400, True),
    "named-at-length": (raw(JSON, f"X-Request-Id: {'a' * 129}"), 200, True),
    "named-by-nothing": (raw(JSON, "X-Request-Id:"), 200, True),
    "named-oddly": (raw(JSON, 'X-Request-Id: <\xe9>\t"\\'), 200, True),
    "named-twice": (raw(JSON, *["X-Request-Id: a"] * 2), 200, False),
    "close": (raw(JSON, "Connection: close"), 200, True),
    "close-bad": (raw(BAD, "Connection: close"), 400, True),
    "old": (raw(JSON, version="1.0"), 200, False),
    "old-kept": (raw(JSON, "Connection: keep-alive", version="1.0"), 200, False),
    "upgrade": (raw(JSON, "Connection: upgrade", "Upgrade: h2c"), 400, False),
    "query": (raw(JSON, path=INFER + "?a=1"), 200, False),
    "escaped": (raw(JSON, path="/v2/models/%73teps/infer"), 404, False),  # a path has one spelling
    "no-host": (raw(JSON).replace(b"Host: test\r\n", b""), 400, False),
    "two-hosts": (raw(JSON, "Host: test"), 400, False),
    "odd-host": (raw(JSON).replace(b"Host: test", b"Host: a/b?"), 400, False),
    "named-host": (raw(JSON).replace(b"Host: test", b"Host: evil.example"), 421, False),
    "own-page": (raw(JSON, "Origin: http://test"), 200, False),
    "foreign-page": (raw(JSON, "Origin: http://evil.example"), 403, False),
    "gzip-chunked": (chunked(JSON).replace(b": chunked", b": gzip, chunked"), 400, False),
    "version-2": (raw(JSON, version="2.0"), 400, False),
    "absolute": (raw(JSON, path="http://test" + INFER), 200, False),
    "unknown": (raw(JSON, path="/v2/models/nope/infer"), 404, False),
    "version": (raw(JSON, path="/v2/models/steps/versions/4/infer"), 404, False),
    "slash": (raw(JSON, path=INFER + "/"), 404, False),
    "get": (raw(method="GET", length=False), 405, False),
    "put": (raw(JSON, method="PUT"), 405, False),
    "elsewhere": (raw(method="GET", path="/v2", length=False), 200, False),
}
