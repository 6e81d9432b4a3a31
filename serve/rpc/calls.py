"""The calls that are one request and one answer. Each is a few lines: read, let others do the work, return a message.

Rules of this file: it never blocks the event loop, as `routes` does not. A failure is an exception, and how a call ends
with one is `service`'s to say.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

from google.protobuf.message import Message

from ..engine.port import ask
from ..errors import BodyTooLarge
from ..observe.observation import answer_statistics
from ..observe.request_watch import RequestWatch
from ..serving_state import ServingState
from .call_meter import CallNotes, metered
from .errors import ControlClosed, UnknownService
from .health_pb2 import HealthCheckRequest, HealthCheckResponse
from .infer_call import answer_of, read_call
from .infer_message import fill_message
from .inference_pb2 import (
    ModelConfigRequest,
    ModelConfigResponse,
    ModelInferResponse,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
    ModelStatisticsRequest,
    ModelStatisticsResponse,
    RepositoryIndexRequest,
    RepositoryIndexResponse,
    ServerLiveResponse,
    ServerMetadataResponse,
    ServerReadyResponse,
)
from .model_views import config_message, index_message, metadata_message, server_message, statistics_message
from .wire_scan import scan_request

SERVICE: Final = "inference.GRPCInferenceService"
HEALTH: Final = "grpc.health.v1.Health"

Call = Callable[[bytes, float | None], Awaitable[Message]]

_MOST_BYTES: Final = 2**16  # of a request that holds no tensors

_Message = TypeVar("_Message", bound=Message)


class Calls:
    """What the calls answer.

    Args:
        serving: the state of this server.
    """

    def __init__(self, serving: ServingState) -> None:
        self._serving = serving

    async def infer(self, body: bytes, remaining_s: float | None, request: RequestWatch | None) -> ModelInferResponse:
        """Answer ModelInfer.

        Args:
            body: bytes of its message.
            remaining_s: that are left for it; None: as long as it takes.
            request: told of it; None: nobody wants to know.

        Raises:
            ServeError: whatever is wrong with the request, the server or the engine.
        """
        notes = CallNotes(request=request)
        with metered(self._serving.meters, notes):
            call = await read_call(self._serving, body, scan_request(body), remaining_s, notes)
            answer = await ask(self._serving.engine, call.work)
            if request is not None:
                request.answered()
            return await answer_of(call, answer)

    def by_path(self) -> Mapping[str, Call]:
        """Return the other calls by full name; each takes a message's bytes and the seconds that are left for it."""
        return {
            f"/{SERVICE}/ServerLive": self._server_live,
            f"/{SERVICE}/ServerReady": self._server_ready,
            f"/{SERVICE}/ModelReady": self._model_ready,
            f"/{SERVICE}/ServerMetadata": self._server_metadata,
            f"/{SERVICE}/ModelMetadata": self._model_metadata,
            f"/{SERVICE}/ModelConfig": self._model_config,
            f"/{SERVICE}/ModelStatistics": self._model_statistics,
            f"/{SERVICE}/RepositoryIndex": self._repository_index,
            f"/{SERVICE}/RepositoryModelLoad": self._control,
            f"/{SERVICE}/RepositoryModelUnload": self._control,
            f"/{HEALTH}/Check": self._health,
        }

    async def _server_live(self, _body: bytes, _remaining_s: float | None) -> ServerLiveResponse:
        return ServerLiveResponse(live=True)

    async def _server_ready(self, _body: bytes, _remaining_s: float | None) -> ServerReadyResponse:
        return ServerReadyResponse(ready=self._serving.is_ready)

    async def _model_ready(self, body: bytes, _remaining_s: float | None) -> ModelReadyResponse:
        asked = parse_small(ModelReadyRequest, body)
        self._serving.table.find(asked.name, asked.version or None)
        return ModelReadyResponse(ready=self._serving.is_ready)

    async def _server_metadata(self, _body: bytes, _remaining_s: float | None) -> ServerMetadataResponse:
        return server_message()

    async def _model_metadata(self, body: bytes, _remaining_s: float | None) -> ModelMetadataResponse:
        asked = parse_small(ModelMetadataRequest, body)
        table = self._serving.table
        return metadata_message(table.find(asked.name, asked.version or None), table.versions(asked.name))

    async def _model_config(self, body: bytes, _remaining_s: float | None) -> ModelConfigResponse:
        asked = parse_small(ModelConfigRequest, body)
        model = self._serving.table.find(asked.name, asked.version or None)
        return config_message(model, self._serving.settings)

    async def _model_statistics(self, body: bytes, _remaining_s: float | None) -> ModelStatisticsResponse:
        asked = parse_small(ModelStatisticsRequest, body)
        table = self._serving.table
        models = (table.find(asked.name, asked.version or None),) if asked.name else table.models
        return statistics_message(answer_statistics(self._serving, models))

    async def _repository_index(self, body: bytes, _remaining_s: float | None) -> RepositoryIndexResponse:
        asked = parse_small(RepositoryIndexRequest, body)
        serving = self._serving
        return index_message(serving.table, is_ready=serving.is_ready, only_ready=asked.ready)

    async def _control(self, _body: bytes, _remaining_s: float | None) -> Message:
        raise ControlClosed

    async def _health(self, body: bytes, _remaining_s: float | None) -> HealthCheckResponse:
        asked = parse_small(HealthCheckRequest, body)
        if asked.service not in ("", SERVICE):
            raise UnknownService(asked.service, SERVICE)
        status = HealthCheckResponse.SERVING if self._serving.is_ready else HealthCheckResponse.NOT_SERVING
        return HealthCheckResponse(status=status)


def parse_small(kind: type[_Message], body: bytes) -> _Message:
    """Return the message of a request that holds no tensors.

    Raises:
        BodyTooLarge: it is longer than any such request.
        BadInput: the bytes are no message.
    """
    if len(body) > _MOST_BYTES:
        raise BodyTooLarge(_MOST_BYTES)
    message: _Message = kind()
    fill_message(message, body)
    return message
