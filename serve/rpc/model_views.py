"""What the server says about itself and its models, as the messages of this service.

Rules of this file: pure; the facts come from where HTTP's come from. Plain values are turned into messages by the names
of their fields, which are the same in the protocol's JSON and in its messages; what a message has no field for stays
out.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from ..models.metadata import model_metadata, server_metadata
from ..models.model_config import model_config
from ..models.model_table import ModelTable
from ..models.repository_index import repository_index
from ..models.served_model import ServedModel
from ..settings import Settings
from .inference_pb2 import (
    ModelConfigResponse,
    ModelMetadataResponse,
    ModelStatisticsResponse,
    RepositoryIndexResponse,
    ServerMetadataResponse,
)

_Message = TypeVar("_Message", bound=Message)


def server_message() -> ServerMetadataResponse:
    """Return name, version and extensions of the server."""
    return _filled(ServerMetadataResponse(), server_metadata())


def metadata_message(model: ServedModel, versions: Sequence[str]) -> ModelMetadataResponse:
    """Return inputs, outputs and properties of a model; see `model_metadata`."""
    return _filled(ModelMetadataResponse(), model_metadata(model, versions=versions))


def config_message(model: ServedModel, settings: Settings) -> ModelConfigResponse:
    """Return a model's configuration; see `model_config`."""
    return _filled(ModelConfigResponse(), {"config": model_config(model, settings)})


def statistics_message(counted: Mapping[str, Any]) -> ModelStatisticsResponse:
    """Return the protocol's statistics; see `statistics_answer`."""
    return _filled(ModelStatisticsResponse(), counted)


def index_message(table: ModelTable, *, is_ready: bool, only_ready: bool) -> RepositoryIndexResponse:
    """Return the served models and whether they are ready; see `repository_index`."""
    models = repository_index(table.models, table.retired, is_ready=is_ready, only_ready=only_ready)
    return _filled(RepositoryIndexResponse(), {"models": models})


def _filled(message: _Message, values: Mapping[str, Any]) -> _Message:
    ParseDict(values, message, ignore_unknown_fields=True)
    return message
