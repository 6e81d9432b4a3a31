"""Limits at their edges, and clients that are slow on purpose. CVE-2025-33201, -33202, -33211, CVE-2026-47628."""

import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.security.conftest import BODY, check_error, chunked, read_all, request, responses

pytestmark = pytest.mark.slow

MAX_BODY, MAX_CHUNKS, MAX_HEADERS, MAX_HEAD, MAX_CONNECTIONS = 4096, 1000, 20, 4096, 30


def padded(size):
    return BODY + b" " * (size - len(BODY))


@pytest.mark.parametrize(("more", "status"), [(-1, 200), (0, 200), (1, 413)])
@pytest.mark.parametrize("form", ["declared", "one-chunk", "chunks"])
def test_cve_2025_33201_body_is_limited_to_the_byte(served, form, more, status):
    body = padded(MAX_BODY + more)
    pieces = {"one-chunk": [body], "chunks": [body[at : at + 100] for at in range(0, len(body), 100)]}
    found = served.ask(request(body=body) if form == "declared" else chunked(pieces[form]))

    assert found[0] == status
    assert status == 200 or check_error(found, 413) == "body_too_large"


@pytest.mark.parametrize("path", ["/v2", "/no/such/path", "/v2/models/steps"])
@pytest.mark.parametrize("length", [MAX_BODY + 1, 10**12])
def test_declared_length_is_limited_on_every_path_before_a_byte_of_it_comes(served, path, length):
    found = served.ask(request("GET", path, f"Content-Length: {length}"))

    assert check_error(found, 413) == "body_too_large"


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 413)])
def test_cve_2025_23310_chunks_are_limited_to_the_piece(served, more, status):
    count = MAX_CHUNKS + more
    body = padded(count)
    found = served.ask(chunked([body[at : at + 1] for at in range(count)]))

    assert found[0] == status
    assert status == 200 or check_error(found, 413) == "too_many_chunks"


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 431)])
def test_number_of_headers_is_limited(served, more, status):
    lines = [f"X-{number}: a" for number in range(MAX_HEADERS - 2 + more)]  # with Host and Connection
    found = served.ask(request("GET", "/v2", *lines))

    assert found[0] == status
    assert status == 200 or check_error(found, 431) == "headers_too_large"


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 431)])
@pytest.mark.parametrize("place", ["header", "target"])
@pytest.mark.parametrize("pieces", [1, 40])
def test_size_of_the_head_is_limited_to_the_byte(served, place, pieces, more, status):
    size = MAX_HEAD + more
    bare = len(request("GET", "/v2?", "X: "))
    filling = "a" * (size - bare)
    data = request(
        "GET", "/v2?" + (filling if place == "target" else ""), "X: " + (filling if place == "header" else "")
    )
    assert len(data) == size
    with served.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):
            for at in range(0, size, size // pieces):
                connection.sendall(data[at : at + size // pieces])
        (found,) = responses(read_all(connection))

    assert found[0] == status
    assert status == 200 or check_error(found, 431) == "headers_too_large"


HEAD_BEGUN = b"GET /v2 HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "


def body_to_come(path, length):
    return request("POST", path, close=False).replace(b"Content-Length: 0", length)


# What each sends at once, and what it sends whenever nothing came for a moment; None: nothing more.
SLOW_CLIENTS = {
    "nothing": (b"", None),
    "a letter": (b"G", None),
    "a head without an end": (HEAD_BEGUN, None),
    "empty lines": (b"\r\n\r\n", None),
    "a dripping head": (HEAD_BEGUN, b"a"),
    "a dripping body": (body_to_come("/v2/models/steps/infer", b"Content-Length: 4000"), b" "),
    "dripping chunks": (body_to_come("/v2/models/steps/infer", b"Transfer-Encoding: chunked"), b"1\r\n \r\n"),
    "a dripping body elsewhere": (body_to_come("/v2", b"Content-Length: 4000"), b" "),
}


@pytest.fixture(scope="module")
def given_up(served):
    """What came back to each slow client until its connection was closed; they are slow at the same time."""

    def outlast(name):
        start, piece = SLOW_CLIENTS[name]
        with served.connect() as connection:
            connection.sendall(start)
            if piece is None:
                return read_all(connection)
            connection.settimeout(0.05)
            return drip(connection, piece)

    with ThreadPoolExecutor(len(SLOW_CLIENTS)) as clients:
        return dict(zip(SLOW_CLIENTS, clients.map(outlast, SLOW_CLIENTS), strict=True))


@pytest.mark.parametrize("client", ["nothing", "empty lines"])
def test_client_that_asks_nothing_is_given_up(given_up, client):
    """Slowloris: a connection, and then nothing more."""
    assert given_up[client] == b""


@pytest.mark.parametrize("client", ["a letter", "a head without an end", "a dripping head"])
def test_slow_head_is_given_up(given_up, client):
    assert check_error(responses(given_up[client])[0], 408) == "request_timeout"


@pytest.mark.parametrize(
    ("client", "status"), [("a dripping body", 408), ("dripping chunks", 408), ("a dripping body elsewhere", 405)]
)
def test_dripping_body_is_given_up(given_up, client, status):
    (answer,) = responses(given_up[client])
    assert check_error(answer, status)


def drip(connection, piece):
    """Send a piece whenever nothing came for a moment; return what came until the end."""
    found = b""
    while True:
        try:
            chunk = connection.recv(2**16)
        except TimeoutError:
            with contextlib.suppress(ConnectionError):
                connection.sendall(piece)
            continue
        except ConnectionError:
            return found
        if not chunk:
            return found
        found += chunk


def test_connections_are_limited_and_free_places_are_taken_again(served):
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(served.connect()) for _ in range(MAX_CONNECTIONS)]
        for connection in opened:
            connection.sendall(request("GET", "/v2/health/live", close=False))
            assert connection.recv(2**12).startswith(b"HTTP/1.1 200")
        (found,) = responses(served.send(b""))
        assert check_error(found, 503) == "too_many_connections"
        assert found[1]["retry-after"] == "1"
    while not served.send(request("GET", "/v2/health/live")).startswith(b"HTTP/1.1 200"):
        pass


def test_client_that_reads_no_answer_is_given_up(served):
    """Pipelined requests whose answers nobody takes: the server stops reading, and in the end closes."""
    before = served.rss_bytes()
    with served.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(120)
        with pytest.raises(ConnectionError):
            connection.sendall(request("GET", "/openapi.json", close=False) * 200_000)

    assert served.is_alive()
    assert served.rss_bytes() - before < 32 * 2**20
