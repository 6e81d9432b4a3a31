"""The OpenAPI document: FastAPI's, with the request's schema and an example for each served model.

Rules of this file: the infer route reads the raw body (clients of the protocol send it without a Content-Type, which
FastAPI's own parsing would refuse), so the schema of that body is put in here.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

import orjson
from fastapi import APIRouter
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from .. import __version__
from .json_response import render_object
from .model_table import ModelTable
from .routes import INFER_SUMMARY, router
from .served_model import ServedModel
from .socket_route import socket_router
from .stream_routes import stream_router
from .wire_schema import InferenceRequest

ROUTERS: Final[tuple[APIRouter, ...]] = (router, socket_router, stream_router)  # what the document describes

_REF = "#/components/schemas/{model}"
_BINARY = {
    "application/octet-stream": {
        "schema": {
            "type": "string",
            "format": "binary",
            "description": "JSON of Inference-Header-Content-Length bytes, then the tensors, little-endian.",
        }
    }
}
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_DESCRIPTION = (
    "Recurrent networks over the Open Inference Protocol (KServe v2), JSON and binary tensors. "
    "One request carries one sequence or several, padded to the longest."
)


class ApiDocument:
    """The document for the models that are served at the moment, rendered once for each table of them.

    Args:
        table: returns the served models.
        has_keys: the server asks for a key, and the page for it too.
    """

    def __init__(self, table: Callable[[], ModelTable], *, has_keys: bool = False) -> None:
        self._table = table
        self._has_keys = has_keys
        self._rendered: tuple[ModelTable, bytes] | None = None
        self.read()

    def read(self) -> bytes:
        """Return the document as JSON."""
        table = self._table()
        if self._rendered is None or self._rendered[0] is not table:
            self._rendered = table, openapi_document(table.models, has_keys=self._has_keys)
        return self._rendered[1]


def openapi_document(models: Sequence[ServedModel], *, has_keys: bool = False) -> bytes:
    """Render the document.

    Args:
        models: each gives an example request that works.
        has_keys: the server asks for a key, and the page for it too.
    """
    document: dict[str, Any] = orjson.loads(_document_of_routes())
    if has_keys:
        document["components"]["securitySchemes"] = _SCHEMES
        document["security"] = [{name: []} for name in _SCHEMES]
    for path in document["paths"].values():
        for operation in path.values():
            _fill_parameters(operation, models)
            if operation["summary"] == INFER_SUMMARY:
                operation["requestBody"] = _request_body(models)
    return render_object(document)


@cache
def _document_of_routes() -> bytes:
    """Render what does not depend on the models, once: it takes FastAPI a while, and no new version waits for it."""
    routes = [route for each in ROUTERS for route in each.routes]
    document = get_openapi(title="cellgate", version=__version__, description=_DESCRIPTION, routes=routes)
    _, definitions = models_json_schema([(InferenceRequest, "validation")], ref_template=_REF)
    document["components"]["schemas"].update(definitions["$defs"])
    return render_object(document)


def _request_body(models: Sequence[ServedModel]) -> dict[str, Any]:
    examples = {model.name: {"summary": f"for {model.name}", "value": model.example} for model in models}
    schema = {"$ref": _REF.format(model=InferenceRequest.__name__)}
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}, **_BINARY}}


def _fill_parameters(operation: dict[str, Any], models: Sequence[ServedModel]) -> None:
    name, version = (models[0].name, models[0].version) if models else ("name", "1")
    examples = {"model_name": name, "model_version": version, "stream_id": "7"}
    for parameter in operation.get("parameters", ()):
        parameter["example"] = examples[parameter["name"]]
    # FastAPI documents its own refusal of parameters, which no route here can produce: a path segment is any string.
    if "HTTPValidationError" in str(operation["responses"].get("422")):
        del operation["responses"]["422"]
