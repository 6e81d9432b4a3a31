"""The application: everything composed at one place, and nothing else here."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException

from .. import __version__
from .access_log import AccessLog
from .cpus import usable_cpus
from .docs_page import docs_routes
from .error_answer import FaultBoundary, on_http_error, on_serve_error
from .errors import ServeError
from .openapi import openapi_document
from .routes import router
from .served_model import ModelTable, ServedModel
from .serving_state import ServingState
from .settings import Settings
from .work_queue import WorkQueue

# The framework can export traces by itself where the environment asks for it; this server sends nothing to anybody.
# Its older versions, which cannot, keep the option unread.
_SILENT = dict.fromkeys(("auto_configure", "tracing", "metrics", "logs", "operation_spans"), False)
_OPTIONS: dict[str, Any] = {"telemetry": _SILENT}


def create_app(models: Sequence[ServedModel], settings: Settings) -> FastAPI:
    """Compose the application.

    Args:
        models: open, at least one; the application closes them when its lifespan ends.
        settings: of this server.
    """
    state = ServingState(table=ModelTable(models), settings=settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        state.queue = WorkQueue(settings.max_running or usable_cpus(), settings.max_waiting)
        try:
            yield
        finally:
            state.queue = None
            state.table.close()

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
    app.router.routes.extend(docs_routes(openapi_document(app.routes, models)))
    app.add_middleware(FaultBoundary)
    if settings.access_log:
        app.add_middleware(AccessLog)
    return app
