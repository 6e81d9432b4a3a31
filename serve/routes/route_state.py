"""How the routes of HTTP get the state that they share: from their application, by FastAPI's own injection.

Rules of this file: only routes import it. What knows the state alone, as the gRPC frontend does, loads no FastAPI.
"""

from typing import Annotated

from fastapi import Depends, Request

from ..serving_state import ServingState


async def _state_of(request: Request) -> ServingState:
    state = request.app.state.serving
    assert isinstance(state, ServingState)
    return state


Serving = Annotated[ServingState, Depends(_state_of)]
