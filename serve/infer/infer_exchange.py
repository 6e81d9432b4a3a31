"""One inference request by ASGI: read the body, hand the work to the engine, render the answer.

Rules of this file: it waits for three things only, the body, the engine and, meanwhile, for the client going away,
which cancels the work.
"""

import asyncio
import time
from dataclasses import replace
from functools import partial
from time import perf_counter

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from ..engine.port import EnginePort
from ..engine.work import Outcome, Reply, Work
from ..errors import ServeError
from ..models.served_model import ServedModel
from ..observe.access_log import CLIENT_GONE, end_of
from ..observe.request_id import KEY
from ..observe.tracing import RequestTrace, RequestTracer
from ..serving_state import ServingState
from .body import check_headers, joined_headers, read_body
from .infer_answer import InferAnswer, render_answer
from .infer_request import RequestReader, is_large_answer, is_large_body


async def exchange(
    serving: ServingState,
    model: ServedModel,
    reader: RequestReader,
    request: Request,
    trace: RequestTrace | None = None,
) -> InferAnswer:
    """Answer a request for inference.

    Args:
        serving: the state of the application.
        model: asked for.
        reader: of its requests.
        request: its body not yet read.
        trace: where to note when what happened, if anybody wants to know.

    Raises:
        ServeError: whatever is wrong with the request, the server or the engine.
        ClientDisconnect: the client went away; its work is cancelled.
    """
    queue = serving.open_room()
    limit = serving.settings.max_body_bytes
    head_bytes = check_headers(joined_headers(request.scope["headers"]), limit)
    body = await read_body(request, limit)
    meter = serving.meters.of(model.name)
    start = perf_counter()
    if is_large_body(len(body), head_bytes):
        work, form = await queue.run(partial(reader.read, body, head_bytes))
    else:
        work, form = reader.read(body, head_bytes)
    meter.spent(perf_counter() - start, 0.0)
    if trace is not None:
        work = replace(work, times=trace.times)
        trace.submitted_s = time.monotonic()
    answer = await infer_while_connected(serving.engine, work, request.receive)
    if trace is not None:
        trace.answered_s = time.monotonic()
    start = perf_counter()
    if is_large_answer(form):
        found = await queue.run(partial(render_answer, form, answer))
    else:
        found = render_answer(form, answer)
    meter.spent(0.0, perf_counter() - start)
    return found


async def traced_exchange(
    serving: ServingState, tracer: RequestTracer, model: ServedModel, reader: RequestReader, request: Request
) -> InferAnswer:
    """Answer a request for inference as `exchange` does, and trace it, whatever its end.

    Raises:
        ServeError, ClientDisconnect: as `exchange`.
    """
    headers = joined_headers(request.scope["headers"])
    name, version, word = model.name, model.version, request.scope.get(KEY, "")
    trace = RequestTrace(headers=headers, model=name, version=version, request_id=word)
    try:
        return await exchange(serving, model, reader, request, trace)
    except ServeError as err:
        trace.status, trace.error = err.status, err.code
        raise
    except (asyncio.CancelledError, ClientDisconnect):
        trace.status, _, trace.error = end_of(request.scope, CLIENT_GONE, error="client_gone")
        raise
    except Exception:
        trace.status, trace.error = ServeError.status, ServeError.code
        raise
    finally:
        trace.ended_s = time.monotonic()
        tracer.record(trace)


async def infer_while_connected(port: EnginePort, work: Work, receive: Receive) -> Reply:
    """Hand work over and wait for its answer as long as somebody waits for it.

    Args:
        port: of the engine.
        work: checked.
        receive: of the request, its body read: the next message is that the client went away.

    Raises:
        ServeError: what the engine refused or failed at.
        ClientDisconnect: the client went away; the work is cancelled.
    """
    done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    async def watch() -> None:
        message = await receive()
        while message["type"] != "http.disconnect":  # an empty last piece of the body
            message = await receive()
        if not done.done():
            done.set_exception(ClientDisconnect())

    def resolve(outcome: Outcome) -> None:
        if not done.done():
            done.set_result(outcome)

    ticket = port.submit(work, resolve)
    watcher = asyncio.ensure_future(watch())
    try:
        outcome = await done
    except (asyncio.CancelledError, ClientDisconnect):
        port.cancel(ticket)
        raise
    finally:
        watcher.cancel()
    if isinstance(outcome, ServeError):
        raise outcome
    return outcome
