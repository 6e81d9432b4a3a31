"""Every failure as the protocol's error object, `{"error": …, "code": …}`, with the error's facts beside them.

Rules of this file: the only place that turns exceptions into answers. A client's fault is explained; a fault of ours
gets an opaque id that the log repeats beside the traceback, and nothing of the inside.
"""

import http
import logging
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .connection.refused_connections import FULL
from .errors import QueueFull, ServeError
from .head_errors import UnknownPath
from .infer.json_response import render_object
from .observe.fault_report import report_fault
from .observe.request_id import KEY
from .routes.head_method import with_head

logger = logging.getLogger("cellgate.serve")

_STATUS_FAULT = 500
_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")  # that a route may take; HEAD goes with GET
NO_SNIFFING = {"X-Content-Type-Options": "nosniff"}  # a browser is to believe the Content-Type, on every answer


def answer(status: int, error: str, code: str, headers: Mapping[str, str] | None = None, **more: int | str) -> Response:
    """Return an error object as response."""
    body = render_object({"error": error, "code": code, **more})
    return Response(body, status_code=status, media_type="application/json", headers={**NO_SNIFFING, **(headers or {})})


def answer_error(error: ServeError, request_id: str | None = None) -> Response:
    """Return the response for an error of this folder; for the id see `answer_fault`."""
    if error.status == _STATUS_FAULT:
        return answer_fault(error, request_id)
    return answer(error.status, str(error), error.code, error.headers, **error.facts)


def answer_fault(error: Exception, request_id: str | None = None) -> Response:
    """Log a fault of ours with its traceback and return a response that holds its id only; see `report_fault`."""
    fault = report_fault(error, request_id)
    return answer(_STATUS_FAULT, fault.text, fault.code, request_id=fault.request_id)


async def on_serve_error(request: Request, error: Exception) -> Response:
    """Handle a ServeError."""
    assert isinstance(error, ServeError)
    if isinstance(error, QueueFull):
        request.scope[FULL] = True
    return answer_error(error, request.scope.get(KEY))


async def on_http_error(request: Request, error: Exception) -> Response:
    """Handle what the framework refuses by itself: an unknown path, a wrong verb."""
    assert isinstance(error, HTTPException)
    status = http.HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    method, path = request.method, request.scope["path"]
    if status is not http.HTTPStatus.METHOD_NOT_ALLOWED:
        return answer_error(UnknownPath(method, path, *request.app.state.paths))
    headers["Allow"] = with_head(", ".join(_methods_of(request)))
    expected, found = f"the method {headers['Allow']} on this path", f"{method[:32]} {path[:120]}"
    return answer(status, f"request: expected {expected}, found {found}", status.name.lower(), headers)


def _methods_of(request: Request) -> list[str]:
    """Return those of all routes with this path; the framework names the first route's alone."""
    routes = request.app.routes
    asked = {method: {**request.scope, "method": method} for method in _METHODS}
    return [method for method, scope in asked.items() if any(route.matches(scope)[0] is Match.FULL for route in routes)]


class FaultBoundary:
    """ASGI middleware round everything: what nobody handled becomes a 500 with an id, and never a traceback.

    Args:
        app: what is inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; a client that went away gets no answer and no traceback in the log."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_noting(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_noting)
        except ClientDisconnect:
            logger.info("client went away before its request was read")
        except Exception as err:
            if started:  # half an answer is out: only closing the connection tells the client
                raise
            await answer_fault(err, scope.get(KEY))(scope, receive, send)
