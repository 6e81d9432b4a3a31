"""One JSON line for each request, where the settings ask for it.

Rules of this file: text from clients goes through JSON, so that no line break or escape sequence reaches a terminal;
durations come from a monotonic clock.
"""

import json
import logging
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .request_id import KEY

logger = logging.getLogger("cellgate.access")

_MAX_PATH = 200
CLIENT_GONE = 499  # no answer was sent; the number is customary in logs and never on the wire


def log_request(
    method: str, path: str, status: int, answer_bytes: int, duration_s: float, request_id: str | None = None
) -> None:
    """Write the line of one request."""
    line: dict[str, str | int | float] = {
        "method": method[:32],
        "path": path[:_MAX_PATH],
        "status": status,
        "answer_bytes": answer_bytes,
        "duration_s": round(duration_s, 6),
    }
    if request_id is not None:
        line["request_id"] = request_id
    logger.info("%s", json.dumps(line))


class AccessLog:
    """ASGI middleware that logs method, path, status, size and duration.

    Args:
        app: what is inside.
        clock: monotonic, in seconds.
    """

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.perf_counter) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on and log at the end, whatever the end is."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = self._clock()
        status, size_bytes = CLIENT_GONE, 0

        async def send_counting(message: Message) -> None:
            nonlocal status, size_bytes
            status = message.get("status", status)
            size_bytes += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, send_counting)
        finally:
            seconds = self._clock() - start
            log_request(scope["method"], scope["path"], status, size_bytes, seconds, scope.get(KEY))
