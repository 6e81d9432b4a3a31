"""What the server says about itself and its models, as the messages of this service.

Rules of this file: pure; the facts come from where HTTP's come from. Plain values are turned into messages by the names
of their fields, which are the same in the protocol's JSON and in its messages; what a message has no field for stays
out.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from ...bundle.manifest import TensorSpec
from ..datatypes import datatype_of, wire_shape
from ..metadata import PLATFORM, model_metadata, server_metadata
from ..served_model import ServedModel
from .inference_pb2 import (
    ModelConfigResponse,
    ModelMetadataResponse,
    ModelStatisticsResponse,
    RepositoryIndexResponse,
    ServerMetadataResponse,
)

_Message = TypeVar("_Message", bound=Message)

_UNAVAILABLE: Final = "the server starts or stops, or its engine starts again"


def server_message() -> ServerMetadataResponse:
    """Return name, version and extensions of the server."""
    return _filled(ServerMetadataResponse(), server_metadata())


def metadata_message(model: ServedModel) -> ModelMetadataResponse:
    """Return inputs, outputs and properties of a model."""
    return _filled(ModelMetadataResponse(), model_metadata(model))


def config_message(model: ServedModel) -> ModelConfigResponse:
    """Return a model's configuration.

    `max_batch_size` is 0, which says that dims are the whole shapes: of the states, the rows are not the first axis.
    """
    graph = model.manifest.graph
    config = {
        "name": model.name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "max_batch_size": 0,
        "input": [{**_tensor(spec), "optional": spec.name != graph.sequence} for spec in graph.inputs],
        "output": [_tensor(spec) for spec in graph.outputs],
        "instance_group": [{"kind": "KIND_GPU" if model.facts.device == "cuda" else "KIND_CPU", "count": 1}],
        "model_transaction_policy": {"decoupled": False},
    }
    return _filled(ModelConfigResponse(), {"config": config})


def statistics_message(models: Iterable[ServedModel], counted: Mapping[str, Any]) -> ModelStatisticsResponse:
    """Return what the engine has counted.

    Args:
        models: to tell of.
        counted: of `EnginePort.statistics`.
    """
    of_model = counted.get("models", {})
    stats = [
        {
            "name": model.name,
            "version": model.version,
            "inference_count": of_model.get(model.name, {}).get("rows", 0),
            "execution_count": of_model.get(model.name, {}).get("runs", 0),
        }
        for model in models
    ]
    return _filled(ModelStatisticsResponse(), {"model_stats": stats})


def index_message(models: Iterable[ServedModel], *, is_ready: bool, only_ready: bool) -> RepositoryIndexResponse:
    """Return the served models and whether they are ready.

    Args:
        models: all of them.
        is_ready: whether requests are taken.
        only_ready: leave out those that are not.
    """
    state = {"state": "READY"} if is_ready else {"state": "UNAVAILABLE", "reason": _UNAVAILABLE}
    shown = models if is_ready or not only_ready else ()
    found = [{"name": model.name, "version": model.version, **state} for model in shown]
    return _filled(RepositoryIndexResponse(), {"models": found})


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "data_type": f"TYPE_{datatype_of(spec.dtype)}", "dims": wire_shape(spec)}


def _filled(message: _Message, values: Mapping[str, Any]) -> _Message:
    ParseDict(values, message, ignore_unknown_fields=True)
    return message
