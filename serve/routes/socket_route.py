"""The route of live connections: `/v2/models/{name}/stream`, a WebSocket.

Rules of this file: what is refused before the connection is one is refused as HTTP, with the error object that every
other route answers with.
"""

from contextlib import suppress

from fastapi import APIRouter, WebSocket
from starlette.responses import Response
from starlette.websockets import WebSocketDisconnect

from ..connection.live_protocol import GOING_AWAY
from ..error_answer import answer_error
from ..errors import ServeError
from ..head_errors import UpgradeRequired
from ..infer.infer_request import RequestReader
from ..observe.request_id import KEY
from ..observe.request_meter import RequestMeters
from ..observe.request_watch import watch_requests
from ..serving_state import ServingState
from .live_connection import LiveConnection
from .route_state import Serving
from .socket_message import Message

socket_router = APIRouter()


@socket_router.websocket("/v2/models/{model_name}/stream")
async def stream(websocket: WebSocket, model_name: str) -> None:
    """Inference requests as messages, answered in their order."""
    await _serve(websocket, model_name, None)


@socket_router.websocket("/v2/models/{model_name}/versions/{model_version}/stream")
async def stream_version(websocket: WebSocket, model_name: str, model_version: str) -> None:
    """As without a version, which means the one that is current at each message."""
    await _serve(websocket, model_name, model_version)


@socket_router.get("/v2/models/{model_name}/stream", include_in_schema=False)
async def refuse_plain(serving: Serving, model_name: str) -> Response:
    """Say what the path is to whoever asks without the header, or through a proxy that drops it."""
    serving.reader_for(model_name, None)
    raise UpgradeRequired


@socket_router.get("/v2/models/{model_name}/versions/{model_version}/stream", include_in_schema=False)
async def refuse_plain_version(serving: Serving, model_name: str, model_version: str) -> Response:
    """As without a version."""
    serving.reader_for(model_name, model_version)
    raise UpgradeRequired


async def _serve(websocket: WebSocket, name: str, version: str | None) -> None:
    serving = websocket.app.state.serving
    assert isinstance(serving, ServingState)
    try:
        serving.open_queue()
        model, _ = serving.reader_for(name, version)
    except ServeError as err:
        await websocket.send_denial_response(answer_error(err))
        return
    await websocket.accept()

    async def receive() -> Message | None:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return None
        found: Message | None = message.get("text")
        return found if found is not None else bytes(message["bytes"])

    async def send(message: Message) -> None:
        await (websocket.send_text(message) if isinstance(message, str) else websocket.send_bytes(message))

    scope = websocket.scope
    watch = watch_requests(
        serving,
        protocol="websocket",
        method="GET",
        path=scope["path"],
        model=model,
        headers=scope["headers"],
        request_id=scope.get(KEY),
    )

    def find_reader() -> RequestReader:  # for each message: another version may be current by then
        _, reader = serving.reader_for(name, version)
        return reader

    meter = RequestMeters(serving.counters.own, "websocket").of(model.name)
    await LiveConnection(serving, find_reader, meter, receive, send, (WebSocketDisconnect,), watch).run()
    if serving.draining:
        with suppress(RuntimeError, WebSocketDisconnect):  # the client was quicker
            await websocket.close(GOING_AWAY)
