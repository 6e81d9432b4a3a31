"""Endpoints about streams: look at one, take its state along, bring it back, fork it, close it.

Rules of this file: this server's own, no part of the protocol. A name of digits is a number, any other a text; `s:` and
`n:` before it say which one is meant. What is between two requests of a stream is what is seen: an order waits for its
turn.
"""

import re
from typing import Annotated, Any, Final
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Depends, Path, Request
from starlette.responses import Response

from ..engine.work import OrderKind, StreamOrder, StreamReport
from ..errors import BadInput, shown
from ..infer.body import read_body
from ..infer.json_object import parse_object
from ..infer.json_response import render_object
from ..infer.request_parameters import stream_of
from ..serving_state import ServingState
from . import wire_schema
from .observation_routes import ModelName
from .route_state import Serving

StreamName = Annotated[str, Path(description="Id of a stream; a number, or text. `s:7` is the text 7.")]

_NUMBER: Final = re.compile("[1-9][0-9]{0,19}")
_STREAM: Final = "/v2/models/{model_name}/streams/{stream_id}"
_ERRORS: Final = {
    400: "The id, or what was sent, is none.",
    404: "No such model, or nothing is known of the stream.",
    410: "The stream has ended or expired, or is damaged in its store.",
    503: "The server is starting or stopping, the engine was lost, or the store of streams does not answer.",
}
_TAKEN: Final = {
    409: "A live stream has the id already, or the state is of another bundle.",
    413: "The body is too large.",
    503: f"{_ERRORS[503]} Or there is no room for more streams.",
}
_OCTETS: Final = "application/octet-stream"
_STATE: Final = {"type": "string", "format": "binary", "description": "A record of this server's own, of any length."}
_STATE_CONTENT: Final = {_OCTETS: {"schema": _STATE}}
_ID: Final = {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 2**64 - 1}, {"type": "string", "minLength": 1}]}
_FORK: Final = {"type": "object", "properties": {"to": _ID}, "required": ["to"], "additionalProperties": False}

stream_router = APIRouter()


def _id_of(request: Request, stream_id: StreamName) -> int | str:
    form, sign, rest = stream_id.partition(":")
    is_number = form == "n" if sign and form in ("n", "s") else bool(_NUMBER.fullmatch(stream_id))
    text = rest if sign and form in ("n", "s") else stream_id
    if is_number and not _NUMBER.fullmatch(text):
        raise BadInput("stream", "n: and a number", shown(stream_id))
    _check_text(request)
    ref = stream_of({"sequence_id": int(text) if is_number else text})
    if ref is None:
        raise BadInput("stream", "an id", shown(stream_id))
    return ref.id


def _check_text(request: Request) -> None:
    """Refuse a path that is no text: what cannot be read in it would name a stream of the character U+FFFD."""
    try:
        unquote_to_bytes(request.scope.get("raw_path", b"")).decode()
    except UnicodeDecodeError as err:
        raise BadInput("stream", "an id in UTF-8, written by percent signs where need be", "other bytes") from err


StreamId = Annotated[int | str, Depends(_id_of)]


def _responses(more: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    found: dict[int | str, dict[str, Any]] = {200: {"model": wire_schema.StreamFacts, "description": "Done."}}
    errors = {**_ERRORS, **more}
    found.update({code: {"model": wire_schema.ErrorAnswer, "description": text} for code, text in errors.items()})
    return found


@stream_router.get(_STREAM, summary="What is known of a stream", responses=_responses({}))
async def read_stream(serving: Serving, model_name: ModelName, stream_id: StreamId) -> Response:
    """Its last step, how long it has been idle, whether it has ended."""
    return _json(await _order(serving, "show", model_name, stream_id))


@stream_router.delete(_STREAM, summary="End a stream", responses=_responses({}))
async def close_stream(serving: Serving, model_name: ModelName, stream_id: StreamId) -> Response:
    """Whoever goes on with it is told 410."""
    return _json(await _order(serving, "close", model_name, stream_id))


@stream_router.get(
    f"{_STREAM}/state",
    summary="Take the state of a stream along",
    response_class=Response,  # of no type, so that the document names none but this one
    responses={**_responses({}), 200: {"content": _STATE_CONTENT, "description": "Done."}},
)
async def read_state(serving: Serving, model_name: ModelName, stream_id: StreamId) -> Response:
    """Its record as bytes, for PUT on another server or under another id."""
    report = await _order(serving, "export", model_name, stream_id)
    return Response(report.data, media_type=_OCTETS)


@stream_router.put(
    f"{_STREAM}/state",
    summary="Bring the state of a stream",
    responses=_responses(_TAKEN),
    openapi_extra={"requestBody": {"required": True, "content": _STATE_CONTENT}},
)
async def write_state(serving: Serving, request: Request, model_name: ModelName, stream_id: StreamId) -> Response:
    """The stream goes on here from there; the last step can be repeated."""
    data = await read_body(request, serving.settings.max_body_bytes)
    return _json(await _order(serving, "bring", model_name, stream_id, data))


@stream_router.post(
    f"{_STREAM}/fork",
    summary="Fork a stream",
    responses=_responses(_TAKEN),
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _FORK}}}},
)
async def fork_stream(serving: Serving, request: Request, model_name: ModelName, stream_id: StreamId) -> Response:
    """`{"to": ID}`: another stream goes on from the same state; both live."""
    wanted = parse_object(await read_body(request, serving.settings.max_body_bytes), ("to",))
    ref = stream_of({"sequence_id": wanted["to"]})
    if ref is None:
        raise BadInput("to", "the id of a stream", shown(wanted["to"]))
    report = await _order(serving, "export", model_name, stream_id)
    forked = StreamOrder(kind="bring", model=model_name, id=ref.id, data=report.data)
    return _json(await serving.engine.order(forked))


async def _order(
    serving: ServingState, kind: OrderKind, model: str, stream: int | str, data: bytes = b""
) -> StreamReport:
    serving.open_queue()  # it is up
    found = serving.table.any_of(model)  # streams outlive what is current
    return await serving.engine.order(StreamOrder(kind=kind, model=found.name, id=stream, data=data))


def _json(report: StreamReport) -> Response:
    return Response(render_object(report.facts), media_type="application/json")
