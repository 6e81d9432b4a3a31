"""Requests made from the server's own OpenAPI document, good and bad: no 5xx, every refusal an error object."""

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from tests.security.conftest import PATIENCE_S, serving

schemathesis = pytest.importorskip("schemathesis")
pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.no_cover]

EXAMPLES = 40
ALLOWED_BYTES = 4 * 2**20
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


def check(response):
    if response.is_success:
        return
    assert 400 <= response.status_code < 500, response.text
    assert set(response.json()) == {"error", "code"}


def try_all(server, examples):
    """Return how many requests of each status there were."""
    counts = {}
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
                    if case.operation.method.upper() == "POST":  # a made-up name would be all that is judged
                        case.path_parameters = {"model_name": "steps", "model_version": "3", "stream_id": "7"}
                    response = send(client, case)
                    check(response)
                    counts[response.status_code] = counts.get(response.status_code, 0) + 1

                ask()
    return counts


def test_what_the_document_allows_and_what_it_forbids_is_answered(plain):
    counts = try_all(plain, EXAMPLES)
    before = plain.rss_bytes()
    try_all(plain, EXAMPLES)

    assert {200, 400} <= set(counts)
    assert sum(counts.values()) > EXAMPLES
    assert plain.rss_bytes() - before < ALLOWED_BYTES
    assert plain.is_alive()
