"""Loading and unloading models, on a listener of its own: whoever may ask for answers may not thereby change them.

Rules of this file: each route is a few lines; the engine's process does the work, and the answer waits until every
frontend goes by the change. Source: the model repository extension of the protocol, as Triton documents it.
"""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Request
from starlette.responses import Response

from ..infer.body import read_body
from ..infer.json_response import render_object
from ..models.control_port import ControlAction, ControlPort
from ..models.control_request import parse_control
from .observation_routes import read_index
from .routes import read_live, read_ready

_MOST_BODY_BYTES: Final = 2**16

control_router = APIRouter()
control_router.add_api_route("/v2/health/live", read_live, methods=["GET"])
control_router.add_api_route("/v2/health/ready", read_ready, methods=["GET"])
control_router.add_api_route("/v2/repository/index", read_index, methods=["POST"])


async def _port_of(request: Request) -> ControlPort:
    found: ControlPort = request.app.state.control
    return found


Port = Annotated[ControlPort, Depends(_port_of)]
ModelName = Annotated[str, Path(description="Name of a model, as in its bundle's manifest.")]


@control_router.post("/v2/repository/models/{model_name}/load")
async def load(port: Port, request: Request, model_name: ModelName) -> Response:
    """The highest version that lies there, or `{"parameters": {"version": N}}`, becomes current."""
    return await _control(port, "load", request, model_name)


@control_router.post("/v2/repository/models/{model_name}/unload")
async def unload(port: Port, request: Request, model_name: ModelName) -> Response:
    """No version is current any more; streams go on to their end."""
    return await _control(port, "unload", request, model_name)


async def _control(port: ControlPort, action: ControlAction, request: Request, name: str) -> Response:
    version = parse_control(await read_body(request, _MOST_BODY_BYTES))
    return Response(render_object(await port.control(action, name, version)), media_type="application/json")
