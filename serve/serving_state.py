"""What the routes share: the models, the queue and the settings, made at one place and handed in.

Rules of this file: no globals; a route gets the state from its application.
"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from .errors import NotReady
from .served_model import ModelTable
from .settings import Settings
from .work_queue import WorkQueue


@dataclass(kw_only=True, slots=True)
class ServingState:
    """The state of one application.

    Attributes:
        table: the served models.
        settings: of this server.
        queue: made in the lifespan, for it belongs to an event loop; None outside.
        draining: the server stops; set by whoever stops it.
    """

    table: ModelTable
    settings: Settings
    queue: WorkQueue | None = None
    draining: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether requests are taken."""
        return self.queue is not None and not self.draining

    def open_queue(self) -> WorkQueue:
        """Return the queue. A request that came before draining began is still answered.

        Raises:
            NotReady: the server has not started, or has stopped.
        """
        if self.queue is None:
            raise NotReady
        return self.queue


async def _state_of(request: Request) -> ServingState:
    state = request.app.state.serving
    assert isinstance(state, ServingState)
    return state


Serving = Annotated[ServingState, Depends(_state_of)]
