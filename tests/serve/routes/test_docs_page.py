"""The OpenAPI document and its page: true, complete, and nothing from elsewhere."""

import gzip
import hashlib
import json
import re
from importlib import resources

import pytest

from cellgate.serve.routes.openapi import openapi_document
from cellgate.serve.routes.wire_schema import (
    ErrorAnswer,
    InferenceRequest,
    InferenceResponse,
    Live,
    ModelList,
    ModelMetadata,
    ModelReady,
    Ready,
    ServerMetadata,
)

# As listed in static/NOTICE.txt.
DIGESTS = {
    "swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    "swagger-ui.css": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
}


@pytest.fixture
async def client(connect):
    async with connect() as opened:
        yield opened


@pytest.fixture
async def document(client):
    return (await client.get("/openapi.json")).json()


def references(value):
    if isinstance(value, dict):
        yield from ([value["$ref"]] if "$ref" in value else [])
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from references(item)


NAMES = {"model_name": "steps", "model_version": "3"}


async def test_document_lists_every_route_of_the_protocol(document):
    versions = ("", "/versions/{model_version}")

    assert set(document["paths"]) == {
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models",
        "/v2/models/stats",
        "/v2/repository/index",
        "/v2/models/{model_name}/streams/{stream_id}",
        "/v2/models/{model_name}/streams/{stream_id}/fork",
        "/v2/models/{model_name}/streams/{stream_id}/state",
        *(
            f"/v2/models/{{model_name}}{version}{end}"
            for version in versions
            for end in ("", "/ready", "/infer", "/stats", "/config")
        ),
    }


async def test_every_reference_of_the_document_leads_somewhere(document):
    found = set(references(document))

    assert "#/components/schemas/InferenceRequest" in found
    for reference in found:
        assert reference.rpartition("/")[2] in document["components"]["schemas"]


async def test_every_operation_describes_its_failures_as_the_error_object(document):
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if path.endswith("/ready") and status == "503":  # no failure, but the answer no
                    assert response["content"] == operation["responses"]["200"]["content"]
                elif path.endswith("/state") and status == "200" and "requestBody" not in operation:
                    assert set(response["content"]) == {"application/octet-stream"}
                else:
                    schema = response["content"]["application/json"]["schema"]["$ref"]
                    assert schema.endswith("/ErrorAnswer") is (status != "200"), (path, status)
            assert ("422" in operation["responses"]) is path.endswith("/infer")  # a step with another payload
    infer = document["paths"]["/v2/models/{model_name}/infer"]["post"]
    assert set(infer["responses"]) == {"200", "400", "404", "409", "410", "413", "415", "422", "500", "503", "504"}


async def test_every_question_of_readiness_says_that_the_answer_may_be_no(document):
    asked = {path: set(found["get"]["responses"]) for path, found in document["paths"].items() if "/ready" in path}

    assert len(asked) == 3
    for path, statuses in asked.items():
        assert statuses == ({"200", "503"} if "{" not in path else {"200", "404", "503"})


async def test_the_state_of_a_stream_is_described_as_octets_both_ways(document):
    state = document["paths"]["/v2/models/{model_name}/streams/{stream_id}/state"]
    octets = {"application/octet-stream"}

    assert set(state) == {"get", "put"}
    assert set(state["get"]["responses"]) == {"200", "400", "404", "410", "503"}
    assert set(state["get"]["responses"]["200"]["content"]) == octets
    assert set(state["put"]["responses"]) == {"200", "400", "404", "409", "410", "413", "503"}
    assert set(state["put"]["requestBody"]["content"]) == octets


@pytest.mark.parametrize("name", ["steps", "last", "tokens"])
@pytest.mark.parametrize(
    "path", ["/v2/models/{model_name}/infer", "/v2/models/{model_name}/versions/{model_version}/infer"]
)
async def test_example_of_every_model_works_as_it_stands(client, document, name, path):
    body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]

    example = body["examples"][name]["value"]
    response = await client.post(path.format(model_name=name, model_version="3"), json=example)

    assert response.status_code == 200
    InferenceRequest.model_validate(example)
    InferenceResponse.model_validate(response.json())


async def test_further_examples_work_too_and_show_unequal_lengths_states_and_streams(client, document):
    path = "/v2/models/{model_name}/infer"
    examples = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
    answers = {}
    for name, example in examples.items():
        InferenceRequest.model_validate(example["value"])
        model = name.partition(",")[0]
        answers[name] = await client.post(path.format(model_name=model), json=example["value"])
        assert answers[name].status_code == 200, (name, answers[name].text)

    both = answers["steps, two sequences and their states"].json()["outputs"]
    assert [output["name"] for output in both] == ["y", "h_n", "c_n"]
    alone = answers["steps"].json()["outputs"][0]
    assert both[0]["shape"] == [2, *alone["shape"][1:]]
    values = both[0]["data"]
    width = both[0]["shape"][2]
    assert values[: len(alone["data"])] == alone["data"]
    assert values[2 * width : 3 * width] == values[:width]
    assert not any(values[3 * width :])
    assert answers["steps, first chunk of a stream"].json()["parameters"] == {"sequence_id": 7, "sequence_step": 0}


