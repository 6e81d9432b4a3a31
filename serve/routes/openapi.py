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

from ... import __version__
from ..infer.json_response import render_object
from ..models.example_request import further_examples
from ..models.model_table import ModelTable
from ..models.served_model import ServedModel
from .routes import INFER_SUMMARY, router
from .socket_route import socket_router
from .stream_routes import stream_router
from .wire_schema import ErrorAnswer, InferenceRequest

ROUTERS: Final[tuple[APIRouter, ...]] = (router, socket_router, stream_router)  # what the document describes

_REF = "#/components/schemas/{model}"
_HEADER: Final = "Inference-Header-Content-Length"
_BYTES: Final = {"type": "string", "format": "binary"}
_BINARY = {
    "application/octet-stream": {
        "schema": {
            **_BYTES,
            "description": f"The same JSON, of `{_HEADER}` bytes, each binary input with the parameter "
            "`binary_data_size` in the place of `data`; then the tensors, little-endian and row-major, in the order of "
            "the JSON. `binary_data_output: true` in `parameters` asks for such an answer.",
        }
    }
}
_BINARY_ANSWER = {
    "application/octet-stream": {"schema": {**_BYTES, "description": f"JSON of `{_HEADER}` bytes, then the tensors."}}
}
_HEAD_BYTES: Final = {
    "description": "Bytes of the JSON, where tensors follow it.",
    "schema": {"type": "integer"},
}
_KEY_ERRORS: Final = {"401": "No key.", "403": "A wrong key."}
# In the order of the page; the first one that fits a path has it.
_TAGS: Final = (
    ("inference", "/infer", "Sequences in, answers and states out."),
    ("streams", "/streams/", "State that the server keeps: look at it, move it, fork it, end it."),
    ("models", "/v2/models", "What is served, and how it does."),
    ("server", "/v2", "Its health and its name."),
)
_FOREIGN: Final = ("HTTPValidationError", "ValidationError")  # FastAPI's own refusal of parameters
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
    document["tags"] = [{"name": name, "description": text} for name, _, text in _TAGS]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["tags"] = [next(name for name, part, _ in _TAGS if part in path)]
            _fill_parameters(operation, models)
            if operation["summary"] == INFER_SUMMARY:
                _describe_inference(operation, models)
            if has_keys:
                operation["responses"].update({status: _error(text) for status, text in _KEY_ERRORS.items()})
    return render_object(document)


@cache
def _document_of_routes() -> bytes:
    """Render what does not depend on the models, once: it takes FastAPI a while, and no new version waits for it."""
    routes = [route for each in ROUTERS for route in each.routes]
    document = get_openapi(title="cellgate", version=__version__, description=_DESCRIPTION, routes=routes)
    _, definitions = models_json_schema([(InferenceRequest, "validation")], ref_template=_REF)
    document["components"]["schemas"].update(definitions["$defs"])
    for name in _FOREIGN:
        del document["components"]["schemas"][name]
    return render_object(document)


def _describe_inference(operation: dict[str, Any], models: Sequence[ServedModel]) -> None:
    """Put in what the route says nothing of: the body and its examples, and both directions of binary tensors."""
    examples = {}
    for model in models:
        examples[model.name] = {"summary": f"for {model.name}", "value": model.example}
        for what, value in further_examples(model.example, model.manifest).items():
            examples[f"{model.name}, {what}"] = {"summary": f"for {model.name}: {what}", "value": value}
    schema = {"$ref": _REF.format(model=InferenceRequest.__name__)}
    content = {"application/json": {"schema": schema, "examples": examples}, **_BINARY}
    operation["requestBody"] = {"required": True, "content": content}
    operation["parameters"].append({"name": _HEADER, "in": "header", "required": False, **_HEAD_BYTES})
    answer = operation["responses"]["200"]
    answer["content"].update(_BINARY_ANSWER)
    answer["headers"] = {_HEADER: _HEAD_BYTES}


def _error(text: str) -> dict[str, Any]:
    schema = {"$ref": _REF.format(model=ErrorAnswer.__name__)}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _fill_parameters(operation: dict[str, Any], models: Sequence[ServedModel]) -> None:
    name, version = (models[0].name, models[0].version) if models else ("name", "1")
    examples = {"model_name": name, "model_version": version, "stream_id": "7"}
    for parameter in operation.get("parameters", ()):
        parameter["example"] = examples[parameter["name"]]
    # No route here can produce it: a path segment is any string.
    if "HTTPValidationError" in str(operation["responses"].get("422")):
        del operation["responses"]["422"]
