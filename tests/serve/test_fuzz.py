"""Whatever the body is: never a 5xx, always the error object, and the server lives on."""

import asyncio
import copy
import json

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellgate.serve.app import create_app
from cellgate.serve.settings import Settings

RELAXED = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([0, 1, 2, 3, 2**31, 2**63, -1])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(["x", "tokens", "lengths", "h0", "y", "FP32", "INT32", "INT64", "FP16", "BYTES"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "shape", "datatype", "data", "parameters", "inputs", "outputs", "id"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)
TENSOR = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", "tokens", "lengths", "h0", "c0", "y"]) | JSON,
        "shape": st.lists(st.integers(-1, 4), max_size=4) | JSON,
        "datatype": st.sampled_from(["FP32", "INT32", "INT64", "FP64", "BYTES"]) | JSON,
        "data": st.lists(st.floats(-5, 5, width=32) | st.integers(-5, 5), max_size=24) | JSON,
    },
    optional={"parameters": JSON},
)
REQUEST = st.fixed_dictionaries(
    {"inputs": st.lists(TENSOR, max_size=4)},
    optional={
        "outputs": st.lists(st.fixed_dictionaries({"name": SCALARS}), max_size=3) | JSON,
        "id": JSON,
        "parameters": JSON,
    },
)
VALID = {
    "id": "a",
    "inputs": [
        {"name": "x", "shape": [2, 2, 2], "datatype": "FP32", "data": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]},
        {"name": "lengths", "shape": [2], "datatype": "INT32", "data": [2, 1]},
        {"name": "h0", "shape": [1, 2, 3], "datatype": "FP32", "data": [0.5, 0, 0, 0, 0, 0.25]},
    ],
    "outputs": [{"name": "y"}, {"name": "h_n"}],
}


def places(value, at=()):
    """Paths to every value inside a JSON value."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*at, key))


@pytest.fixture(scope="module")
def ask(bundle_paths, open_served):
    """Send one body to every model, over one event loop that lives as long as the module."""
    models, engine = open_served(*bundle_paths.values())
    app = create_app(models, Settings(max_steps=64, max_batch_rows=64), engine)
    with asyncio.Runner() as runner:
        lifespan = app.router.lifespan_context(app)
        runner.run(lifespan.__aenter__())
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")

        async def send(body):
            return [await client.post(f"/v2/models/{name}/infer", content=body) for name in bundle_paths]

        def check(body):
            answers = runner.run(send(body))
            for answer in answers:
                found = answer.json()
                if answer.status_code == 200:
                    assert found["outputs"]
                else:
                    assert answer.status_code == 400, answer.text
                    assert (set(found), found["code"]) == ({"error", "code"}, "bad_input")
            return answers

        yield check
        runner.run(client.aclose())
        runner.run(lifespan.__aexit__(None, None, None))


def test_the_seed_of_the_mutations_is_valid(ask):
    assert ask(json.dumps(VALID).encode())[0].status_code == 200


@RELAXED
@given(st.binary(max_size=200))
def test_any_bytes(ask, body):
    ask(body)


@RELAXED
@given(JSON)
def test_any_json(ask, value):
    ask(json.dumps(value).encode())


@RELAXED
@given(REQUEST)
def test_anything_like_a_request(ask, value):
    ask(json.dumps(value).encode())


@RELAXED
@given(st.data())
def test_a_valid_request_with_one_value_exchanged(ask, data):
    request = copy.deepcopy(VALID)
    *path, last = data.draw(st.sampled_from([place for place in places(VALID) if place]))
    target = request
    for key in path:
        target = target[key]
    target[last] = data.draw(JSON)

    ask(json.dumps(request).encode())


@RELAXED
@given(st.integers(0, len(json.dumps(VALID)) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_a_valid_request_with_some_bytes_exchanged(ask, start, inserted, removed):
    body = json.dumps(VALID).encode()

    ask(body[:start] + inserted + body[start + removed :])


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b'{"inputs":' * 250_000,
        b'{"inputs": [{"name": "x", "shape": [1, 1, 2], "datatype": "FP32", "data": '
        + b"[" * 500
        + b"1"
        + b"]" * 500
        + b"}]}",
        b'{"inputs": [{"name": "x", "shape": [1, 1, 2], "datatype": "FP32", "data": [1, 1e400]}]}',
        b'{"inputs": [{"name": "x", "shape": [1, 1, 2], "datatype": "FP32", "data": [1, NaN]}]}',
        b'{"inputs": [{"name": "x", "shape": [16, 1152921504606846978], "datatype": "FP32", "data": [1]}]}',
        b'{"inputs": [{"name": "x", "shape": [1000000000000, 1, 1], "datatype": "FP32", "data": [1]}]}',
        json.dumps({**VALID, "outputs": [{"name": "y"}] * 10_000}).encode(),
        json.dumps({**VALID, "inputs": VALID["inputs"] * 10_000}).encode(),
        json.dumps({**VALID, "parameters": {str(number): number for number in range(10_000)}, "id": 1}).encode(),
        b'"' + b"\\" * 100_001 + b'"',
        b'{"a":' + b'"\\"' * 50_000,
    ],
    ids=[
        "brackets",
        "objects",
        "depth-500",
        "1e400",
        "nan",
        "overflow",
        "1e12",
        "outputs",
        "inputs",
        "parameters",
        "escapes",
        "quotes",
    ],
)
def test_attack_is_a_plain_400(ask, body):
    assert [answer.status_code for answer in ask(body)] == [400, 400, 400]