async def test_binary_tensors_are_described_both_ways(document):
    infer = document["paths"]["/v2/models/{model_name}/infer"]["post"]

    (header,) = (each for each in infer["parameters"] if each["in"] == "header")
    assert (header["name"], header["required"]) == ("Inference-Header-Content-Length", False)
    assert "example" not in header  # the page would send it with every request
    assert set(infer["responses"]["200"]["content"]) == {"application/json", "application/octet-stream"}
    assert set(infer["responses"]["200"]["headers"]) == {"Inference-Header-Content-Length"}


async def test_every_operation_stands_under_one_of_the_documents_tags(document):
    tags = [tag["name"] for tag in document["tags"]]

    used = [operation["tags"] for path in document["paths"].values() for operation in path.values()]
    assert tags == ["inference", "streams", "models", "server"]
    assert all(len(each) == 1 for each in used)
    assert {each[0] for each in used} == set(tags)


def test_where_keys_are_asked_for_the_page_asks_too_and_says_what_becomes_of_others():
    document = json.loads(openapi_document([], has_keys=True))

    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}
    for path in document["paths"].values():
        for operation in path.values():
            assert {"401", "403"} <= set(operation["responses"])


async def test_nothing_of_frameworks_own_errors_is_in_the_document(document):
    assert "HTTPValidationError" not in str(document)


@pytest.mark.parametrize("model", [InferenceRequest, InferenceResponse])
async def test_schemas_describe_binary_tensors_too(model):
    tensor = {"name": "x", "shape": [1, 2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    fields = {"model_name": "steps", "model_version": "3"} if model is InferenceResponse else {}

    found = model.model_validate({**fields, "inputs" if not fields else "outputs": [tensor]})

    assert found.model_dump(exclude_none=True, exclude_unset=True)


async def test_infer_takes_json_and_octets(document):
    body = document["paths"]["/v2/models/{model_name}/infer"]["post"]["requestBody"]

    assert set(body["content"]) == {"application/json", "application/octet-stream"}


async def test_examples_of_path_parameters_name_a_served_model(document):
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] != "path":
                    continue
                assert parameter["example"] == {**NAMES, "stream_id": "7"}[parameter["name"]]


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/v2", ServerMetadata),
        ("/v2/health/live", Live),
        ("/v2/health/ready", Ready),
        ("/v2/models", ModelList),
        ("/v2/models/last", ModelMetadata),
        ("/v2/models/last/ready", ModelReady),
        ("/v2/models/nope", ErrorAnswer),
    ],
)
async def test_answers_have_the_form_that_the_document_says(client, path, schema):
    answer = (await client.get(path)).json()

    assert schema.model_validate(answer).model_dump(exclude_none=True) == answer


async def test_page_loads_only_what_this_server_sends(client):
    page = await client.get("/docs")

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'; script-src 'self'" in page.headers["content-security-policy"]
    assert not re.search(r"(?:https?:)?//", page.text)
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(links) == 4
    for link in links:
        part = await client.get("/" + link)
        assert part.status_code == 200
        assert part.content
        assert part.headers["x-content-type-options"] == "nosniff"


async def test_the_bare_address_leads_to_the_page(client):
    found = await client.get("/")
    page = await client.get("/", follow_redirects=True)

    assert (found.status_code, found.headers["location"]) == (307, "docs")
    assert (page.url.path, page.status_code) == ("/docs", 200)
    assert "swagger-ui" in page.text


@pytest.mark.parametrize(("open_paths", "status"), [("docs", 307), ("health", 401)])
async def test_who_needs_a_key_for_the_page_needs_one_for_the_way_to_it(connect, tmp_path, open_paths, status):
    keys = tmp_path / "keys"
    keys.write_text("robot:0123456789abcdef\n")

    async with connect(api_keys_file=str(keys), open_paths=open_paths) as asker:
        found = await asker.get("/")

    assert found.status_code == status


async def test_page_sends_the_document_to_no_public_validator(client):
    start = await client.get("/docs/start.js")

    assert start.headers["content-type"] == "text/javascript; charset=utf-8"
    assert "validatorUrl: null" in start.text
    assert 'url: "openapi.json"' in start.text
    assert not re.search(r"(?:https?:)?//", start.text)


@pytest.mark.parametrize(
    ("name", "media_type"), [("swagger-ui-bundle.js", "text/javascript"), ("swagger-ui.css", "text/css")]
)
@pytest.mark.parametrize("accepted", ["gzip", "identity"])
async def test_shipped_files_are_the_published_ones_compressed_or_not(client, name, media_type, accepted):
    response = await client.get(f"/docs/{name}", headers={"Accept-Encoding": accepted})

    assert response.headers.get("content-encoding") == ("gzip" if accepted == "gzip" else None)
    assert response.headers["content-type"] == f"{media_type}; charset=utf-8"
    assert response.headers["vary"] == "Accept-Encoding"
    assert "max-age" in response.headers["cache-control"]
    assert hashlib.sha256(response.content).hexdigest() == DIGESTS[name]


def test_licences_of_the_shipped_files_are_shipped_with_them():
    static = resources.files("cellgate.serve.routes").joinpath("static")
    notice = static.joinpath("NOTICE.txt").read_text()

    assert "Apache License" in static.joinpath("swagger-ui.LICENSE.txt").read_text()
    for name, digest in DIGESTS.items():
        assert digest in notice
        assert hashlib.sha256(gzip.decompress(static.joinpath(f"{name}.gz").read_bytes())).hexdigest() == digest
