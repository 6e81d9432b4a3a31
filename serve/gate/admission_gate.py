"""The ASGI side of admission: one middleware round all routes, so that none can be reached past it.

Rules of this file: whatever is no request of a kind known here goes nowhere; the decision is `admission`'s. Every
answer says that it is what its Content-Type says; pages of listed origins are told that they may read it.
"""

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..error_answer import NO_SNIFFING, answer_error
from ..errors import ServeError
from ..serving_state import ServingState
from .admission import Admitted

# What a page may send. All else that it could want is refused by its browser before it gets here.
_METHODS = "DELETE, GET, POST, PUT"
_HEADERS = "authorization, content-type, inference-header-content-length, x-api-key, x-request-id"
_EXPOSED = "inference-header-content-length, retry-after, x-request-id"
_PREFLIGHT_AGE_S = "600"


class AdmissionGate:
    """ASGI middleware that lets in what is admitted.

    Args:
        app: what is inside.
        serving: has the admission, which may be exchanged while serving.
    """

    def __init__(self, app: ASGIApp, serving: ServingState) -> None:
        self._app = app
        self._serving = serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit and pass on, or answer why not."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        is_http = scope["type"] == "http"
        admission = self._serving.admission
        try:
            admitted = admission.admit(
                scope["method"] if is_http else "WEBSOCKET", raw_path_of(scope), scope["headers"], _peer_of(scope)
            )
        except ServeError as err:
            if is_http:  # its page is to see why; a WebSocket that is refused is answered as HTTP, to no page
                send = _adding(Admitted(origin=admission.listed_origin(scope["headers"])), send)
            await answer_error(err)(scope, receive, send)
            return
        if not is_http:
            await self._app(scope, receive, send)
        elif admitted.is_preflight:
            await _preflight(admitted)(scope, receive, send)
        else:
            await self._app(scope, receive, _adding(admitted, send))


def raw_path_of(scope: Scope) -> bytes:
    """Return the path as it came, without the query."""
    found: bytes | None = scope.get("raw_path")
    return scope["path"].encode() if found is None else found.partition(b"?")[0]


def _peer_of(scope: Scope) -> str | None:
    client = scope.get("client")
    return None if client is None else str(client[0])


def _adding(admitted: Admitted, send: Send) -> Send:
    async def send_adding(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in NO_SNIFFING.items():
                headers.setdefault(name, value)
            if admitted.origin is not None:
                headers["access-control-allow-origin"] = admitted.origin.decode("latin-1")
                headers["access-control-expose-headers"] = _EXPOSED
                headers.add_vary_header("origin")
        await send(message)

    return send_adding


def _preflight(admitted: Admitted) -> Response:
    assert admitted.origin is not None
    return Response(
        status_code=204,
        headers={
            **NO_SNIFFING,
            "Access-Control-Allow-Origin": admitted.origin.decode("latin-1"),
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": _HEADERS,
            "Access-Control-Max-Age": _PREFLIGHT_AGE_S,
            "Vary": "origin",
        },
    )
