"""What is no HTTP, or is HTTP to one reader and something else to another: CVE-2025-43859 and other smuggling."""

import json

import pytest
from tests.security.conftest import BODY, PATIENCE_S, X, check_error, chunked, read_all, request, responses

pytestmark = pytest.mark.slow

SMUGGLED = b"GET /v2/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
START = b"POST /v2/models/steps/infer HTTP/1.1\r\nHost: 127.0.0.1\r\n"
CHUNKED = START + b"Transfer-Encoding: chunked\r\n\r\n"
# id: bytes that end in what an attacker would have read as a request of somebody else's
AMBIGUOUS = {
    "cl-then-te": START + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "te-then-cl": START + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two-lengths": START + b"Content-Length: 5\r\nContent-Length: 0\r\n\r\nabcde",
    "same-length-twice": START + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
    "length-list": START + b"Content-Length: 5, 5\r\n\r\nabcde",
    "length-plus": START + b"Content-Length: +5\r\n\r\nabcde",
    "length-minus": START + b"Content-Length: -1\r\n\r\n",
    "length-hex": START + b"Content-Length: 0x5\r\n\r\nabcde",
    "length-empty": START + b"Content-Length:\r\n\r\n",
    "length-overflow": START + b"Content-Length: 18446744073709551617\r\n\r\n",
    "te-identity": START + b"Transfer-Encoding: identity\r\n\r\n",
    "te-gzip-chunked": START + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "te-chunked-identity": START + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "te-twice": START + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "te-xchunked": START + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "te-quoted": START + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "te-vertical-tab": START + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "te-space-before-colon": START + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "te-http-1.0": b"POST /v2 HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare-lf-head": b"GET /v2 HTTP/1.1\nHost: a\n\n",
    "bare-lf-header": b"GET /v2 HTTP/1.1\r\nHost: 127.0.0.1\nX: b\r\n\r\n",
    "bare-cr-header": b"GET /v2 HTTP/1.1\r\nHost: 127.0.0.1\rX: b\r\n\r\n",
    "obs-fold": START + b"X: a\r\n Content-Length: 5\r\n\r\n",
    "nul-in-header": START + b"X: a\0b\r\n\r\n",
    "no-header-name": START + b": x\r\n\r\n",
    "chunk-bare-lf": CHUNKED + b"5\nabcde\r\n0\r\n\r\n",
    "chunk-wrong-end": CHUNKED + b"5\r\nabcdeXX0\r\n\r\n",
    "chunk-minus": CHUNKED + b"-5\r\nabcde\r\n0\r\n\r\n",
    "chunk-0x": CHUNKED + b"0x5\r\nabcde\r\n0\r\n\r\n",
    "chunk-space": CHUNKED + b"5 \r\nabcde\r\n0\r\n\r\n",
    "chunk-overflow": CHUNKED + b"fffffffffffffffff\r\nabcde\r\n0\r\n\r\n",
    "no-host": b"GET /v2 HTTP/1.1\r\n\r\n",
    "two-hosts": b"GET /v2 HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: b\r\n\r\n",
    "other-target": b"GET http://other/v2 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "target-with-user": b"GET http://127.0.0.1@other/v2 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
}


@pytest.mark.parametrize("name", AMBIGUOUS)
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "second"])
def test_cve_2025_43859_smuggling_ends_the_connection(served, name, is_first):
    with served.connect() as connection:
        if not is_first:
            connection.sendall(request("GET", "/v2/health/live", close=False))
            first = b""
            while not first.endswith(b'{"live":true}'):
                first += connection.recv(2**12)
        connection.sendall(AMBIGUOUS[name] + SMUGGLED)
        (refused,) = responses(read_all(connection))

    assert check_error(refused, 400) == "malformed_request"
    assert refused[1]["connection"] == "close"


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_is_smuggled_behind_a_request_that_is_still_at_work_is_refused_after_its_answer(served, name):
    found = responses(served.send(request(body=BODY, close=False) + AMBIGUOUS[name] + SMUGGLED))

    assert [status for status, _, _ in found] == [200, 400]
    assert check_error(found[1], 400) == "malformed_request"
    assert found[1][1]["connection"] == "close"


NO_HTTP = {
    "garbage": b"\x16\x03\x01nonsense\r\n\r\n",
    "http2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http2": b"GET /v2 HTTP/2.0\r\nHost: 127.0.0.1\r\n\r\n",
    "http3": b"GET /v2 HTTP/3.0\r\nHost: 127.0.0.1\r\n\r\n",
    "http0.9": b"GET /v2\r\n\r\n",
    "no-version-number": b"GET /v2 HTTP/x\r\nHost: 127.0.0.1\r\n\r\n",
    "unknown-verb": b"FROB /v2 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "lower-case-verb": b"get /v2 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "connect": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n",
    "cve-2026-48710-at": b"GET @x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "cve-2026-54282-no-slash": b"GET x/y HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "cve-2026-48710-host": b"GET /v2 HTTP/1.1\r\nHost: a/b?\r\n\r\n",
    "host-with-user": b"GET /v2 HTTP/1.1\r\nHost: me@127.0.0.1\r\n\r\n",
    "host-empty": b"GET /v2 HTTP/1.1\r\nHost:\r\n\r\n",
    "tab-in-target": b"GET /v2\tx HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "bytes-in-target": b"GET /v2/\xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "nul-in-target": b"GET /v2\0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
}


