"""Clients in a closed loop over every protocol, that write down what became of each request when the server stops.

Rules of this file: a thread and a connection for each; whatever a client met is one word of `ORDERLY`, or a violation.
"""

import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import grpc
from served import HOST, Server
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect as connect_socket

from cellgate.serve.rpc.inference_pb2 import ModelInferRequest, ModelInferResponse, ModelStreamInferResponse

PATIENCE_S: Final = 60.0
GOING_AWAY: Final = 1012
ORDERLY: Final = (
    "answered",
    "refused in order",  # 503 with an error object; gRPC's UNAVAILABLE with our code
    "no connection",  # refused before anything was sent
    "unread",  # the connection ended under a request of which the server had not read a byte
)
INFER: Final = "/inference.GRPCInferenceService/ModelInfer"
STREAM: Final = "/inference.GRPCInferenceService/ModelStreamInfer"


class Ledger:
    """What became of the requests, from any thread."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.violations: list[str] = []
        self.doubtful: dict[str, str] = {}  # requests by their ids that ended without an answer: read, or not?
        self.ready: list[int] = []
        self._lock = threading.Lock()

    def count(self, protocol: str, what: str) -> None:
        """Count a request's end."""
        with self._lock:
            self.counts[protocol, what] += 1

    def violate(self, protocol: str, what: str) -> None:
        """Note what must not be."""
        with self._lock:
            self.counts[protocol, "violation"] += 1
            self.violations.append(f"{protocol}: {what}")

    def doubt(self, protocol: str, request_id: str, what: str) -> None:
        """Note a request without an answer; the server's access log decides (`settle`)."""
        with self._lock:
            self.doubtful[request_id] = f"{protocol}: {what}"

    def settle(self, log: str) -> None:
        """Judge the doubtful ones: what stands in the access log was read, and should have been answered."""
        for request_id, what in self.doubtful.items():
            if f'"{request_id}"' in log:
                self.violate("HTTP", f"{what}, and the server had read the request")
            else:
                self.count(what.partition(":")[0], "unread")


def read_answer(connection: socket.socket, received: bytearray) -> tuple[int, bytes, bool]:
    """Return an answer's status, its body, and whether the connection stays; `received` gets what has come.

    Raises:
        OSError, EOFError: the connection ended before.
    """
    while (end := received.find(b"\r\n\r\n")) < 0:
        received += _more(connection)
    head = bytes(received[:end]).lower()
    size = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(received) < end + 4 + size:
        received += _more(connection)
    return int(head.split()[1]), bytes(received[end + 4 :]), b"connection: close" not in head


def _more(connection: socket.socket) -> bytes:
    chunk = connection.recv(2**16)
    if not chunk:
        raise EOFError
    return chunk


class HttpClient:
    """Requests over one kept connection, and a new one where the server says that it closes or has closed.

    Args:
        server: to ask.
        ledger: to write to.
        name: of this client, in the requests' ids.
        body: of each request, JSON; `%d` in it is exchanged for the number of the request.
        is_stream: the requests are the steps of one stream.
    """

    def __init__(self, server: Server, ledger: Ledger, name: str, request: dict[str, Any], *, is_stream: bool) -> None:
        self._server, self._ledger, self._name, self._request = server, ledger, name, request
        self._protocol = "HTTP, stream" if is_stream else "HTTP"
        self._is_stream = is_stream
        self._socket: socket.socket | None = None

    def run(self, stopped: threading.Event) -> None:
        """Ask until the server is gone."""
        number = 0
        while self._connect(stopped):
            number += 1
            if not self._ask(number):
                self._close()
        self._close()

    def _connect(self, stopped: threading.Event) -> bool:
        if self._socket is not None:
            return True
        try:
            self._socket = socket.create_connection((HOST, self._server.port), timeout=PATIENCE_S)
        except OSError as err:
            if stopped.is_set():
                self._ledger.count(self._protocol, "no connection")
            else:
                self._ledger.violate(self._protocol, f"no connection before the stop: {err}")
            return False
        return True

    def _ask(self, number: int) -> bool:
        """Send one request and take its answer; return whether the connection goes on."""
        request_id = f"{self._name}-{number}"
        assert self._socket is not None
        received = bytearray()
        try:
            self._socket.sendall(self._bytes(request_id, number))
            status, body, keeps = read_answer(self._socket, received)
        except (OSError, EOFError) as err:
            if received:
                self._ledger.violate(self._protocol, f"half an answer to {request_id}: {received[:80]!r}")
            else:
                self._ledger.doubt(self._protocol, request_id, f"no answer to {request_id} ({err!r})")
            return False
        self._judge(request_id, status, body)
        return keeps

    def _judge(self, request_id: str, status: int, body: bytes) -> None:
        found: dict[str, Any] = {}
        with suppress(ValueError):
            found = json.loads(body)
        if status == 200 and "outputs" in found:
            self._ledger.count(self._protocol, "answered")
        elif status == 503 and {"error", "code"} <= found.keys():
            self._ledger.count(self._protocol, "refused in order")
        else:
            self._ledger.violate(self._protocol, f"{status} to {request_id}: {body[:200]!r}")

    def _bytes(self, request_id: str, number: int) -> bytes:
        request = self._request
        if self._is_stream:
            steps = {"sequence_id": self._name, "sequence_step": number - 1, "sequence_start": number == 1}
            request = {**request, "parameters": steps}
        body = json.dumps(request).encode()
        path = f"/v2/models/{self._server.model}/infer"
        head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nX-Request-Id: {request_id}\r\nContent-Length: {len(body)}"
        return head.encode() + b"\r\n\r\n" + body

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def run_live(server: Server, ledger: Ledger, request: dict[str, Any], stopped: threading.Event) -> None:
    """Ask over a WebSocket until it is closed."""
    address = f"ws://{HOST}:{server.port}/v2/models/{server.model}/stream"
    message = json.dumps(request)
    try:
        with connect_socket(address, open_timeout=PATIENCE_S, close_timeout=1) as live:
            while True:
                live.send(message)
                found = json.loads(live.recv(PATIENCE_S))
                if "outputs" in found:
                    ledger.count("WebSocket", "answered")
                elif found.get("code") in ("not_ready", "queue_full"):
                    ledger.count("WebSocket", "refused in order")
                else:
                    ledger.violate("WebSocket", f"answered {found}")
    except ConnectionClosed as err:
        code = None if err.rcvd is None else err.rcvd.code
        if code == GOING_AWAY and stopped.is_set():
            ledger.count("WebSocket", "unread")  # the close says so: what was read has been answered before it
        else:
            ledger.violate("WebSocket", f"closed with {code}")
    except (OSError, InvalidHandshake) as err:
        ledger.violate("WebSocket", f"not opened: {err!r}")


