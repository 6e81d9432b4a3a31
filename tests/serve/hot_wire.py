"""What the tests of HTTP connections share: a server in the test's own loop, and clients that see every byte."""

import asyncio
import json
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace

import anyio
import numpy as np
import uvicorn
from uvicorn.server import ServerState

from cellgate.serve.app import create_app
from cellgate.serve.connection.hot_surface import http_protocol
from cellgate.serve.settings import Settings

PATIENCE_S = 20


DATE = [(b"date", b"Thu, 01 Jan 2026 00:00:00 GMT")]


INFER = "/v2/models/steps/infer"


@asynccontextmanager
async def listen(models, engine, tls=None, tracer=None, **changes):
    """Serve on a free port of this event loop; yield the port, the application and the connections."""
    keep_alive_s = changes.pop("keep_alive_s", 15)
    settings = Settings(**changes)
    app = create_app(models, settings, engine, tracer=tracer)
    app.state.serving.ids.make = lambda: b"made"  # else each route would name a request in its own way
    config = uvicorn.Config(
        app, http=http_protocol(app, settings), ws="none", log_config=None, timeout_keep_alive=keep_alive_s
    )
    config.load()
    state = ServerState()
    state.default_headers = DATE
    loop = asyncio.get_running_loop()

    def make():
        return config.http_protocol_class(config=config, server_state=state, app_state={}, _loop=loop)

    async with app.router.lifespan_context(app):
        server = await loop.create_server(make, "127.0.0.1", 0, ssl=tls)
        try:
            with anyio.fail_after(PATIENCE_S):
                yield SimpleNamespace(
                    port=server.sockets[0].getsockname()[1], app=app, state=state, engine=engine, make=make
                )
        finally:
            server.close()
            for connection in list(state.connections):
                connection.transport.abort()


class Wire:
    """A client that sees every byte."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    @asynccontextmanager
    async def open(cls, served, tls=None):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=tls)
        try:
            yield cls(reader, writer)
        finally:
            writer.transport.abort()

    def send(self, data):
        self.writer.write(data)

    async def response(self):
        """Return the bytes of one response."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        while head.startswith(b"HTTP/1.1 100"):
            head += await self.reader.readuntil(b"\r\n\r\n")
            if head.count(b"HTTP/1.1 ") > 1:
                break
        lines = head.lower().split(b"\r\n")
        (length,) = [int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")]
        return head + await self.reader.readexactly(length)

    async def rest(self):
        """Return what comes until the server closes."""
        return await self.reader.read()


def raw(body=b"", *headers, path=INFER, method="POST", version="1.1", length=True):
    lines = [f"{method} {path} HTTP/{version}", "Host: test", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def status_of(response):
    return int(response.split(b" ", 2)[1])


def body_of(response):
    return response.partition(b"\r\n\r\n")[2]


X = {"name": "x", "shape": [1, 2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}


JSON = json.dumps({"inputs": [X], "id": "a"}).encode()


BAD = json.dumps({"inputs": [{**X, "shape": [1, 2, 7]}]}).encode()


BLOB = np.arange(4, dtype="<f4").tobytes()


HEAD = {key: value for key, value in X.items() if key != "data"} | {"parameters": {"binary_data_size": 16}}


def binary(blob=BLOB, **more):
    text = json.dumps({"inputs": [HEAD], **more}).encode()
    return raw(text + blob, f"Inference-Header-Content-Length: {len(text)}")


ALL_BINARY = {"binary_data_output": True}


def chunked(body, *headers):
    return raw(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body), "Transfer-Encoding: chunked", *headers, length=False)


class FakeTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self):
        super().__init__()
        self.writes, self.closing, self.reading = [], False, True

    def write(self, data):
        self.writes.append(bytes(data))

    def is_closing(self):
        return self.closing

    def close(self):
        self.closing = True

    def abort(self):
        self.closing = True

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True


def connect_fake(served):
    protocol, transport = served.make(), FakeTransport()
    protocol.connection_made(transport)
    return protocol, transport


async def until(condition):
    while not condition():  # noqa: ASYNC110 - nobody signals what a socket does; `listen` limits the time
        await asyncio.sleep(0)


async def answered(transport, count):
    await until(lambda: len(transport.writes) >= count)


def timed(seconds):
    return raw(json.dumps({"inputs": [X], "parameters": {"timeout": round(seconds * 1e6)}}).encode())


async def has_all_its_time(wire, port):
    """Whether a request with a timeout of a second that is sent now may take that second."""
    sent_s = time.monotonic()
    wire.send(timed(1.0))
    _, work = await port.next_work()
    return work.deadline_s >= sent_s + 1.0
