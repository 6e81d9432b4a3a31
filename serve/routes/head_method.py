"""HEAD: whatever answers GET answers it too, with the same status and headers and without the body.

Rules of this file: no route knows of it, and none answers HEAD in another way than GET. Load balancers probe with it.
Source: RFC 9110, section 9.3.2.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """ASGI middleware right round the routes, so that the layers outside still see the method that came.

    Args:
        app: what is inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask the routes for what GET says, and keep its body back."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_bare(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self._app({**scope, "method": "GET"}, receive, send_bare)


def with_head(methods: str) -> str:
    """Return the methods of an `Allow` header in one order, with HEAD where GET is one of them."""
    found = {method.strip() for method in methods.split(",") if method.strip()}
    return ", ".join(sorted(found | {"HEAD"} if "GET" in found else found))
