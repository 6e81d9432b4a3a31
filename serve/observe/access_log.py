"""One JSON line for each request, where the settings ask for it.

Rules of this file: text from clients goes through JSON, so that no line break or escape sequence reaches a terminal;
durations come from a monotonic clock. Every protocol writes the same keys, which `docs/metrics.md` lists.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .operation_log import event_head, written_to_stderr
from .request_id import KEY

logger = logging.getLogger("cellgate.access")

_MAX_PATH = 200
_MAX_METHOD = 32
CLIENT_GONE = 499  # no answer was sent; the number is customary in logs and never on the wire
REFUSED: Final = "cellgate.refused"  # in a request's scope, where its connection has answered it: the `RequestEnd`
# An answer's begin and its pieces, by the type of the scope. Of a WebSocket only its refusal is answered by the layers
# below; its messages are requests of their own (`request_watch`).
_ANSWERS: Final[Mapping[str, tuple[str, str]]] = {
    "http": ("http.response.start", "http.response.body"),
    "websocket": ("websocket.http.response.start", "websocket.http.response.body"),
}


class AccessLine:
    """What is logged of one request; as text, one JSON object.

    Attributes:
        fields: by their keys.
    """

    __slots__ = ("fields",)

    def __init__(self, fields: Mapping[str, str | int | float]) -> None:
        self.fields = fields

    def __str__(self) -> str:
        return json.dumps(self.fields)


def log_request(
    *,
    protocol: str,
    method: str,
    path: str,
    model: str,
    status: int,
    answer_bytes: int,
    duration_s: float,
    request_id: str | None = None,
    grpc_status: str = "",
) -> None:
    """Write the line of one request.

    Args:
        protocol: http, websocket or grpc, as the requests are counted.
        method: HTTP's verb, or the name of gRPC's method.
        path: as it came.
        model: that was asked for an inference; "": none, or none that is served.
        status: in HTTP's numbers, whatever the protocol; 499: the client left.
        answer_bytes: of the answer's body or message.
        duration_s: from the request's head to its end.
        request_id: of the request.
        grpc_status: name of gRPC's code, where that is the protocol.
    """
    line: dict[str, str | int | float] = {
        "protocol": protocol,
        "method": method[:_MAX_METHOD],
        "path": path[:_MAX_PATH],
        "model": model,
        "status": status,
        "answer_bytes": answer_bytes,
        "duration_s": round(duration_s, 6),
    }
    if grpc_status:
        line["grpc_status"] = grpc_status
    if request_id is not None:
        line["request_id"] = request_id
    logger.info(AccessLine(line))


class RequestEnd(NamedTuple):
    """How a request ended.

    Attributes:
        status: of the answer; 499: there was none.
        answer_bytes: of its body.
        error: code of what went wrong, or "".
    """

    status: int
    answer_bytes: int
    error: str


def end_of(scope: Scope, status: int, answer_bytes: int = 0, error: str = "") -> RequestEnd:
    """Return how a request ended for its client: as its connection refused it, else as its routes say.

    Args:
        scope: of the request.
        status: of the routes' answer; 499: they gave none.
        answer_bytes: of it.
        error: code of what went wrong, as the routes say.
    """
    found: RequestEnd | None = scope.get(REFUSED)
    return RequestEnd(status, answer_bytes, error) if found is None else found


class AccessFormat(logging.Formatter):
    """The line of a request, after what every line of the logs begins with.

    Args:
        process: name of this process.
    """

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return one JSON object."""
        fields = record.msg.fields if isinstance(record.msg, AccessLine) else {"message": record.getMessage()}
        return json.dumps({**event_head(record, self._process), **fields})


@contextmanager
def access_logging(process: str, *, enabled: bool) -> Iterator[None]:
    """Send the access log to stderr while inside.

    Args:
        process: name of this process.
        enabled: whether the settings ask for it.
    """
    if not enabled:
        yield
        return
    level = logger.level
    with written_to_stderr(logger, AccessFormat(process)):
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.setLevel(level)


def path_of(scope: Scope) -> str:
    """Return the path of a request as it came, without the query: another spelling of one is another path."""
    raw_path: bytes | None = scope.get("raw_path")
    path: str = scope["path"] if raw_path is None else raw_path.partition(b"?")[0].decode("latin-1")
    return path


class AccessLog:
    """ASGI middleware that logs every request of HTTP, and every WebSocket that is refused.

    Args:
        app: what is inside.
        models: the model of each path of inference.
        clock: monotonic, in seconds.
    """

    def __init__(
        self, app: ASGIApp, models: Mapping[str, str] | None = None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._app = app
        self._models = models or {}
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on and log at the end, whatever the end is."""
        kind = scope["type"]
        if kind not in _ANSWERS:
            await self._app(scope, receive, send)
            return
        begin, piece = _ANSWERS[kind]
        start, status, size_bytes = self._clock(), CLIENT_GONE, 0

        async def send_counting(message: Message) -> None:
            nonlocal status, size_bytes
            if message["type"] == begin:
                status = message["status"]
            elif message["type"] == piece:
                size_bytes += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, send_counting)
        finally:
            status, size_bytes, _ = end_of(scope, status, size_bytes)
            if kind == "http" or status != CLIENT_GONE:
                path = path_of(scope)
                log_request(
                    protocol=kind,
                    method=scope.get("method", "GET"),
                    path=path,
                    model=self._models.get(path, ""),
                    status=status,
                    answer_bytes=size_bytes,
                    duration_s=self._clock() - start,
                    request_id=scope.get(KEY),
                )
