"""The protocol over HTTP, in process: what is answered, by which routes, and when the server is ready."""

import json
from contextlib import asynccontextmanager

import httpx
import numpy as np
import pytest

from cellgate.serve.app import create_app
from cellgate.serve.settings import Settings

from .error_answer import check_error

EXTENSIONS = [
    "binary_tensor_data",
    "schedule_policy",
    "sequence",
    "sequence(string_id)",
    "statistics",
    "model_configuration",
]


@pytest.fixture
async def client(connect):
    async with connect() as opened:
        yield opened


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2", {"name": "cellgate", "version": "0.1.0", "extensions": EXTENSIONS}),
        ("/v2/", {"name": "cellgate", "version": "0.1.0", "extensions": EXTENSIONS}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models", {"models": ["steps", "last", "tokens"]}),
        ("/v2/models/last/ready", {"name": "last", "ready": True}),
        ("/v2/models/last/versions/3/ready", {"name": "last", "ready": True}),
    ],
)
async def test_small_answers(client, path, expected):
    response = await client.get(path)

    assert (response.status_code, response.json()) == (200, expected)
    assert response.headers["content-type"] == "application/json"


async def test_metadata_is_the_same_with_and_without_a_version(client):
    plain = await client.get("/v2/models/last")
    versioned = await client.get("/v2/models/last/versions/3")

    assert plain.status_code == versioned.status_code == 200
    assert plain.json() == versioned.json()
    assert plain.json()["name"] == "last"


@pytest.mark.parametrize("kind", ["steps", "last", "tokens"])
async def test_answer_is_what_the_equations_say(client, make_network, make_request, read_outputs, kind):
    network = make_network(kind)
    feeds = network.feeds(3, 5, [5, 1, 3], seed=4)

    body = make_request(feeds, ["y", "h_n", "c_n"], id="abc")
    response = await client.post(f"/v2/models/{kind}/infer", json=body)

    assert response.status_code == 200
    answer = response.json()
    assert {key: answer[key] for key in ("model_name", "model_version", "id")} == {
        "model_name": kind,
        "model_version": "3",
        "id": "abc",
    }
    expected = network.compute(feeds)
    for name, array in read_outputs(answer).items():
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-5)


async def test_states_are_returned_only_when_asked_for(client, post, make_network, make_request):
    response = await post(client, make_request({"x": make_network("steps").feeds(1, 2)["x"]}))

    assert [output["name"] for output in response.json()["outputs"]] == ["y"]
    assert "id" not in response.json()


@pytest.mark.parametrize("kind", ["steps", "last", "tokens"])
@pytest.mark.parametrize("all_binary", [True, False])
async def test_binary_tensors_both_ways_give_the_bits_of_json(
    client, post, make_network, make_request, pack_binary, read_binary, read_outputs, kind, all_binary
):
    feeds = make_network(kind).feeds(3, 5, [5, 1, 3], seed=4)
    expected = read_outputs((await post(client, make_request(feeds, ["h_n", "y"]), kind)).json())

    wanted = [{"name": "h_n", "parameters": {"binary_data": True}}, {"name": "y"}]
    body, head_bytes = pack_binary(feeds, wanted, parameters={"binary_data_output": all_binary}, id="abc")
    headers = {"Inference-Header-Content-Length": str(head_bytes), "Content-Type": "application/octet-stream"}
    response = await client.post(f"/v2/models/{kind}/infer", content=body, headers=headers)

    assert (response.status_code, response.headers["content-type"]) == (200, "application/octet-stream")
    found = read_binary(response)
    assert list(found) == ["h_n", "y"]
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])


async def test_raw_body_is_answered_in_binary(client, make_network, read_binary):
    x = make_network("last").feeds(1, 5)["x"]

    response = await client.post(
        "/v2/models/last/infer", content=x.tobytes(), headers={"Inference-Header-Content-Length": "0"}
    )

    zeros = {name: np.zeros((1, 1, 3), np.float32) for name in ("h0", "c0")}
    expected = make_network("last").compute({"x": x, **zeros})["y"]
    np.testing.assert_allclose(read_binary(response)["y"], expected, rtol=0, atol=1e-5)


async def test_versioned_infer_answers_the_same(client, make_network, make_request):
    body = make_request({"x": make_network("steps").feeds(1, 2)["x"]})

    plain = await client.post("/v2/models/steps/infer", json=body)
    versioned = await client.post("/v2/models/steps/versions/3/infer", json=body)

    assert plain.status_code == 200
    assert plain.content == versioned.content


async def test_content_type_may_be_left_out(client, make_network, make_request):
    body = json.dumps(make_request({"x": make_network("steps").feeds(1, 2)["x"]})).encode()

    response = await client.post("/v2/models/steps/infer", content=body)

    assert "content-type" not in response.request.headers
    assert response.status_code == 200


async def test_ragged_rows_equal_each_row_alone(client, post, make_network, make_request, read_outputs):
    feeds = make_network("last").feeds(3, 6, [6, 2, 4])
    together = read_outputs((await post(client, make_request(feeds), "last")).json())["y"]

    for row, length in enumerate([6, 2, 4]):
        alone = {"x": feeds["x"][row : row + 1, :length], "h0": feeds["h0"][:, [row]], "c0": feeds["c0"][:, [row]]}
        found = read_outputs((await post(client, make_request(alone), "last")).json())["y"]
        np.testing.assert_array_equal(found[0], together[row])


async def test_large_body_is_read_and_its_answer_rendered_beside_the_event_loop(
    connect, post, make_network, make_request
):
    feeds = make_network("steps").feeds(1, 12_000)
    async with connect() as client:
        queue, used = client.app.state.serving.queue, []
        real = queue.run

        async def run(work):
            used.append(work.func.__name__)
            return await real(work)

        queue.run = run
        response = await post(client, make_request({"x": feeds["x"]}))
        await post(client, make_request({"x": feeds["x"][:, :10]}))

    assert response.status_code == 200
    assert used == ["read", "render_answer"]


async def test_server_outside_its_lifespan_is_not_ready(served_models, make_manual_port):
    app = create_app([served_models["last"]], Settings(), make_manual_port())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        ready = await client.get("/v2/health/ready")
        one_ready = await client.get("/v2/models/last/ready")
        infer = await client.post("/v2/models/last/infer", json={})
        live = await client.get("/v2/health/live")

    assert (ready.status_code, ready.json()) == (503, {"ready": False})
    assert (one_ready.status_code, one_ready.json()) == (503, {"name": "last", "ready": False})
    check_error(infer, 503, "not_ready", "expected it ready")
    assert infer.headers["retry-after"] == "1"
    assert live.status_code == 200


async def test_draining_server_says_not_ready_and_still_answers(client, post, make_request):
    client.app.state.serving.draining = True

    ready = await client.get("/v2/health/ready")
    response = await post(client, make_request({"x": np.zeros((1, 1, 2), np.float32)}))

    assert (ready.status_code, response.status_code) == (503, 200)


async def test_what_runs_round_the_application_is_entered_first_and_left_last(served_models, make_manual_port):
    order = []

    @asynccontextmanager
    async def running():
        order.append(f"enter, ready: {app.state.serving.is_ready}")
        yield
        order.append(f"leave, ready: {app.state.serving.is_ready}")

    app = create_app([served_models["last"]], Settings(), make_manual_port(), running)
    async with app.router.lifespan_context(app):
        order.append(f"inside, ready: {app.state.serving.is_ready}")

    assert order == ["enter, ready: False", "inside, ready: True", "leave, ready: False"]
