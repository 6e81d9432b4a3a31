"""The application of the control listener: the same gates as round all else, and a few routes."""

from fastapi import FastAPI
from starlette.exceptions import HTTPException

from .access_log import AccessLog
from .admission_gate import AdmissionGate
from .app import OPTIONS, Running, serving_lifespan
from .control_routes import ControlPort, control_router
from .error_answer import FaultBoundary, on_http_error, on_serve_error
from .errors import ServeError
from .request_id import NameRequests
from .request_meter import MeterRequests
from .serving_state import ServingState


def create_control_app(state: ServingState, control: ControlPort, running: Running) -> FastAPI:
    """Compose the application.

    Args:
        state: of this process.
        control: reaches whoever holds the models.
        running: see `create_app`.
    """
    app = FastAPI(
        title="cellgate control",
        lifespan=serving_lifespan(state, running),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={ServeError: on_serve_error, HTTPException: on_http_error},
        **OPTIONS,
    )
    app.state.serving = state
    app.state.control = control
    app.include_router(control_router)
    app.add_middleware(AdmissionGate, serving=state)
    app.add_middleware(FaultBoundary)
    app.add_middleware(MeterRequests, meters=state.meters, models={})
    if state.settings.access_log:
        app.add_middleware(AccessLog)
    app.add_middleware(NameRequests, ids=state.ids)
    return app
