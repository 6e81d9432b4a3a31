"""What is refused for a request's head or its connection, before anybody looks at what it asks.

Rules of this file: those of `errors`: a class builds the message from facts, and it names the thing, expected, found
and the remedy. A class that closes the connection says so in its headers.
"""

from typing import ClassVar, Final

from .errors import ServeError, shown

_SHOWN: Final = 120  # characters of a path that an answer repeats
_ONE_SPELLING: Final = "a path in its plainest spelling, without //, \\ and letters or slashes as %"


class UnknownPath(ServeError):  # noqa: N818
    """Nothing is there; or the path is another spelling of one, which only a detour round a proxy's rules would use."""

    status = 404
    code = "not_found"

    def __init__(self, method: str, path: str, expected: str = _ONE_SPELLING, remedy: str = "") -> None:
        end = f"; {remedy}" if remedy else ""
        super().__init__(f"request: expected {expected}, found {method[:32]} {path[:_SHOWN]}{end}")


class UpgradeRequired(ServeError):  # noqa: N818
    """A plain request for what is a WebSocket. Both headers are to be sent: RFC 9110, sections 7.8 and 15.5.22."""

    status = 426
    code = "upgrade_required"
    headers: ClassVar[dict[str, str]] = {"Upgrade": "websocket", "Connection": "Upgrade"}

    def __init__(self) -> None:
        super().__init__(
            "request: expected a WebSocket (Upgrade: websocket), found a plain GET; a proxy between may drop the header"
        )


class Unauthorized(ServeError):  # noqa: N818
    """The server asks for a key, and the request brings none."""

    status = 401
    code = "unauthorized"
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": 'Bearer realm="cellgate"'}

    def __init__(self) -> None:
        super().__init__("key: expected Authorization: Bearer KEY, or X-API-Key: KEY, found neither")


class Forbidden(ServeError):  # noqa: N818
    """The request brings a key that the server does not know, or two of them."""

    status = 403
    code = "forbidden"

    def __init__(self, found: str) -> None:
        super().__init__(f"key: expected one that this server knows, found {found}")


class ForeignOrigin(ServeError):  # noqa: N818
    """A web page of somebody else asks, through the browser of somebody who can reach this server."""

    status = 403
    code = "foreign_origin"

    def __init__(self, origin: str) -> None:
        super().__init__(
            f"Origin: expected the server's own or a listed one, found {shown(origin)}; see the setting cors_origins"
        )


class WrongHost(ServeError):  # noqa: N818
    """The request is addressed to a name that is not this server's: DNS rebinding, or a proxy that nobody told of."""

    status = 421
    code = "wrong_host"

    def __init__(self, host: str) -> None:
        super().__init__(f"Host: expected a name of this server, found {shown(host)}; see the setting allowed_hosts")


class MalformedRequest(ServeError):  # noqa: N818
    """No HTTP, or HTTP that two readers could understand in two ways. The connection is closed."""

    status = 400
    code = "malformed_request"
    headers: ClassVar[dict[str, str]] = {"Connection": "close"}

    def __init__(self, what: str, expected: str, found: str) -> None:
        super().__init__(f"{what}: expected {expected}, found {found}")


class HeadTooLarge(ServeError):  # noqa: N818
    """Request line and headers, or what stands round the chunks of a body, are longer than the limit."""

    status = 431
    code = "headers_too_large"
    headers: ClassVar[dict[str, str]] = {"Connection": "close"}

    def __init__(self, limit: str) -> None:
        super().__init__(f"headers: expected at most {limit}, found more")


class TooManyChunks(ServeError):  # noqa: N818
    """A chunked body comes in more pieces than the limit."""

    status = 413
    code = "too_many_chunks"
    headers: ClassVar[dict[str, str]] = {"Connection": "close"}

    def __init__(self, max_chunks: int) -> None:
        super().__init__(f"body: expected at most {max_chunks} chunks, found more; send larger ones")


class RequestTimeout(ServeError):  # noqa: N818
    """The client takes too long to send its request. The connection is closed."""

    status = 408
    code = "request_timeout"
    retryable = True
    headers: ClassVar[dict[str, str]] = {"Connection": "close"}

    def __init__(self, what: str, limit_s: float) -> None:
        super().__init__(f"{what}: expected all of it within {limit_s:g} seconds, found it unfinished; send faster")


class TooManyConnections(ServeError):  # noqa: N818
    """As many connections are open as may be. This one is closed."""

    status = 503
    code = "too_many_connections"
    retryable = True
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1", "Connection": "close"}

    def __init__(self, max_connections: int) -> None:
        super().__init__(f"connections: expected at most {max_connections}, found more; close some, or try again later")
