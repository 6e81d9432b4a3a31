"""Every request has a name: the client's where it is plain, and the same one in the answer, the log and the error."""

import json
import logging

import httpx
import pytest

from cellgate.serve.errors import EngineError
from cellgate.serve.observe.request_id import RequestIds, given_id

PLAIN = ["a", "client-7.a/b:c+d=e@f", "0" * 128, "01HZX_9"]
ODD = ["", " ", "a b", "a\tb", '<script>"', "a" * 129, "é", "a,b", "a;b", "{}", "%0d%0a"]


@pytest.mark.parametrize("word", PLAIN)
async def test_a_plain_word_of_the_client_comes_back(connect, word):
    async with connect() as client:
        for path in ("/v2", "/nowhere", "/metrics"):
            response = await client.get(path, headers={"X-Request-Id": word})
            assert response.headers.get_list("x-request-id") == [word]


@pytest.mark.parametrize("word", ODD)
async def test_an_odd_one_is_replaced(connect, word):
    async with connect() as client:
        response = await client.get("/v2", headers={"X-Request-Id": word.encode("latin-1")})

    (found,) = response.headers.get_list("x-request-id")
    assert found
    assert found != word
    assert RequestIds().take(found.encode()) == found.encode()  # what is made is plain itself


async def test_of_two_words_none_is_taken(connect):
    async with connect() as client:
        headers = httpx.Headers([("X-Request-Id", "a"), ("X-Request-Id", "b")])
        response = await client.get("/v2", headers=headers)

    assert response.headers["x-request-id"] not in ("a", "b", "a, b")


def test_names_that_are_made_are_never_made_twice_even_by_two_processes():
    first, second = RequestIds(), RequestIds()

    assert len({ids.make() for ids in (first, second) for _ in range(1000)}) == 2000


def test_headers_without_one_have_none():
    assert given_id([(b"x-request-ids", b"a")]) is None
    assert given_id([(b"a", b"b"), (b"x-request-id", b"c")]) == b"c"


async def test_a_fault_is_told_and_logged_under_the_request_s_own_name(
    connect, served_models, make_manual_port, post, make_request, make_network, caplog
):
    ask = make_request({"x": make_network("steps").feeds(1, 2)["x"]})
    async with connect([served_models["steps"]], make_manual_port(EngineError("broken"))) as client:
        response = await post(client, ask, headers={"X-Request-Id": "client-7"})

    assert (response.status_code, response.json()["request_id"]) == (500, "client-7")
    assert [record.request_id for record in caplog.records if record.levelno == logging.ERROR] == ["client-7"]


async def test_the_access_log_names_the_request(connect, caplog):
    caplog.set_level(logging.INFO, logger="cellgate.access")
    async with connect(access_log=True) as client:
        response = await client.get("/v2")

    assert json.loads(caplog.messages[0])["request_id"] == response.headers["x-request-id"]
