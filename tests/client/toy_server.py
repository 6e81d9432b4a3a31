"""A small HTTP server over real sockets, written without the code under test."""

import asyncio
import inspect
import json

from .toy_model import Asked, metadata, read_infer, render, toy_model


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
