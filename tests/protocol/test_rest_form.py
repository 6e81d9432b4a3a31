"""What only a request over HTTP can say wrongly."""

import json

import pytest


@pytest.fixture
def facts(models):
    return models[0]


@pytest.fixture
def good(facts):
    tensor = facts.request().inputs[0]
    return {
        "inputs": [
            {
                "name": tensor.name,
                "shape": list(tensor.shape),
                "datatype": tensor.datatype,
                "data": tensor.elements.tolist(),
            }
        ]
    }


@pytest.fixture
def refuse(http, facts):
    """Send what must be refused, and return the status."""

    def send(content, **headers):
        found = http.post(f"/v2/models/{facts.name}/infer", content=content, headers=headers)
        assert isinstance(found.json()["error"], str)
        return found.status_code

    return send


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="half"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'"text"', id="text"),
        pytest.param(b"\xff\xfe", id="not UTF-8"),
        pytest.param(b"[" * 250_000, id="a quarter of a million levels"),
        pytest.param(b'{"inputs": {}}', id="inputs that are no list"),
        pytest.param(b'{"inputs": [[]]}', id="an input that is no object"),
        pytest.param(b'{"inputs": [], "extra": 1}', id="an unknown field"),
        pytest.param(b'{"inputs": [], "inputs": []}', id="a field twice"),
    ],
)
def test_what_is_no_request_is_refused(refuse, body):
    assert refuse(body) == 400


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e400", "1e39", '"1"', "true", "null", "[1]"])
def test_an_element_that_is_no_number_of_the_datatype_is_refused(refuse, good, value):
    text = json.dumps(good).replace(json.dumps(good["inputs"][0]["data"]), f"[{value}]")

    assert refuse(text) == 400


def test_ragged_nesting_is_refused(refuse, good):
    rows = good["inputs"][0]["data"]
    good["inputs"][0]["data"] = [rows[0] + rows[1][:1], rows[1][1:]]

    assert refuse(json.dumps(good)) == 400


@pytest.mark.parametrize("length", ["-1", "x", "", "99999999999", "1e9", "0x10", "1.5"])
def test_a_length_of_the_head_that_cannot_be_is_refused(refuse, good, length):
    assert refuse(json.dumps(good), **{"Inference-Header-Content-Length": length}) == 400


@pytest.mark.parametrize("media", ["text/plain", "application/x-pickle", "multipart/form-data; boundary=x"])
def test_another_content_type_is_refused(refuse, good, media):
    assert refuse(json.dumps(good), **{"Content-Type": media}) == 415


def test_a_compressed_body_is_refused(refuse, good):
    assert refuse(json.dumps(good), **{"Content-Encoding": "gzip"}) == 415


def test_no_content_type_is_fine(http, facts, good):
    response = http.post(f"/v2/models/{facts.name}/infer", content=json.dumps(good))

    assert response.status_code == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_another_verb_is_refused(http, facts, method):
    response = http.request(method, f"/v2/models/{facts.name}/infer")

    assert response.status_code == 405
    assert response.json()["error"]


def test_another_path_is_not_found(http):
    response = http.get("/v2/nothing")

    assert response.status_code == 404
    assert response.json()["error"]
