"""Requests made from the server's own OpenAPI document, good and bad: no 5xx, every refusal an error object."""

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from tests.security.conftest import PATIENCE_S, serving

schemathesis = pytest.importorskip("schemathesis")
pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.no_cover]

EXAMPLES = 40
ALLOWED_BYTES = 4 * 2**20
WITH_BODY = ("POST", "PUT")
MODES = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]


@pytest.fixture(scope="module")
def plain(tmp_path_factory, security_bundle):
    with serving(tmp_path_factory.mktemp("schema"), security_bundle) as server:
        yield server


def operations(document):
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        yield found.ok()


def send(client, case):
    """Send a case as it is, with what no client of Python would send taken out."""
    given_ = case.as_transport_kwargs(base_url=str(client.base_url))
    headers = {name: value for name, value in given_["headers"].items() if value.isascii() and value.isprintable()}
    return client.request(
        given_["method"],
        given_["url"],
        params=given_.get("params"),
        headers=headers,
        content=given_.get("data") if isinstance(given_.get("data"), bytes) else None,
        json=given_.get("json"),
    )


def check(case, response):
    """The status is one that the document has for this operation, and so is the form."""
    declared = case.operation.definition.raw["responses"]
    assert str(response.status_code) in declared, (case.operation.label, response.status_code, response.text)
    assert response.headers["content-type"] in declared[str(response.status_code)]["content"]
    if response.is_success:
        return
    assert 400 <= response.status_code < 500, response.text
    assert {"error", "code"} <= set(response.json()) <= {"error", "code", "expected_step"}


def try_all(server, examples):
    """Return how many requests of each status there were, and which operations were asked."""
    counts, asked = {}, set()
    with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client:
        for operation in operations(client.get("/openapi.json").json()):
            for mode in MODES:
                if mode is schemathesis.GenerationMode.NEGATIVE and operation.method.upper() != "POST":
                    continue  # a path may be any string, and there is nothing else to be wrong
                strategy = operation.as_strategy(generation_mode=mode)

                @seed(5)
                @settings(
                    max_examples=examples,
                    deadline=None,
                    database=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                @given(strategy)
                def ask(case):
                    if case.operation.method.upper() in WITH_BODY:  # a made-up name would be all that is judged
                        case.path_parameters = {"model_name": "steps", "model_version": "3", "stream_id": "7"}
                    response = send(client, case)
                    check(case, response)
                    asked.add(case.operation.label)
                    counts[response.status_code] = counts.get(response.status_code, 0) + 1

                ask()
    return counts, asked


def test_what_the_document_allows_and_what_it_forbids_is_answered(plain):
    counts, asked = try_all(plain, EXAMPLES)
    before = plain.rss_bytes()
    try_all(plain, EXAMPLES)

    assert {200, 400} <= set(counts)
    assert {f"{method} /v2/models/{{model_name}}/streams/{{stream_id}}/state" for method in ("GET", "PUT")} <= asked
    assert sum(counts.values()) > EXAMPLES
    assert plain.rss_bytes() - before < ALLOWED_BYTES
    assert plain.is_alive()


def test_a_state_goes_both_ways_as_the_document_says(plain):
    head = {"name": "x", "shape": [1, 1, 2], "datatype": "FP32", "data": [0.1, 0.2]}
    begin = {"parameters": {"sequence_id": 5, "sequence_start": True}, "inputs": [head]}
    with httpx.Client(base_url=plain.url, timeout=PATIENCE_S) as client:
        assert client.post("/v2/models/steps/infer", json=begin).status_code == 200
        schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
        state = schema["/v2/models/{model_name}/streams/{stream_id}/state"]
        answers = []
        for method, stream, body in (("GET", "5", None), ("PUT", "6", True), ("PUT", "6", True), ("GET", "9", None)):
            more = {"body": answers[0].content, "media_type": "application/octet-stream"} if body else {}
            case = state[method].Case(path_parameters={"model_name": "steps", "stream_id": stream}, **more)
            answers.append(send(client, case))
            check(case, answers[-1])

    assert [answer.status_code for answer in answers] == [200, 200, 409, 404]
    assert answers[1].json()["sequence_id"] == 6
