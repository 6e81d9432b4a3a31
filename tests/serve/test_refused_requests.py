"""Requests that end in the middle of their bodies: counted, logged and traced once, by both routes."""

import json
import logging
from types import SimpleNamespace

import pytest

from cellgate.serve.observe.counter_layout import REQUEST_S, REQUESTS, STATUSES

from .hot_wire import INFER, JSON, Wire, listen, raw, status_of, until

NO_MODEL, STEPS = 0, 1
HALF = raw(JSON, "X-Request-Id: mine")[:-5]
IN_CHUNKS = raw(b"1\r\n \r\n" * 9, "X-Request-Id: mine", "Transfer-Encoding: chunked", length=False)


def ends_of(served):
    """Return the requests that ended, by model and status, and how many durations were noted."""
    reading = served.app.state.serving.counters.read()
    ends = {}
    for model in (NO_MODEL, STEPS):
        for place, status in enumerate(STATUSES):
            if count := reading.value(REQUESTS, model, 0, place):
                ends[model, status] = count
    return ends, sum(sum(reading.histogram(REQUEST_S, model, 0)[0]) for model in (NO_MODEL, STEPS))


def lines_of(caplog):
    return [(line["model"], line["status"], line["request_id"]) for line in map(json.loads, caplog.messages)]


@pytest.fixture(params=[False, True], ids=["asgi", "hot"])
def listening(request, served_models, make_manual_port, caplog):
    caplog.set_level(logging.INFO, logger="cellgate.access")
    return lambda **more: listen(
        [served_models["steps"]], make_manual_port(), hot_route=request.param, access_log=True, **more
    )


async def is_reading(served):
    """Wait until the head has been read, and whoever is to answer has begun."""
    await until(lambda: any(connection._reading == 2 for connection in served.state.connections))
    await until(lambda: not served.state.tasks or all(one.get_stack() for one in served.state.tasks))


async def is_over(served):
    await until(lambda: not served.state.connections and not served.state.tasks)


async def test_who_sends_a_body_too_slowly_is_counted_and_logged_once(listening, caplog):
    async with listening() as served, Wire.open(served) as wire:
        wire.send(HALF)
        await is_reading(served)
        (connection,) = served.state.connections
        connection.give_up(connection.awaited())
        answer = await wire.rest()
        await is_over(served)
        found = ends_of(served)

    assert status_of(answer) == 408
    assert b"\r\nx-request-id: mine\r\n" in answer
    assert found == ({(STEPS, 408): 1}, 1)
    assert lines_of(caplog) == [("steps", 408, "mine")]
    assert json.loads(caplog.messages[0])["answer_bytes"] == len(answer.partition(b"\r\n\r\n")[2])


async def test_who_is_refused_before_the_routes_have_begun_is_counted_and_logged_once(listening, caplog):
    async with listening(max_chunks=3) as served, Wire.open(served) as wire:
        wire.send(IN_CHUNKS)
        answer = await wire.rest()
        await is_over(served)
        found = ends_of(served)

    assert status_of(answer) == 413
    assert b"\r\nx-request-id: mine\r\n" in answer
    assert found == ({(STEPS, 413): 1}, 1)
    assert lines_of(caplog) == [("steps", 413, "mine")]


async def test_who_goes_away_in_the_middle_of_a_body_is_counted_and_logged_once(listening, caplog):
    async with listening() as served:
        async with Wire.open(served) as wire:
            wire.send(HALF)
            await is_reading(served)
        await is_over(served)
        found = ends_of(served)

    assert found == ({(STEPS, 499): 1}, 1)
    assert lines_of(caplog) == [("steps", 499, "mine")]


async def test_a_request_refused_behind_another_one_is_for_no_model_and_has_no_line(
    served_models, make_manual_port, caplog
):
    caplog.set_level(logging.INFO, logger="cellgate.access")
    port = make_manual_port()
    async with listen([served_models["steps"]], port, access_log=True, max_chunks=3) as served:
        async with Wire.open(served) as wire:
            wire.send(raw(path="/v2", method="GET") + IN_CHUNKS)
            answers = await wire.rest()
        await is_over(served)
        found = ends_of(served)

    assert [answers.count(b"HTTP/1.1 %d " % status) for status in (200, 413)] == [1, 1]
    assert found == ({(NO_MODEL, 200): 1, (NO_MODEL, 413): 1}, 2)
    assert [line["path"] for line in map(json.loads, caplog.messages)] == ["/v2"]
    assert INFER not in caplog.text


async def test_a_request_refused_in_its_body_is_traced_as_what_it_was_refused_with(served_models, make_manual_port):
    traces = []
    tracer = SimpleNamespace(record=traces.append, close=lambda: None)
    async with listen([served_models["steps"]], make_manual_port(), tracer=tracer, max_chunks=3) as served:
        async with Wire.open(served) as wire:
            wire.send(IN_CHUNKS)
            await wire.rest()
        await is_over(served)

    assert [(trace.status, trace.error, trace.request_id) for trace in traces] == [(413, "too_many_chunks", "mine")]
