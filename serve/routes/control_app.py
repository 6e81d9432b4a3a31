"""The application of the control listener: the same gates as round all else, and a few routes."""

from typing import Final

from fastapi import FastAPI

from ..app import Running, add_middleware, bare_app
from ..models.control_port import ControlPort
from ..serving_state import ServingState
from .control_routes import control_router

_PATHS: Final = "POST /v2/repository/models/NAME/load or /unload, or POST /v2/repository/index"


def create_control_app(state: ServingState, control: ControlPort, running: Running) -> FastAPI:
    """Compose the application.

    Args:
        state: of this process.
        control: reaches whoever holds the models.
        running: see `create_app`.
    """
    app = bare_app("cellgate control", state, running, (_PATHS, ""))
    app.state.control = control
    app.include_router(control_router)
    add_middleware(app, state)
    return app
