"""What a frontend counts of its requests: how many, how they ended, how long they took.

Rules of this file: hot path. Places are looked up once; a request costs some additions to cells, no lock, no text.
"""

from bisect import bisect_left
from collections.abc import Mapping
from time import perf_counter
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .access_log import CLIENT_GONE, end_of, path_of
from .counter_layout import (
    FAILED_S,
    NO_MODEL,
    PROTOCOLS,
    READ_S,
    RENDER_S,
    REQUEST_S,
    REQUESTS,
    SECONDS,
    STATUSES,
)
from .counter_page import CounterPage

_OK: Final = 200
_HTTP: Final = "http"


class RequestMeter:
    """Counts the requests for one model by one protocol.

    Args:
        page: of this process.
        model: number of the model in the layout; `NO_MODEL`: requests that are not for a served model.
        protocol: one of `PROTOCOLS`.
    """

    __slots__ = ("_cells", "_codes", "_failed_s", "_ok", "_other", "_read_s", "_render_s", "_seconds", "_sum")

    def __init__(self, page: CounterPage, model: int, protocol: str = _HTTP) -> None:
        layout, number = page.layout, PROTOCOLS.index(protocol)
        self._cells = page.cells
        self._codes = {status: layout.place(REQUESTS, model, number, at) for at, status in enumerate(STATUSES)}
        self._ok = self._codes[_OK]
        self._other = layout.place(REQUESTS, model, number, len(STATUSES))
        self._seconds = layout.place(REQUEST_S, model, number)
        self._sum = self._seconds + len(SECONDS) + 1
        self._failed_s = layout.place(FAILED_S, model)
        self._read_s = layout.place(READ_S, model)
        self._render_s = layout.place(RENDER_S, model)

    def answered(self, status: int, seconds: float, read_s: float = 0.0, render_s: float = 0.0) -> None:
        """Count a request that ended.

        Args:
            status: of the answer, in HTTP's numbers whatever the protocol (an error's `status`); 499: the client left.
            seconds: since its head was read.
            read_s: of these, for parsing and checking its body, where that is not told apart (`spent`).
            render_s: of these, for rendering its answer, likewise.
        """
        cells = self._cells
        cells[self._seconds + bisect_left(SECONDS, seconds)] += 1
        cells[self._sum] += seconds
        cells[self._read_s] += read_s
        if status == _OK:
            cells[self._ok] += 1
            cells[self._render_s] += render_s
        else:
            cells[self._codes.get(status, self._other)] += 1
            cells[self._failed_s] += seconds

    def spent(self, read_s: float, render_s: float) -> None:
        """Count seconds of a request whose end somebody else counts; see `answered`."""
        self._cells[self._read_s] += read_s
        self._cells[self._render_s] += render_s


class RequestMeters:
    """The meters of a frontend.

    Args:
        page: of this process.
        protocol: that it speaks.
    """

    def __init__(self, page: CounterPage, protocol: str = _HTTP) -> None:
        self._page = page
        self._protocol = protocol
        self._meters = {NO_MODEL: RequestMeter(page, NO_MODEL, protocol)}

    def of(self, model: str | None) -> RequestMeter:
        """Return the meter of a served model; for any other name, or none, that of requests which are for no model."""
        number = self._page.layout.model(model or "")
        found = self._meters.get(number)
        if found is None:
            found = self._meters[number] = RequestMeter(self._page, number, self._protocol)
        return found


class MeterRequests:
    """ASGI middleware that counts every request, whatever its end.

    Args:
        app: what is inside.
        meters: of this frontend.
        models: the model of each path of inference; any other path is for no model.
    """

    def __init__(self, app: ASGIApp, meters: RequestMeters, models: Mapping[str, str]) -> None:
        self._app = app
        self._meters = meters
        self._models = models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on and count at the end."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = perf_counter(), CLIENT_GONE

        async def send_noting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, send_noting)
        finally:
            meter, end = self._meters.of(self._models.get(path_of(scope))), end_of(scope, status)
            meter.answered(end.status, perf_counter() - start)
