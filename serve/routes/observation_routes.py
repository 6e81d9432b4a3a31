"""The endpoints that only look: metrics, statistics, a model's configuration, the list of models.

Rules of this file: as `routes`, whose paths come around these; nothing here changes what is served.
"""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ..infer.body import read_body
from ..infer.json_response import render_object
from ..models.model_config import model_config
from ..models.repository_index import parse_index_request, repository_index
from ..observe.observation import answer_statistics, scrape
from . import wire_schema
from .route_state import Serving

ModelName = Annotated[str, Path(description="Name of a served model; see GET /v2/models.")]
ModelVersion = Annotated[str, Path(description="Its version: the current one, or one that is still there.")]

_MAX_INDEX_BYTES: Final = 2**16
_INDEX_REQUEST: Final[dict[str, Any]] = {"type": "object", "properties": {"ready": {"type": "boolean"}}}
_UNKNOWN: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": wire_schema.ErrorAnswer, "description": "No model of this name and version."}
}

router = APIRouter()


def _done(model: type) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model, "description": "Done."}}


def _json(value: Any) -> Response:
    return Response(render_object(value), media_type="application/json")


@router.get("/metrics", include_in_schema=False)
async def read_metrics(serving: Serving, request: Request) -> Response:
    """Counters of all processes of this server, summed; 404 where the setting `metrics` is off."""
    if not serving.settings.metrics:
        raise HTTPException(404)
    text, media_type = await scrape(serving, request.headers.get("accept", ""))
    return Response(text, headers={"content-type": media_type})


@router.get("/v2/models/stats", summary="Statistics of all models", responses=_done(wire_schema.ModelStatistics))
async def read_all_statistics(serving: Serving) -> Response:
    """Since the server's start; a process that died and came again goes on counting."""
    return _json(answer_statistics(serving, serving.table.models))


@router.get(
    "/v2/models/{model_name}/stats",
    summary="Statistics of a model",
    responses={**_done(wire_schema.ModelStatistics), **_UNKNOWN},
)
async def read_statistics(serving: Serving, model_name: ModelName) -> Response:
    """What came, how it ended, how long it waited, how it was run."""
    return _json(answer_statistics(serving, [serving.table.find(model_name, None)]))


@router.get(
    "/v2/models/{model_name}/versions/{model_version}/stats",
    summary="Statistics of a model",
    responses={**_done(wire_schema.ModelStatistics), **_UNKNOWN},
)
async def read_version_statistics(serving: Serving, model_name: ModelName, model_version: ModelVersion) -> Response:
    """What came, how it ended, how long it waited, how it was run."""
    return _json(answer_statistics(serving, [serving.table.find(model_name, model_version)]))


@router.get(
    "/v2/models/{model_name}/config",
    summary="Configuration of a model",
    responses={**_done(wire_schema.ModelConfig), **_UNKNOWN},
)
async def read_config(serving: Serving, model_name: ModelName) -> Response:
    """In the form of Triton's `ModelConfig`."""
    return _json(model_config(serving.table.find(model_name, None), serving.settings))


@router.get(
    "/v2/models/{model_name}/versions/{model_version}/config",
    summary="Configuration of a model",
    responses={**_done(wire_schema.ModelConfig), **_UNKNOWN},
)
async def read_version_config(serving: Serving, model_name: ModelName, model_version: ModelVersion) -> Response:
    """In the form of Triton's `ModelConfig`."""
    return _json(model_config(serving.table.find(model_name, model_version), serving.settings))


@router.post(
    "/v2/repository/index",
    summary="Models and their states",
    openapi_extra={"requestBody": {"required": False, "content": {"application/json": {"schema": _INDEX_REQUEST}}}},
    responses={
        **_done(wire_schema.RepositoryIndex),
        400: {"model": wire_schema.ErrorAnswer, "description": "The body is no JSON object."},
    },
)
async def read_index(serving: Serving, request: Request) -> Response:
    """The body may be left out, or say `{"ready": true}` for the ready ones only."""
    only_ready = parse_index_request(await read_body(request, _MAX_INDEX_BYTES))
    table = serving.table
    return _json(repository_index(table.models, table.retired, is_ready=serving.is_ready, only_ready=only_ready))
