"""What the routes share: the models, the engine's port, the queue and the settings, made at one place and handed in.

Rules of this file: no globals; a route gets the state from its application.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from .engine.port import EnginePort
from .errors import NotReady
from .infer_request import RequestReader
from .served_model import ModelTable, ServedModel
from .settings import Settings
from .state_carrier import StateCarrier
from .streams.carried_state import read_state_keys
from .work_queue import WorkQueue


@dataclass(kw_only=True, slots=True)
class ServingState:
    """The state of one application.

    Attributes:
        table: the served models.
        settings: of this server.
        engine: takes the work of this application's event loop.
        queue: for what would hold up the loop; made in the lifespan, for it belongs to a loop; None outside.
        draining: the server stops; set by whoever stops it.
    """

    table: ModelTable
    settings: Settings
    engine: EnginePort
    queue: WorkQueue | None = None
    draining: bool = False
    _readers: dict[str, RequestReader] = field(default_factory=dict)

    def __post_init__(self) -> None:
        path = self.settings.state_keys_path
        keys = () if path is None else read_state_keys(Path(path))
        for model in self.table.models:
            carrier = StateCarrier(model=model, keys=keys, idle_s=self.settings.stream_idle_s)
            self._readers[model.name] = RequestReader(model, self.settings.limits, carrier=carrier)

    @property
    def is_ready(self) -> bool:
        """Whether requests are taken."""
        return self.queue is not None and not self.draining and self.engine.is_ready

    def reader_of(self, model: ServedModel) -> RequestReader:
        """Return what reads the requests for a model of the table."""
        return self._readers[model.name]

    def open_queue(self) -> WorkQueue:
        """Return the queue. A request that came before draining began is still answered.

        Raises:
            NotReady: the server has not started, or has stopped, or there is no engine at the moment.
        """
        if self.queue is None or not self.engine.is_ready:
            raise NotReady
        return self.queue


async def _state_of(request: Request) -> ServingState:
    state = request.app.state.serving
    assert isinstance(state, ServingState)
    return state


Serving = Annotated[ServingState, Depends(_state_of)]
