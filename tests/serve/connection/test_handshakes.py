"""Requests to become a WebSocket that are none, or come at the wrong time, on real sockets."""

import json
import socket

import pytest

from cellgate.serve.models.served_model import BundlePlace

from ..hot_wire import JSON, raw
from ..listening import PATIENCE_S, listening

STREAM = "/v2/models/demo/stream"
WISH = ("Connection: Upgrade", "Upgrade: websocket")
HANDSHAKE = (*WISH, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13")


@pytest.fixture(params=[True, False], ids=["hot", "asgi"])
def wire(request, bundle_paths, open_served):
    with listening(*open_served(BundlePlace(bundle_paths["steps"], "demo")), hot_route=request.param) as host:
        name, port = host.split(":")
        with socket.create_connection((name, int(port)), timeout=PATIENCE_S) as connection:
            yield connection


def handshake(*more, path=STREAM, method="GET"):
    return raw(b"", *HANDSHAKE, *more, path=path, method=method, length=False)


def rest_of(connection):
    """Return what comes until the server closes."""
    return b"".join(iter(lambda: connection.recv(2**16), b""))


def answers_of(data):
    """Return the status and the object of each answer; the last one says that it is the last."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        (size,) = (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length:" in line)
        found.append((int(head.split(b" ", 2)[1]), json.loads(data[:size])))
        data = data[size:]
    assert b"\r\nconnection: close" in head.lower()
    return found


@pytest.mark.parametrize("length", [(), ("Content-Length: 0",)], ids=["none", "0"])
def test_a_handshake_without_a_body_is_taken(wire, length):
    wire.sendall(handshake(*length))

    assert wire.recv(2**12).startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (handshake("Content-Length: 1") + b"a", 426),
        (handshake("Content-Length: 1"), 426),
        (handshake("Transfer-Encoding: chunked") + b"0\r\n\r\n", 426),
        (handshake(method="HEAD"), 426),
        (handshake(method="DELETE"), 405),
        (raw(b"{}", *WISH, path="/v2/models/demo/infer"), 400),
    ],
    ids=["body", "body-to-come", "chunks", "head", "delete", "inference"],
)
def test_what_asks_for_a_websocket_and_is_no_handshake_is_answered_as_a_plain_request(wire, data, status):
    wire.sendall(data)
    head, _, body = rest_of(wire).partition(b"\r\n\r\n")

    assert int(head.split(b" ", 2)[1]) == status
    assert b"\r\nconnection: close" in head.lower()
    assert data.startswith(b"HEAD ") or {"error", "code"} <= set(json.loads(body))


@pytest.mark.parametrize(
    "data",
    [handshake("Cookie: " + "a" * 9000), handshake(path=STREAM + "?" + "a" * 9000)],
    ids=["header", "target"],
)
def test_a_handshake_with_too_long_a_line_is_refused_at_once(wire, data):
    wire.sendall(data)
    ((status, found),) = answers_of(rest_of(wire))

    assert (status, found["code"]) == (431, "headers_too_large")
    assert found["error"] == "headers: expected at most 8192 bytes a line and 128 of them for a WebSocket, found more"


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("path", ["/v2/models/demo/infer", "/v2/health/live"], ids=["inference", "health"])
def test_a_handshake_behind_a_request_that_waits_does_not_overtake_its_answer(wire, path, count):
    plain = raw(method="GET", path=path, length=False) if "live" in path else raw(JSON, path=path)
    wire.sendall(plain * count + handshake() + b"\x81\x80\0\0\0\0")
    found = answers_of(rest_of(wire))

    assert [status for status, _ in found] == [200] * count + [426]
    assert found[-1][1]["code"] == "upgrade_required"
