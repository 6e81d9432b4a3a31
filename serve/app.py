"""The application: everything composed at one place, and nothing else here."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import Any, Final

import anyio.to_thread
from fastapi import FastAPI
from starlette.exceptions import HTTPException

from .. import __version__
from .engine.port import EnginePort
from .error_answer import FaultBoundary, on_http_error, on_serve_error
from .errors import ServeError
from .gate.admission import Admission, admission_rules
from .gate.admission_gate import AdmissionGate
from .models.model_table import ModelTable
from .models.served_model import ServedModel
from .observe.access_log import AccessLog
from .observe.counter_page import Counters
from .observe.request_id import NameRequests
from .observe.request_meter import MeterRequests
from .observe.tracing import RequestTracer
from .routes.docs_page import docs_routes
from .routes.head_method import HeadAsGet
from .routes.openapi import ROUTERS, ApiDocument
from .serving_state import ServingState
from .settings import Settings

# The framework can export traces by itself where the environment asks for it; this server sends nothing to anybody.
# Its older versions, which cannot, keep the option unread.
_SILENT = dict.fromkeys(("auto_configure", "tracing", "metrics", "logs", "operation_spans"), False)
_OPTIONS: dict[str, Any] = {"telemetry": _SILENT}
_PATHS: Final = ("a path of this server", "GET /docs shows them")

Running = Callable[[], AbstractAsyncContextManager[object]]


def create_app(
    models: ModelTable | Sequence[ServedModel],
    settings: Settings,
    engine: EnginePort,
    running: Running = nullcontext,
    counters: Counters | None = None,
    tracer: RequestTracer | None = None,
) -> FastAPI:
    """Compose the application.

    Args:
        models: served; exchanged later by `ServingState.take_models`.
        settings: of this server.
        engine: takes the work. The application neither starts nor closes it, unless `running` does.
        running: entered on the serving event loop before requests are taken, left after the last one: the place to
            start and close an engine that belongs to that loop.
        counters: of this process, which the engine shares where it is in this process too; none: the requests alone
            are counted.
        tracer: takes a trace of each request for inference; closed at the end.

    Raises:
        KeysFileError: the settings name a file of keys that cannot be used.
    """
    table = models if isinstance(models, ModelTable) else ModelTable(models)
    state = ServingState(
        table=table,
        settings=settings,
        engine=engine,
        admission=Admission(admission_rules(settings)),
        counters=Counters.alone([model.name for model in table.models]) if counters is None else counters,
        tracer=tracer,
    )
    app = bare_app("cellgate", state, running, _PATHS)
    _add_routes(app, state)
    add_middleware(app, state)
    return app


def bare_app(title: str, state: ServingState, running: Running, paths: tuple[str, str]) -> FastAPI:
    """Return an application without routes, which has a state and answers errors with error objects.

    Args:
        title: of the application.
        state: of this process.
        running: see `create_app`.
        paths: what a request for another path is told was expected, and its remedy, or "".
    """
    app = FastAPI(
        title=title,
        version=__version__,
        lifespan=partial(_lifespan, state, running),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={ServeError: on_serve_error, HTTPException: on_http_error},
        **_OPTIONS,
    )
    app.state.serving = state
    app.state.paths = paths
    return app


def add_middleware(app: FastAPI, state: ServingState) -> None:
    """Put the layers around the routes, from the inside out: who names a request sees it first."""
    app.add_middleware(HeadAsGet)
    app.add_middleware(AdmissionGate, serving=state)
    app.add_middleware(FaultBoundary)
    app.add_middleware(MeterRequests, meters=state.meters, models=state.infer_paths)
    if state.settings.access_log:
        app.add_middleware(AccessLog, models=state.infer_paths)
    app.add_middleware(NameRequests, ids=state.ids)


@asynccontextmanager
async def _lifespan(state: ServingState, running: Running, _app: FastAPI) -> AsyncIterator[None]:
    """Hold what belongs to the serving event loop for as long as that runs."""
    async with running():
        state.start_queue()
        try:
            yield
        finally:
            state.queue = None
            if state.tracer is not None:
                await anyio.to_thread.run_sync(state.tracer.close)


def _add_routes(app: FastAPI, state: ServingState) -> None:
    """Give the application its routes, and the pages that describe them."""
    for each in ROUTERS:
        app.include_router(each)
    document = ApiDocument(lambda: state.table, has_keys=state.settings.api_keys_file is not None)
    app.router.routes.extend(docs_routes(document.read))
