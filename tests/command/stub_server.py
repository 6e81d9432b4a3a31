"""A server of one model that answers an inference as a test says, over HTTP."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TENSOR = {"datatype": "FP32"}
TOY = {
    "name": "toy",
    "inputs": [{"name": "x", **TENSOR, "shape": [-1, -1, 2]}, {"name": "h0", **TENSOR, "shape": [1, -1, 3]}],
    "outputs": [{"name": "y", **TENSOR, "shape": [-1, 4]}, {"name": "h_n", **TENSOR, "shape": [1, -1, 3]}],
    "properties": {"optional_inputs": '["h0"]', "outputs_on_request": '["h_n"]', "streamable": "true"},
}


class Stub(ThreadingHTTPServer):
    """Knows one model; `answers(head)` gives the status and body of an inference."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.pages = {"/v2": {"extensions": ["binary_tensor_data"]}, "/v2/models": {"models": ["toy"]}}
        self.pages["/v2/models/toy"] = TOY
        self.answers = lambda _: (200, bytes(100))
        self.heads = []
        self.key = None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        if self._refuse_key():
            return
        page = self.server.pages.get(self.path)
        self._send(404 if page is None else 200, json.dumps(page or {"error": "nothing here"}).encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._refuse_key():
            return
        head = json.loads(body[: int(self.headers.get("Inference-Header-Content-Length", len(body)))])
        self.server.heads.append(head)
        self._send(*self.server.answers(head))

    def _refuse_key(self):
        if self.server.key is None or self.headers.get("Authorization") == f"Bearer {self.server.key}":
            return False
        self._send(403 if "Authorization" in self.headers else 401, b'{"error": "key"}')
        return True

    def _send(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass
