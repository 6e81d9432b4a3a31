"""A word for every request, so that a client, the log and a trace speak of the same one.

Rules of this file: a client's own word is taken where it is plain, and never repaired: what is odd is replaced. The
same word goes out in the answer's header by every route.
"""

import itertools
import re
import secrets
from collections.abc import Callable, Iterable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER: Final = b"x-request-id"
# What an answer begins with, whose headers name the request.
_BEGINS: Final = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
KEY: Final = "cellgate.request_id"  # in a request's scope
_PLAIN: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


class RequestIds:
    """Names requests: by a random part that is this process's, and a number.

    Attributes:
        make: returns a new name. Hot path: no Python runs in it.
    """

    def __init__(self) -> None:
        form = secrets.token_hex(6).encode("ascii") + b"-%x"
        self.make: Callable[[], bytes] = map(form.__mod__, itertools.count(1)).__next__

    def take(self, given: bytes | None) -> bytes:
        """Return what a client gave, if it is plain, else a new one."""
        if given is not None and _PLAIN.fullmatch(given):
            return given
        return self.make()


def given_id(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the id that a request's headers hold; None where there is none, or several.

    Args:
        headers: names in lower case.
    """
    found = [value for name, value in headers if name == HEADER]
    return found[0] if len(found) == 1 else None


class NameRequests:
    """ASGI middleware that names every request and every WebSocket, in its scope and in the answer's header.

    Args:
        app: what is inside.
        ids: of this process.
    """

    def __init__(self, app: ASGIApp, ids: RequestIds) -> None:
        self._app = app
        self._ids = ids

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; the header comes last."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if KEY not in scope:  # the connection may have refused it meanwhile, and said a name
            scope[KEY] = self._ids.take(given_id(scope["headers"])).decode("ascii")
        word = scope[KEY].encode("ascii")

        async def send_named(message: Message) -> None:
            if message["type"] in _BEGINS:
                message = {**message, "headers": [*message.get("headers", ()), (HEADER, word)]}
            await send(message)

        await self._app(scope, receive, send_named)
