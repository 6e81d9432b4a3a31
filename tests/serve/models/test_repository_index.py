import pytest

from cellgate.serve.errors import BadInput
from cellgate.serve.models.repository_index import parse_index_request, repository_index


def test_every_model_is_listed_with_its_version_and_state(served_models):
    models = list(served_models.values())

    assert repository_index(models, is_ready=True) == [
        {"name": name, "version": "3", "state": "READY", "reason": ""} for name in ("steps", "last", "tokens")
    ]
    (entry, *_) = repository_index(models, is_ready=False)
    assert (entry["state"], entry["reason"]) == ("UNAVAILABLE", "the server is starting or stopping")


@pytest.mark.parametrize(("is_ready", "count"), [(True, 3), (False, 0)])
def test_the_ready_ones_alone_can_be_asked_for(served_models, is_ready, count):
    assert len(repository_index(list(served_models.values()), is_ready=is_ready, only_ready=True)) == count


@pytest.mark.parametrize(
    ("body", "expected"),
    [(b"", False), (b" \n", False), (b"{}", False), (b'{"ready":true}', True), (b'{"ready":false,"more":1}', False)],
)
def test_a_body_may_ask_for_them(body, expected):
    assert parse_index_request(body) is expected


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"null", b"1", b'{"ready":1}', b'{"ready":"true"}', b"\xff", b"[" * 60_000]
)
def test_another_body_is_refused(body):
    with pytest.raises(BadInput, match=r"^(body|ready): expected .*, found"):
        parse_index_request(body)


async def test_it_is_answered_over_http_and_nothing_can_be_loaded_there(connect):
    async with connect() as client:
        found = await client.post("/v2/repository/index")
        bad = await client.post("/v2/repository/index", content=b"[]")
        long = await client.post("/v2/repository/index", content=b" " * (2**16 + 1))
        loads = [await client.post(f"/v2/repository/models/last/{deed}", content=b"{}") for deed in ("load", "unload")]

    assert [entry["name"] for entry in found.json()] == ["steps", "last", "tokens"]
    assert (bad.status_code, bad.json()["code"]) == (400, "bad_input")
    assert (long.status_code, long.json()["code"]) == (413, "body_too_large")
    assert [(load.status_code, load.json()["code"]) for load in loads] == [(404, "not_found")] * 2


async def test_a_server_without_an_engine_says_that_nothing_is_ready(connect, served_models, make_manual_port):
    port = make_manual_port()
    port.is_ready = False
    async with connect([served_models["steps"]], port) as client:
        everything = (await client.post("/v2/repository/index", json={})).json()
        ready = (await client.post("/v2/repository/index", json={"ready": True})).json()

    assert [entry["state"] for entry in everything] == ["UNAVAILABLE"]
    assert ready == []