@pytest.mark.parametrize("name", NO_HTTP)
def test_what_is_no_http_is_a_400_with_an_error_object(served, name):
    data = NO_HTTP[name]
    if name in ("cve-2026-48710-host", "host-with-user", "host-empty"):  # HTTP it is: the connection lives on
        data = data.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    assert check_error(served.ask(data), 400) == "malformed_request"


READ = {
    "/v2": "application/json",
    "/v2/models/steps": "application/json",
    "/docs": "text/html; charset=utf-8",
}


@pytest.mark.parametrize("verb", ["HEAD", "OPTIONS", "TRACE", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/v2", "/v2/models/steps", "/v2/models/steps/infer", "/docs", "/no/such/path"])
def test_verb_that_nobody_takes_is_an_error_object_that_repeats_no_header(served, verb, path):
    status, headers, body = (
        served.ask(request(verb, path, "Cookie: secret=1")) if verb != "HEAD" else head_of(served, path)
    )

    if verb == "HEAD" and path in READ:
        assert (status, headers["content-type"]) == (200, READ[path])
        return
    assert status == (404 if path == "/no/such/path" else 405)
    assert headers["content-type"] == "application/json"
    assert b"secret" not in body
    assert ("allow" in headers) is (status == 405)


def head_of(served, path):
    """A HEAD's answer has the length of a body that does not come."""
    data = served.send(request("HEAD", path))
    head, _, body = data.partition(b"\r\n\r\n")
    assert body == b""
    headers = dict(line.decode().split(": ", 1) for line in head.split(b"\r\n")[1:])
    return int(head.split()[1]), headers, body


@pytest.mark.parametrize(
    ("verb", "path", "status", "code"),
    [
        ("GET", "/no/such/path", 404, "not_found"),
        ("POST", "/v2/models/none/infer", 404, "unknown_model"),
        ("GET", "/v2/models/steps/infer", 405, "method_not_allowed"),
        ("POST", "/v2/repository/models/steps/load", 404, "not_found"),
        ("POST", "/v2/repository/models/steps/unload", 404, "not_found"),
        ("POST", "/v2/models/steps/load", 404, "not_found"),
    ],
)
def test_error_of_the_routes_is_an_object(served, verb, path, status, code):
    assert check_error(served.ask(request(verb, path, body=b"{}" if verb == "POST" else b"")), status) == code


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_both_versions_of_http_are_served(served, version):
    data = request("GET", "/v2/health/live").replace(b"HTTP/1.1", b"HTTP/" + version.encode())

    assert served.ask(data)[0] == 200


def test_bytes_behind_an_upgrade_are_no_request(served):
    lines = ("Connection: upgrade", "Upgrade: h2c", f"Content-Length: {len(SMUGGLED)}")
    data = request("GET", "/v2", *lines, close=False)
    with served.connect() as connection:
        connection.sendall(data)
        connection.sendall(SMUGGLED)  # alone, where a parser that stopped would begin anew
        found = responses(read_all(connection))

    (answer,) = found
    assert (answer[0], answer[1]["connection"]) == (200, "close")


def test_trailers_are_no_headers(served):
    head = START + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"%x\r\n%s\r\n0\r\nInference-Header-Content-Length: 1\r\nContent-Encoding: gzip\r\n\r\n" % (len(BODY), BODY)

    assert served.ask(head + body)[0] == 200


def test_chunk_extensions_and_trailers_without_an_end_are_refused(served):
    head = b"POST /v2/models/steps/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    for start in (b"5;a=", b"0\r\nX: "):
        with served.connect() as connection:
            connection.sendall(head)
            try:
                for piece in (start, *[b"a" * 1000] * 600):
                    connection.sendall(piece)
            except ConnectionError:
                pass
            found = read_all(connection)
        assert not found or check_error(responses(found)[0], 431) == "headers_too_large"
        assert served.is_alive()


def test_malformed_request_behind_a_working_one_is_refused_after_its_answer(served):
    """Two answers in the wrong order would give one client the other's."""
    found = responses(served.send(chunked([BODY]).replace(b"Connection: close\r\n", b"") + b"nonsense\r\n\r\n"))

    assert [status for status, _, _ in found] == [200, 400]


def test_expect_is_answered_only_for_a_body_that_is_wanted(served):
    with served.connect() as connection:
        connection.settimeout(PATIENCE_S)
        connection.sendall(
            request("POST", "/v2/models/steps/infer", "Expect: 100-continue", "Content-Length: 99999999")[:-2] + b"\r\n"
        )
        found = read_all(connection)

    assert not found.startswith(b"HTTP/1.1 100")


def test_a_message_that_is_no_utf8_closes_a_websocket_without_a_word_in_the_log(served):
    lines = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    with served.connect() as connection:
        connection.sendall(request("GET", "/v2/models/steps/stream", *lines, key, close=False))
        taken = connection.recv(2**12)
        connection.sendall(b"\x81\x82\0\0\0\0\xff\xfe")  # one text message, masked with zeros
        found = read_all(connection)

    assert taken.startswith(b"HTTP/1.1 101 ")
    assert (found[:1], int.from_bytes(found[2:4])) == (b"\x88", 1007)
    assert "UTF-8" not in served.logged()


def test_repeated_name_of_a_field_is_refused_however_it_is_written(served):
    body = json.dumps({"inputs": [X]}).encode()[:-1] + b', "\\u0069nputs": []}'

    assert check_error(served.ask(request(body=body)), 400) == "bad_input"
