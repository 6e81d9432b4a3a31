"""A small HTTP server over real sockets, written without the code under test, and a toy model that checks its state."""

import asyncio
import inspect
import json
import threading
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest

from .both_clients import opened

I, H = 3, 2  # features, width of the state


@dataclass
class Asked:
    """One request as the server saw it."""

    method: str
    path: str
    headers: dict
    body: bytes
    inputs: dict = field(default_factory=dict)
    parameters: dict = field(default_factory=dict)
    outputs: list = field(default_factory=list)


def read_infer(asked):
    """Take the tensors of an inference request apart, from the protocol's page and nothing else."""
    size = asked.headers.get("inference-header-content-length")
    head = json.loads(asked.body if size is None else asked.body[: int(size)])
    place = len(asked.body) if size is None else int(size)
    for tensor in head["inputs"]:
        dtype = {"FP32": "<f4", "INT32": "<i4", "INT64": "<i8"}[tensor["datatype"]]
        if "data" in tensor:
            values = np.array(tensor["data"], dtype)
        else:
            end = place + tensor["parameters"]["binary_data_size"]
            values, place = np.frombuffer(asked.body[place:end], dtype), end
        asked.inputs[tensor["name"]] = values.reshape(tensor["shape"])
    assert place == len(asked.body), "bytes after the last tensor"
    asked.parameters = head.get("parameters", {})
    asked.outputs = [output["name"] for output in head.get("outputs", [])]
    return asked


def toy_model(asked):
    """State: h adds up what was seen, c counts steps. Answers in the form of the question; y is h."""
    x, B = asked.inputs["x"], len(asked.inputs["x"])
    lengths = asked.inputs.get("lengths", np.full(B, x.shape[1]))
    mask = np.arange(x.shape[1]) < lengths[:, None]
    assert not x[~mask].any(), "padding is zero"
    h = asked.inputs.get("h0", np.zeros((1, B, H), np.float32)) + (x.sum(2) * mask).sum(1)[None, :, None]
    c = asked.inputs.get("c0", np.zeros((1, B, H), np.float32)) + lengths[None, :, None]
    return {"y": h[0].astype("<f4"), "h_n": h.astype("<f4"), "c_n": c.astype("<f4")}


def render(asked, found):
    """Return an inference response."""
    names = asked.outputs or ["y"]
    arrays = {name: found[name] for name in names}
    head = [{"name": name, "datatype": "FP32", "shape": list(array.shape)} for name, array in arrays.items()]
    if not asked.parameters.get("binary_data_output"):
        for tensor, array in zip(head, arrays.values(), strict=True):
            tensor["data"] = array.reshape(-1).tolist()
        return json.dumps({"model_name": "toy", "outputs": head}).encode()
    for tensor, array in zip(head, arrays.values(), strict=True):
        tensor["parameters"] = {"binary_data_size": array.nbytes}
    return json.dumps({"model_name": "toy", "outputs": head}).encode() + b"".join(a.tobytes() for a in arrays.values())


def metadata(**changes):
    tensor = {"datatype": "FP32"}
    found = {
        "name": "toy",
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [
            {"name": "x", **tensor, "shape": [-1, -1, I]},
            {"name": "lengths", "datatype": "INT32", "shape": [-1]},
            {"name": "h0", **tensor, "shape": [1, -1, H]},
            {"name": "c0", **tensor, "shape": [1, -1, H]},
        ],
        "outputs": [
            {"name": "y", **tensor, "shape": [-1, H]},
            {"name": "h_n", **tensor, "shape": [1, -1, H]},
            {"name": "c_n", **tensor, "shape": [1, -1, H]},
        ],
        "properties": {
            "optional_inputs": '["lengths", "h0", "c0"]',
            "outputs_on_request": '["h_n", "c_n"]',
            "streamable": "true",
        },
    }
    return {**found, **changes}


class Server:
    """Answers GET with metadata, POST with what `infer(asked)` gives: (status, body), bytes to send as they are, or
    None to close the connection. It may be a coroutine. `asked` holds every POST in the order of its arrival. With a
    context in `tls` it speaks TLS.
    """

    def __init__(self, infer=None, *, extensions=("binary_tensor_data",), models=("toy",), tls=None, **changes):
        self.tls = tls
        self.infer = infer or (lambda asked: (200, render(asked, toy_model(asked))))
        self.pages = {
            "/v2": {"name": "test", "version": "0", "extensions": list(extensions)},
            "/v2/models": {"models": list(models)},
            "/v2/models/toy": metadata(**changes),
        }
        self.asked = []
        self.connections = 0
        self.url = ""
        self._writers = set()

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    async def stop(self):
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader, writer):
        self._writers.add(writer)
        self.connections += 1
        try:
            while (head := await reader.readuntil(b"\r\n\r\n")) is not None:
                data = await self._answer(head, reader)
                if data is None:
                    break
                writer.write(data)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except asyncio.CancelledError:  # the loop ends
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _answer(self, head, reader):
        start, *lines = head.decode().split("\r\n")[:-2]
        method, path, _ = start.split(" ")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if method == "GET":
            status = 200 if path in self.pages else 404
            return respond(status, json.dumps(self.pages.get(path, {"error": "no such model"})).encode())
        asked = read_infer(Asked(method, path, headers, body))
        self.asked.append(asked)
        found = self.infer(asked)
        found = await found if inspect.isawaitable(found) else found
        return respond(*found, length_of_head(found[1])) if isinstance(found, tuple) else found


def length_of_head(body):
    """Return the header that says where the JSON ends, for a body in which binary tensors follow it."""
    try:
        _, end = json.JSONDecoder().raw_decode(body.decode("latin-1"))
    except ValueError:
        return ""
    return f"Inference-Header-Content-Length: {end}\r\n" if end < len(body) else ""


def respond(status, body, more=""):
    return f"HTTP/1.1 {status} Words\r\nContent-Type: x/y\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="session")
def answer_bytes():
    return respond


@pytest.fixture(scope="session")
def toy_metadata():
    return metadata


@pytest.fixture(scope="session")
def parse_infer():
    """Take the raw bytes of a whole HTTP request apart."""

    def parse(raw):
        head, _, body = raw.partition(b"\r\n\r\n")
        start, *lines = head.decode().split("\r\n")
        method, path, version = start.split(" ")
        assert version == "HTTP/1.1"
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        assert int(headers["content-length"]) == len(body)
        return read_infer(Asked(method, path, headers, body))

    return parse


@pytest.fixture(scope="session")
def toy():
    """Compute and render the toy model's answer."""
    return lambda asked: (200, render(asked, toy_model(asked)))


@pytest.fixture(scope="session")
def serve_here():
    """A server on the running event loop."""

    @asynccontextmanager
    async def serve(infer=None, **changes):
        server = Server(infer, **changes)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()

    return serve


@pytest.fixture(scope="session")
def serve_aside():
    """A server in a thread, for what blocks."""

    @contextmanager
    def serve(infer=None, **changes):
        server, ready, loop = Server(infer, **changes), threading.Event(), asyncio.new_event_loop()

        def run():
            asyncio.set_event_loop(loop)
            loop.run_until_complete(server.start())
            ready.set()
            loop.run_forever()
            loop.run_until_complete(server.stop())
            loop.run_until_complete(loop.shutdown_asyncgens())
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()

        thread = threading.Thread(target=run)
        thread.start()
        assert ready.wait(10)
        try:
            yield server
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            assert not thread.is_alive()

    return serve


@pytest.fixture(params=["plain", "async"])
def open_client(request):
    """Open the plain client, or the async one with the plain one's face."""
    return partial(opened, request.param)
