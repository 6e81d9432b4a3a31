"""The OpenAPI document: FastAPI's, with the request's schema and an example for each served model.

Rules of this file: the infer route reads the raw body (clients of the protocol send it without a Content-Type, which
FastAPI's own parsing would refuse), so the schema of that body is put in here.
"""

from collections.abc import Sequence
from typing import Any

from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute

from .. import __version__
from .json_response import render_object
from .routes import INFER_SUMMARY
from .served_model import ServedModel
from .wire_schema import InferenceRequest

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


def openapi_document(routes: Sequence[BaseRoute], models: Sequence[ServedModel], *, has_keys: bool = False) -> bytes:
    """Render the document.

    Args:
        routes: of the application.
        models: at least one; each gives an example request that works.
        has_keys: the server asks for a key, and the page for it too.
    """
    document = get_openapi(title="cellgate", version=__version__, description=_DESCRIPTION, routes=routes)
    _, definitions = models_json_schema([(InferenceRequest, "validation")], ref_template=_REF)
    document["components"]["schemas"].update(definitions["$defs"])
    if has_keys:
        document["components"]["securitySchemes"] = _SCHEMES
        document["security"] = [{name: []} for name in _SCHEMES]
    for path in document["paths"].values():
        for operation in path.values():
            _fill_parameters(operation, models)
            if operation["summary"] == INFER_SUMMARY:
                operation["requestBody"] = _request_body(models)
    return render_object(document)


def _request_body(models: Sequence[ServedModel]) -> dict[str, Any]:
    examples = {model.name: {"summary": f"for {model.name}", "value": model.example} for model in models}
    schema = {"$ref": _REF.format(model=InferenceRequest.__name__)}
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}, **_BINARY}}


def _fill_parameters(operation: dict[str, Any], models: Sequence[ServedModel]) -> None:
    examples = {"model_name": models[0].name, "model_version": models[0].version, "stream_id": "7"}
    for parameter in operation.get("parameters", ()):
        parameter["example"] = examples[parameter["name"]]
    # FastAPI documents its own refusal of parameters, which no route here can produce: a path segment is any string.
    if "HTTPValidationError" in str(operation["responses"].get("422")):
        del operation["responses"]["422"]
