"""The plain and the async client against a server that was written from the protocol's page, the same cases."""

import re

import httpx
import numpy as np
import pytest
import torch

from cellgate.client import AsyncClient, Client, ClientError, GaveUpError, InferenceError, InputError
from cellgate.client.errors import ModelError

from .both_clients import QUICK, X


def test_each_says_what_it_is_and_never_the_key(open_client, serve_aside):
    with serve_aside(extensions=["sequence"]) as server, open_client(server.url, api_key="secret-key") as client:
        model = client.model("toy")
        stream = model.stream(7)
        shown = [re.sub("^(<?)Async", r"\1", repr(getattr(each, "_found", each))) for each in (client, model, stream)]

    assert shown == [
        f"Client('{server.url}')",
        f"<Model 'toy' of {server.url}>",
        "<Stream 7 of model 'toy', next step 0>",
    ]


def test_outputs_come_by_name_and_float32(serve_aside, open_client):
    with serve_aside() as server, open_client(server.url) as client:
        found = client.model("toy").infer(X)

    assert list(found) == ["y"]
    assert found["y"].tolist() == [[15.0, 15.0], [51.0, 51.0]]


def test_rows_of_unequal_length_come_back_with_their_lengths(serve_aside, open_client):
    with serve_aside() as server, open_client(server.url) as client:
        found = client.model("toy").infer([X[0], X[1, :1]])

    assert found["y"][:, 0].tolist() == [15.0, 21.0]
    assert found.lengths.tolist() == [2, 1]
    assert [row.tolist() for row in found.rows("y")] == [[15.0, 15.0], [21.0, 21.0]]  # one value for each row: not cut


def test_states_go_in_and_come_out_on_request(serve_aside, open_client):
    with serve_aside() as server, open_client(server.url) as client:
        model = client.model("toy")
        first = model.infer(X[:, :1], outputs=["h_n", "c_n"])
        second = model.infer(X[:, 1:], states={"h0": first["h_n"], "c0": first["c_n"]})

    assert second["y"].tolist() == [[15.0, 15.0], [51.0, 51.0]]


def test_torch_goes_in_and_comes_out(serve_aside, open_client):
    with serve_aside() as server, open_client(server.url) as client:
        found = client.model("toy").infer(torch.from_numpy(X), lengths=torch.tensor([2, 2]))["y"]

    assert torch.equal(found, torch.tensor([[15.0, 15.0], [51.0, 51.0]]))


def test_the_key_and_the_parameters_are_sent(serve_aside, open_client):
    with serve_aside() as server, open_client(server.url, api_key="k") as client:
        client.model("toy").infer(X, parameters={"priority": 1})

    assert server.asked[0].headers["authorization"] == "Bearer k"
    assert server.asked[0].parameters["priority"] == 1


@pytest.mark.parametrize("key", ["", "secret\n", "sch\u00fcssel", "two words"])
def test_a_key_that_fits_in_no_header_is_told_before_anything_is_sent_and_not_shown(open_client, key):
    with (
        pytest.raises(InputError, match="api_key: expected visible ASCII") as found,
        open_client("http://h", api_key=key),
    ):
        pass

    assert not key or key.strip() not in str(found.value)


def test_models_are_listed_and_readiness_is_told(serve_aside, open_client):
    with serve_aside(models=("toy", "other")) as server, open_client(server.url) as client:
        assert client.models() == ["toy", "other"]
        assert client.is_ready() is False  # the page is not there
        server.pages["/v2/health/ready"] = {"ready": True}
        assert client.is_ready() is True
    with open_client(server.url) as client:
        assert client.is_ready() is False


def test_an_inference_survives_a_server_that_is_full_and_one_that_breaks_the_connection(serve_aside, open_client, toy):
    faults = iter([(503, b"{}"), None, (502, b"")])
    with (
        serve_aside(lambda asked: _next(faults, asked, toy)) as server,
        open_client(server.url) as client,
    ):
        found = client.model("toy").infer(X)

    assert found["y"][0, 0] == 15.0
    assert len({asked.body for asked in server.asked}) == 1
    assert len(server.asked) == 4


def _next(faults, asked, toy):
    for fault in faults:
        return fault
    return toy(asked)


def test_a_refusal_is_raised_at_once(serve_aside, open_client):
    refusal = (400, b'{"error": "x: expected much", "code": "bad_input"}')
    with (
        serve_aside(lambda _: refusal) as server,
        open_client(server.url) as client,
        pytest.raises(InferenceError, match="x: expected much") as found,
    ):
        client.model("toy").infer(X)

    assert found.value.code == "bad_input"
    assert len(server.asked) == 1


def test_nobody_there_is_told_after_the_last_attempt(serve_aside, open_client):
    with serve_aside() as server:
        pass
    with open_client(server.url) as client, pytest.raises(GaveUpError, match="in 4 attempts, the last time Connect"):
        client.models()


def test_what_the_model_does_not_take_is_not_sent(serve_aside, open_client):
    with (
        serve_aside() as server,
        open_client(server.url) as client,
        pytest.raises(InputError, match="states: expected only h0, c0, found 'h9'"),
    ):
        client.model("toy").infer(X, states={"h9": X})

    assert server.asked == []


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        ({"/v2/models/toy": {"name": "toy"}}, "expected metadata with inputs"),
        ({"/v2": [1]}, "expected a JSON object, found list"),
        ({"/v2/models": {"models": None}}, "expected a list of models, found NoneType"),
    ],
)
def test_a_server_of_another_kind_is_told_as_such(serve_aside, open_client, pages, expected):
    with serve_aside() as server, open_client(server.url) as client:
        server.pages.update(pages)
        with pytest.raises(ModelError, match=expected):
            [client.models(), client.model("toy")]


def test_an_answer_that_cannot_be_unpacked_is_no_answer(serve_aside, open_client):
    garbled = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"
    with serve_aside(lambda _: garbled) as server, open_client(server.url) as client:
        model = client.model("toy")
        with pytest.raises(GaveUpError, match="the last time DecodingError"):
            model.infer(X)


def test_a_parameter_that_is_nothing_of_json_is_told(serve_aside, open_client):
    with serve_aside() as server, open_client(server.url) as client:
        model = client.model("toy")
        with pytest.raises(InputError, match="parameters: expected text, whole numbers and booleans"):
            model.infer(X, parameters={"priority": np.int64(1)})

    assert server.asked == []


def test_an_unknown_model_is_told_in_the_servers_words(serve_aside, open_client):
    with (
        serve_aside() as server,
        open_client(server.url) as client,
        pytest.raises(InferenceError, match="no such model"),
    ):
        client.model("other")


def test_a_page_that_is_no_json_is_told(open_client):
    pages = httpx.MockTransport(lambda _request: httpx.Response(200, content=b"<html>"))
    http = httpx.Client(transport=pages)
    with Client("http://h:1", http=http, retry=QUICK) as client, pytest.raises(ModelError, match="a JSON object"):
        client.models()


def test_both_clients_have_the_same_methods():
    def public(kind):
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(Client) == public(AsyncClient)


def test_every_error_is_a_client_error():
    assert all(issubclass(kind, ClientError) for kind in (GaveUpError, InferenceError, InputError))
