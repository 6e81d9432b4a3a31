"""The calls of the control listener: load, unload, and what is asked beside them. None of them runs a model.

Rules of this file: as `calls`.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message

from ..models.control_port import ControlAction, ControlPort
from ..models.control_request import version_of
from ..serving_state import ServingState
from .calls import HEALTH, SERVICE, Call, Calls, parse_small
from .inference_pb2 import (
    ModelRepositoryParameter,
    RepositoryModelLoadRequest,
    RepositoryModelLoadResponse,
    RepositoryModelUnloadRequest,
    RepositoryModelUnloadResponse,
)

_ASKED = ("ServerLive", "ServerReady", "ServerMetadata", "RepositoryIndex")


class ControlCalls:
    """What the calls answer.

    Args:
        serving: the state of this process.
        control: reaches whoever holds the models.
    """

    def __init__(self, serving: ServingState, control: ControlPort) -> None:
        self._questions = Calls(serving).by_path()
        self._control = control

    def by_path(self) -> Mapping[str, Call]:
        """Return the calls by their full names; see `Calls.by_path`."""
        paths = [f"/{HEALTH}/Check", *(f"/{SERVICE}/{name}" for name in _ASKED)]
        return {
            **{path: self._questions[path] for path in paths},
            f"/{SERVICE}/RepositoryModelLoad": self._load,
            f"/{SERVICE}/RepositoryModelUnload": self._unload,
        }

    async def _load(self, body: bytes, _remaining_s: float | None) -> Message:
        asked = parse_small(RepositoryModelLoadRequest, body)
        await self._order("load", asked.model_name, asked.parameters)
        return RepositoryModelLoadResponse()

    async def _unload(self, body: bytes, _remaining_s: float | None) -> Message:
        asked = parse_small(RepositoryModelUnloadRequest, body)
        await self._order("unload", asked.model_name, asked.parameters)
        return RepositoryModelUnloadResponse()

    async def _order(self, action: ControlAction, name: str, given: Mapping[str, ModelRepositoryParameter]) -> None:
        parameters = {key: _value(value) for key, value in given.items()}
        await self._control.control(action, name, version_of(parameters))


def _value(parameter: ModelRepositoryParameter) -> Any:
    kind = parameter.WhichOneof("parameter_choice")
    return None if kind is None else getattr(parameter, kind)
