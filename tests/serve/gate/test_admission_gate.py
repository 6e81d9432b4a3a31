"""The gate in front of the routes: what a page in a browser is told, and WebSockets."""

import hashlib

import pytest

from cellgate.serve.gate.admission import Admission, AdmissionRules
from cellgate.serve.gate.admission_gate import AdmissionGate
from cellgate.serve.gate.api_keys import ApiKeys

from .keys_file import write_keys

KEYS = ApiKeys({"robot": hashlib.sha256(b"a-key-of-the-tests-0001").digest()})


async def test_page_of_a_listed_origin_is_told_that_it_may_read(connect):
    async with connect(cors_origins="https://page.example") as client:
        page = {"Origin": "https://page.example"}
        answer = await client.get("/v2", headers=page)
        preflight = await client.options(
            "/v2/models/steps/infer", headers={**page, "Access-Control-Request-Method": "POST"}
        )
        other = await client.get("/v2", headers={"Origin": "https://other.example"})
        refused = await client.options(
            "/v2", headers={"Origin": "https://other.example", "Access-Control-Request-Method": "GET"}
        )

    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    assert answer.headers["vary"].lower() == "origin"
    assert (preflight.status_code, preflight.content) == (204, b"")
    assert preflight.headers["access-control-allow-origin"] == "https://page.example"
    assert "x-api-key" in preflight.headers["access-control-allow-headers"]
    assert preflight.headers["access-control-allow-methods"] == "DELETE, GET, POST, PUT"  # every verb of the routes
    assert "access-control-allow-credentials" not in preflight.headers
    assert other.status_code == 200
    assert "access-control-allow-origin" not in other.headers
    assert (refused.status_code, refused.json()["code"]) == (403, "foreign_origin")


async def test_page_of_a_listed_origin_may_read_why_it_was_refused(connect, tmp_path):
    async with connect(
        cors_origins="https://page.example", api_keys_file=write_keys(tmp_path, "one:the-first-of-two-keys")
    ) as client:
        refused, other = [
            await client.get("/v2", headers={"Origin": origin})
            for origin in ("https://page.example", "https://other.example")
        ]

    assert (refused.status_code, other.status_code) == (401, 401)
    assert refused.headers["access-control-allow-origin"] == "https://page.example"
    assert refused.headers["vary"].lower() == "origin"
    assert "access-control-allow-origin" not in other.headers


async def test_document_tells_the_page_to_ask_for_a_key(connect, tmp_path):
    path = write_keys(tmp_path, "one:the-first-of-two-keys")
    async with connect(api_keys_file=path, open_paths="docs") as client:
        document = (await client.get("/openapi.json")).json()
        page = await client.get("/docs")
        health = await client.get("/v2/health/live")

    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers.get_list("x-content-type-options") == ["nosniff"]
    assert health.status_code == 401


class State:
    def __init__(self, rules):
        self.admission = Admission(rules)


@pytest.mark.parametrize("rules", [AdmissionRules(), AdmissionRules(keys=KEYS)])
async def test_websocket_is_admitted_like_everything_else(rules):
    reached, sent = [], []

    async def app(scope, receive, send):
        reached.append(scope["type"])

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "path": "/v2/stream", "headers": [(b"host", b"a")], "client": ("192.0.2.1", 1)}
    await AdmissionGate(app, State(rules))(scope, None, send)
    await AdmissionGate(app, State(rules))({**scope, "headers": [(b"origin", b"http://evil.example")]}, None, send)

    assert reached == ([] if rules.keys else ["websocket"])
    statuses = [message["status"] for message in sent if message["type"] == "websocket.http.response.start"]
    assert statuses == ([401, 403] if rules.keys else [403])
    assert {message["type"] for message in sent} == {"websocket.http.response.start", "websocket.http.response.body"}
