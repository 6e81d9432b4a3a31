"""The protocol's endpoints. Each is a few lines: find the model, let others do the work, render.

Rules of this file: it never blocks the event loop: the engine computes elsewhere, and what is large is read and
rendered in the queue's threads. Source: the protocol's REST specification; the list of models is KServe's addition.
"""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ..infer.infer_exchange import exchange, traced_exchange
from ..infer.json_response import render_object
from ..models.metadata import model_metadata, server_metadata
from ..serving_state import ServingState
from . import wire_schema
from .observation_routes import ModelName, ModelVersion
from .observation_routes import router as observation
from .route_state import Serving

_ERRORS = {
    400: "The request says something impossible, or does not fit the model.",
    404: "No model of this name and version, or no such stream.",
    409: "The stream expects another step, exists already, or began on another bundle.",
    410: "The stream has ended or expired.",
    413: "The body is too large.",
    415: "The body is neither JSON nor binary tensors.",
    422: "The step was applied to the stream already, with another payload.",
    500: "A fault of the server; the log has more under the request id.",
    503: "The server is starting, stopping, or as many requests wait as may wait, or the engine was lost.",
    504: "The request's timeout passed.",
}
_NOT_READY = "The server is starting or stopping, or its engine is not there."
INFER_SUMMARY = "Run a model on one or several sequences"

router = APIRouter()


def _responses(model: type, *errors: int) -> dict[int | str, dict[str, Any]]:
    found: dict[int | str, dict[str, Any]] = {200: {"model": model, "description": "Done."}}
    found.update({code: {"model": wire_schema.ErrorAnswer, "description": _ERRORS[code]} for code in errors})
    return found


def _readiness(model: type, *errors: int) -> dict[int | str, dict[str, Any]]:
    """Return the answers of a question that is answered in one form, whether the answer is yes or no."""
    return {**_responses(model, *errors), 503: {"model": model, "description": _NOT_READY}}


def _json(value: Any, status: int = 200) -> Response:
    return Response(render_object(value), status_code=status, media_type="application/json")


# Paths are tried in this order: those of inference come first.
@router.post(
    "/v2/models/{model_name}/infer",
    summary=INFER_SUMMARY,
    responses=_responses(wire_schema.InferenceResponse, *_ERRORS),
)
async def infer(serving: Serving, request: Request, model_name: ModelName) -> Response:
    """Rows of unequal length are padded to the longest; `lengths` says how many steps of each are real."""
    return await _infer(serving, request, model_name, None)


@router.post(
    "/v2/models/{model_name}/versions/{model_version}/infer",
    summary=INFER_SUMMARY,
    responses=_responses(wire_schema.InferenceResponse, *_ERRORS),
)
async def infer_version(
    serving: Serving, request: Request, model_name: ModelName, model_version: ModelVersion
) -> Response:
    """As without a version, which means the current one."""
    return await _infer(serving, request, model_name, model_version)


# Before the names of models, for one of its paths reads like one: /v2/models/stats.
router.include_router(observation)


@router.get("/v2/", include_in_schema=False)
@router.get("/v2", summary="Server metadata", responses=_responses(wire_schema.ServerMetadata))
async def read_server() -> Response:
    """Name, version and protocol extensions of the server."""
    return _json(server_metadata())


@router.get("/v2/health/live", summary="Is the process alive", responses=_responses(wire_schema.Live))
async def read_live() -> Response:
    """Answers 200 as long as the process answers at all."""
    return _json({"live": True})


@router.get("/v2/health/ready", summary="Are requests taken", responses=_readiness(wire_schema.Ready))
async def read_ready(serving: Serving) -> Response:
    """200 and true once every model reproduced its golden cases; 503 and false before that and while stopping."""
    return _json({"ready": serving.is_ready}, 200 if serving.is_ready else 503)


@router.get("/v2/models", summary="Names of the served models", responses=_responses(wire_schema.ModelList))
async def list_models(serving: Serving) -> Response:
    """In the order of the command line."""
    return _json({"models": [model.name for model in serving.table.models]})


@router.get("/v2/models/{model_name}", summary="Model metadata", responses=_responses(wire_schema.ModelMetadata, 404))
async def read_model(serving: Serving, model_name: ModelName) -> Response:
    """Inputs, outputs and properties of a model."""
    return _metadata(serving, model_name, None)


@router.get(
    "/v2/models/{model_name}/versions/{model_version}",
    summary="Model metadata",
    responses=_responses(wire_schema.ModelMetadata, 404),
)
async def read_model_version(serving: Serving, model_name: ModelName, model_version: ModelVersion) -> Response:
    """Inputs, outputs and properties of one version of a model."""
    return _metadata(serving, model_name, model_version)


@router.get(
    "/v2/models/{model_name}/ready", summary="Is the model ready", responses=_readiness(wire_schema.ModelReady, 404)
)
async def read_model_ready(serving: Serving, model_name: ModelName) -> Response:
    """200 and true, or 503 and false."""
    return _model_ready(serving, model_name, None)


@router.get(
    "/v2/models/{model_name}/versions/{model_version}/ready",
    summary="Is the model ready",
    responses=_readiness(wire_schema.ModelReady, 404),
)
async def read_model_version_ready(serving: Serving, model_name: ModelName, model_version: ModelVersion) -> Response:
    """200 and true, or 503 and false."""
    return _model_ready(serving, model_name, model_version)


def _metadata(serving: ServingState, name: str, version: str | None) -> Response:
    model = serving.table.find(name, version)
    return _json(model_metadata(model, serving.settings.stream_store, serving.table.versions(name)))


def _model_ready(serving: ServingState, name: str, version: str | None) -> Response:
    model = serving.table.find(name, version)
    return _json({"name": model.name, "ready": serving.is_ready}, 200 if serving.is_ready else 503)


async def _infer(serving: ServingState, request: Request, name: str, version: str | None) -> Response:
    (model, reader), tracer = serving.reader_for(name, version), serving.tracer
    if tracer is None:
        answer = await exchange(serving, model, reader, request)
    else:
        answer = await traced_exchange(serving, tracer, model, reader, request)
    return Response(answer.join(), headers=answer.headers, media_type=answer.media_type)
