"""The application: everything composed at one place, and nothing else here."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException

from .. import __version__
from .access_log import AccessLog
from .docs_page import docs_routes
from .engine.port import EnginePort
from .error_answer import FaultBoundary, on_http_error, on_serve_error
from .errors import ServeError
from .openapi import openapi_document
from .routes import router
from .served_model import ModelTable, ServedModel
from .serving_state import ServingState
from .settings import Settings
from .stream_routes import stream_router
from .work_queue import WorkQueue

# The framework can export traces by itself where the environment asks for it; this server sends nothing to anybody.
# Its older versions, which cannot, keep the option unread.
_SILENT = dict.fromkeys(("auto_configure", "tracing", "metrics", "logs", "operation_spans"), False)
_OPTIONS: dict[str, Any] = {"telemetry": _SILENT}


# Threads for bodies and answers so large that they would hold up the event loop. The parser and the renderer hold the
# interpreter's lock for most of their time: more threads would only take turns.
_LARGE_AT_A_TIME = 2

Running = Callable[[], AbstractAsyncContextManager[object]]


def create_app(
    models: Sequence[ServedModel], settings: Settings, engine: EnginePort, running: Running = nullcontext
) -> FastAPI:
    """Compose the application.

    Args:
        models: at least one.
        settings: of this server.
        engine: takes the work. The application neither starts nor closes it, unless `running` does.
        running: entered on the serving event loop before requests are taken, left after the last one: the place to
            start and close an engine that belongs to that loop.
    """
    state = ServingState(table=ModelTable(models), settings=settings, engine=engine)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with running():
            state.queue = WorkQueue(_LARGE_AT_A_TIME, settings.max_waiting)
            try:
                yield
            finally:
                state.queue = None

    app = FastAPI(
        title="cellgate",
        version=__version__,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={ServeError: on_serve_error, HTTPException: on_http_error},
        **_OPTIONS,
    )
    app.state.serving = state
    app.include_router(router)
    app.include_router(stream_router)
    app.router.routes.extend(docs_routes(openapi_document(app.routes, models)))
    app.add_middleware(FaultBoundary)
    if settings.access_log:
        app.add_middleware(AccessLog)
    return app
