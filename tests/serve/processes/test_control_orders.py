"""Orders to load and unload over the control listener: who may give them, what is refused, and another's client."""

import json
import logging
import threading

import pytest

from cellgate.serve.listeners import target
from cellgate.serve.models.served_model import BundlePlace

from .versions_server import LOAD, PATIENCE_S, UNLOAD, serving

pytestmark = pytest.mark.slow


@pytest.fixture
def place(repository):
    return BundlePlace(repository / "steps-1")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v2/repository/models/nope/load", b"", 404, "not_in_repository"),
        ("/v2/repository/models/..%2Fsteps/load", b"", 404, "not_found"),
        ("/v2/repository/models/steps/load", b'{"parameters": {"version": 9}}', 404, "not_in_repository"),
        ("/v2/repository/models/steps/load", b'{"parameters": {"config": "{}"}}', 400, "bad_input"),
        ("/v2/repository/models/steps/load", b"{", 400, "bad_input"),
        ("/v2/repository/models/nope/unload", b"", 404, "unknown_model"),
        ("/v2/models/steps/infer", b"{}", 404, "not_found"),
        ("/v2/repository/models/steps", b"", 404, "not_found"),
    ],
)
def test_a_wrong_order_is_an_error_object_and_changes_nothing(unchanged, path, body, status, code):
    answer = unchanged.control.post(path, content=body)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert unchanged.index() == {("1", "READY")}


@pytest.fixture(scope="module")
def unchanged(repository):
    with serving([BundlePlace(repository / "steps-1")], repository=str(repository)) as running:
        yield running


def test_the_control_listener_is_probed_by_head(unchanged):
    answer = unchanged.control.head("/v2/health/ready")

    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json"])
def test_the_control_listener_says_what_there_is_and_sends_nobody_elsewhere(unchanged, path):
    answer = unchanged.control.get(path)

    assert answer.status_code == 404
    orders = "POST /v2/repository/models/NAME/load or /unload, or POST /v2/repository/index"
    assert answer.json()["error"] == f"request: expected {orders}, found GET {path}"


@pytest.mark.parametrize("path", [LOAD, UNLOAD])
def test_the_main_listener_takes_no_orders(unchanged, path):
    assert unchanged.client.post(path, content=b"").status_code == 404
    assert unchanged.index() == {("1", "READY")}


def test_tritons_client_loads_goes_back_and_unloads_over_http(repository, place):
    pytest.importorskip("tritonclient.http")
    from tritonclient.http import InferenceServerClient

    with serving([place], repository=str(repository)) as running:
        client = InferenceServerClient(target(running.held.control), network_timeout=PATIENCE_S)
        client.load_model("steps")
        index = client.get_model_repository_index()
        client.unload_model("steps")
        after = client.get_model_repository_index()
        client.close()

    assert {(entry["version"], entry["state"]) for entry in index} == {("2", "READY"), ("1", "UNLOADING")}
    assert {entry["state"] for entry in after} == {"UNLOADING"}


def test_tritons_client_loads_goes_back_and_unloads_over_grpc(repository, place):
    grpc = pytest.importorskip("tritonclient.grpc")
    with serving([place], repository=str(repository), grpc=True, grpc_port=0) as running:
        client = grpc.InferenceServerClient(target(running.held.control_rpc))
        main = grpc.InferenceServerClient(target(running.held.rpc))
        client.load_model("steps")
        index = client.get_model_repository_index(as_json=True)["models"]
        metadata = main.get_model_metadata("steps", as_json=True)
        client.unload_model("steps")
        refusals = []
        for ask in (
            lambda: main.load_model("steps"),
            lambda: client.load_model("nope"),
            lambda: client.load_model("steps", config="{}"),
            lambda: client.get_model_metadata("steps"),
        ):
            with pytest.raises(grpc.InferenceServerException) as caught:
                ask()
            refusals.append(caught.value.status().partition(".")[2])
        after = client.get_model_repository_index(as_json=True)["models"]
        client.close()
        main.close()

    assert {(entry["version"], entry["state"]) for entry in index} == {("2", "READY"), ("1", "UNLOADING")}
    assert metadata["versions"] == ["2", "1"]
    assert refusals == ["PERMISSION_DENIED", "NOT_FOUND", "INVALID_ARGUMENT", "UNIMPLEMENTED"]
    assert {entry["state"] for entry in after} == {"UNLOADING"}


def test_a_web_page_gives_no_orders(unchanged):
    answer = unchanged.control.post(LOAD, headers={"Origin": "https://page.example"})

    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")


def test_an_order_needs_a_key_where_keys_are_asked_for(repository, place, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("operator:0123456789abcdef\n")
    keys.chmod(0o600)
    with serving([place], repository=str(repository), api_keys_file=str(keys)) as running:
        statuses = [
            running.control.post(LOAD, headers=headers).status_code
            for headers in ({}, {"X-API-Key": "0123456789abcdeX"}, {"X-API-Key": "0123456789abcdef"})
        ]

    assert statuses == [401, 403, 200]


def test_a_stop_while_a_bundle_is_opened_is_an_orderly_one(repository, place, caplog):
    with serving([place], repository=str(repository)) as running, caplog.at_level(logging.WARNING):
        asked = threading.Thread(target=lambda: running.control.post(LOAD, content=json.dumps({}).encode()))
        asked.start()
        running.supervisor.stop()
        asked.join(PATIENCE_S)

    assert not any("killed" in record.getMessage() for record in caplog.records)