def run_rpc(server: Server, ledger: Ledger, request: bytes, stopped: threading.Event) -> None:
    """Ask by gRPC, one call after another, until the server is gone."""
    with grpc.insecure_channel(f"{HOST}:{server.rpc_port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        infer = channel.unary_unary(INFER, response_deserializer=ModelInferResponse.FromString)
        while True:
            try:
                infer(request, timeout=PATIENCE_S)
                ledger.count("gRPC", "answered")
            except grpc.RpcError as err:
                if not goes_on(err, ledger, "gRPC", stopped):
                    return


def run_rpc_stream(server: Server, ledger: Ledger, request: bytes, stopped: threading.Event) -> None:
    """Ask on a stream of gRPC, the next request after each answer, until it ends."""
    with grpc.insecure_channel(f"{HOST}:{server.rpc_port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        may_send, is_over = threading.Semaphore(1), threading.Event()

        def requests() -> Iterator[bytes]:
            while may_send.acquire() and not is_over.is_set():
                yield request

        stream = channel.stream_stream(STREAM, response_deserializer=ModelStreamInferResponse.FromString)
        try:
            for answer in stream(requests(), timeout=PATIENCE_S):
                if answer.error_message:
                    ledger.violate("gRPC, stream", answer.error_message)
                else:
                    ledger.count("gRPC, stream", "answered")
                may_send.release()
            ledger.count("gRPC, stream", "unread")  # ended in order: what was read has been answered before
        except grpc.RpcError as err:
            goes_on(err, ledger, "gRPC, stream", stopped)
        finally:
            is_over.set()
            may_send.release()


def goes_on(err: grpc.RpcError, ledger: Ledger, protocol: str, stopped: threading.Event) -> bool:
    """Judge a call's failure; return whether the client asks again."""
    trailing = dict(err.trailing_metadata() or ())
    is_ours = "error-code" in trailing
    if err.code() is grpc.StatusCode.UNAVAILABLE and stopped.is_set():
        # Without our code it is gRPC's own word: no connection, or one that ended, whose calls it may send again.
        ledger.count(protocol, "refused in order" if is_ours else "no connection")
        return is_ours
    if is_ours and trailing["error-code"] == "queue_full":
        ledger.count(protocol, "refused in order")
        return True
    ledger.violate(protocol, f"{err.code()}: {err.details()}")
    return False


def watch_readiness(server: Server, ledger: Ledger) -> None:
    """Ask over and over whether the server is ready, and note the statuses; 0 where it is not there any more."""
    while True:
        try:
            with socket.create_connection((HOST, server.port), timeout=PATIENCE_S) as connection:
                keeps = True
                while keeps:
                    connection.sendall(f"GET /v2/health/ready HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
                    status, _, keeps = read_answer(connection, bytearray())
                    ledger.ready.append(status)
        except (OSError, EOFError):
            ledger.ready.append(0)
            return


def rpc_request(server: Server, request: dict[str, Any]) -> bytes:
    """Return the same request as a message of gRPC."""
    message = ModelInferRequest(model_name=server.model)
    for tensor in request["inputs"]:
        added = message.inputs.add(name=tensor["name"], shape=tensor["shape"], datatype=tensor["datatype"])
        added.contents.fp32_contents.extend(tensor["data"])
    found: bytes = message.SerializeToString()
    return found
