"""The page at /docs: Swagger UI, shipped with the package and served from memory. Nothing comes from a CDN.

Rules of this file: no file is opened while serving, and no path comes from a request; the page may load only what this
server sends (its Content-Security-Policy says so to the browser).
"""

import gzip
from collections.abc import Callable
from importlib import resources

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>cellgate</title>
<link rel="icon" href="docs/favicon.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
# validatorUrl null: else the page would send the document's address to a public service.
_START = """SwaggerUIBundle({
  url: "openapi.json", dom_id: "#swagger-ui", validatorUrl: null, deepLinking: true,
  displayRequestDuration: true, defaultModelsExpandDepth: 0,
});
"""
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_CACHED = {**_HEADERS, "Cache-Control": "public, max-age=86400", "Vary": "Accept-Encoding"}


def docs_routes(document: Callable[[], bytes]) -> list[Route]:
    """Return the routes of the page, of what leads to it, of its parts, and the OpenAPI document.

    Args:
        document: returns the OpenAPI document as JSON.
    """
    page = {**_HEADERS, "Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
    fresh = {**_HEADERS, "Cache-Control": "no-cache"}
    return [
        Route("/", _to_page, methods=["GET"], include_in_schema=False),
        _constant("/docs", _PAGE.encode(), "text/html; charset=utf-8", page),
        _constant("/docs/start.js", _START.encode(), "text/javascript; charset=utf-8", fresh),
        _constant("/docs/favicon.png", _static("favicon.png"), "image/png", _CACHED),
        _compressed("/docs/swagger-ui-bundle.js", _static("swagger-ui-bundle.js.gz"), "text/javascript; charset=utf-8"),
        _compressed("/docs/swagger-ui.css", _static("swagger-ui.css.gz"), "text/css; charset=utf-8"),
        _current("/openapi.json", document, "application/json", fresh),
    ]


async def _to_page(_request: Request) -> Response:
    """Lead whoever opens the bare address to the page; relative, for a proxy may have put a prefix before it."""
    return RedirectResponse("docs", headers=_HEADERS)


def _static(name: str) -> bytes:
    return resources.files(__package__).joinpath("static", name).read_bytes()


def _constant(path: str, content: bytes, media_type: str, headers: dict[str, str]) -> Route:
    async def send(_request: Request) -> Response:
        return Response(content, media_type=media_type, headers=headers)

    return Route(path, send, methods=["GET"], include_in_schema=False)


def _current(path: str, content: Callable[[], bytes], media_type: str, headers: dict[str, str]) -> Route:
    async def send(_request: Request) -> Response:
        return Response(content(), media_type=media_type, headers=headers)

    return Route(path, send, methods=["GET"], include_in_schema=False)


def _compressed(path: str, content: bytes, media_type: str) -> Route:
    """Every browser takes gzip; whoever does not say so gets the plain bytes."""

    async def send(request: Request) -> Response:
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(content, media_type=media_type, headers={**_CACHED, "Content-Encoding": "gzip"})
        return Response(gzip.decompress(content), media_type=media_type, headers=_CACHED)

    return Route(path, send, methods=["GET"], include_in_schema=False)
