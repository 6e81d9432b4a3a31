"""What stands round the routes: the boundary for faults and the access log."""

import json
import logging

import pytest
from starlette.requests import ClientDisconnect

from cellgate.serve.error_answer import FaultBoundary
from cellgate.serve.observe.access_log import AccessLog

SCOPE = {"type": "http", "method": "GET", "path": "/p", "headers": []}


async def drive(app, scope=SCOPE):
    sent = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent


def app_that(error=None, started=False):
    async def app(scope, _receive, send):
        if started or error is None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        if error is not None:
            raise error
        await send({"type": "http.response.body", "body": b"hello"})

    return app


async def test_unforeseen_fault_becomes_a_500_that_says_nothing(caplog):
    sent = await drive(FaultBoundary(app_that(ValueError("secret"))))

    assert sent[0]["status"] == 500
    body = json.loads(sent[1]["body"])
    assert body["code"] == "internal"
    assert "secret" not in body["error"]
    assert body["request_id"] in caplog.text
    assert "secret" in caplog.text


async def test_fault_after_the_answer_began_ends_the_connection():
    with pytest.raises(ValueError, match="late"):
        await drive(FaultBoundary(app_that(ValueError("late"), started=True)))


async def test_client_that_went_away_is_no_fault(caplog):
    caplog.set_level(logging.INFO)

    assert await drive(FaultBoundary(app_that(ClientDisconnect()))) == []
    assert [record.levelname for record in caplog.records] == ["INFO"]


@pytest.mark.parametrize("middleware", [FaultBoundary, AccessLog])
async def test_other_than_http_passes_through(middleware):
    sent = await drive(middleware(app_that()), {"type": "lifespan"})

    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]


def log_with(app, caplog):
    caplog.set_level(logging.INFO, logger="cellgate.access")
    ticks = iter([10.0, 10.25])
    return AccessLog(app, clock=lambda: next(ticks))


async def test_access_log_is_one_json_line_a_request(caplog):
    await drive(log_with(app_that(), caplog), {**SCOPE, "path": "/a\r\n\x1b[31mb"})

    (line,) = caplog.messages
    assert "\n" not in line
    assert "\x1b" not in line
    assert json.loads(line) == {
        "protocol": "http",
        "method": "GET",
        "path": "/a\r\n\x1b[31mb",
        "model": "",
        "status": 200,
        "answer_bytes": 5,
        "duration_s": 0.25,
    }


async def test_request_without_an_answer_is_logged_too(caplog):
    with pytest.raises(ValueError, match="gone"):
        await drive(log_with(app_that(ValueError("gone")), caplog))

    assert json.loads(caplog.messages[0])["status"] == 499


async def test_access_log_is_part_of_the_application_only_where_asked_for(connect, caplog):
    caplog.set_level(logging.INFO, logger="cellgate.access")
    async with connect() as client:
        await client.get("/v2")
    assert caplog.messages == []

    async with connect(access_log=True) as client:
        await client.get("/v2")
    assert json.loads(caplog.messages[0])["path"] == "/v2"
