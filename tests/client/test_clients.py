"""The plain and the async client against a server that was written from the protocol's page, the same cases."""

import asyncio
import itertools
import json
import re
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
import torch

from cellgate.client import (
    AsyncClient,
    Client,
    ClientError,
    GaveUpError,
    InferenceError,
    InputError,
    RetryPolicy,
)
from cellgate.client.errors import ModelError

X = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
QUICK = RetryPolicy(attempts=4, first_pause_s=0.0, longest_pause_s=0.0)


class Plain:
    """The async client with the plain one's face: every coroutine is run to its end."""

    def __init__(self, found, runner):
        self._found, self._runner = found, runner

    def __getattr__(self, name):
        value = getattr(self._found, name)
        if not callable(value):
            return value

        def call(*args, **named):
            result = value(*args, **named)
            result = self._runner.run(result) if asyncio.iscoroutine(result) else result
            return Plain(result, self._runner) if type(result).__name__ in ("AsyncModel", "AsyncStream") else result

        return call


@pytest.fixture(params=["plain", "async"])
def open_client(request):
    @contextmanager
    def opened(url, **options):
        options = {"retry": QUICK, "timeout_s": 10.0, **options}
        if request.param == "plain":
            with Client(url, **options) as client:
                yield client
            return
        with asyncio.Runner() as runner:
            client = AsyncClient(url, **options)
            assert runner.run(client.__aenter__()) is client
            try:
                yield Plain(client, runner)
            finally:
                runner.run(client.__aexit__(None, None, None))

    return opened


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


class StreamsByThePage:
    """Streams as docs/streams.md has them: a step is applied once, a repeated one is answered as the first time."""

    def __init__(self, toy):
        self.toy, self.kept, self.applied = toy, {}, []

    def __call__(self, asked):
        step, stream = asked.parameters["sequence_step"], asked.parameters["sequence_id"]
        held, answer, state = self.kept.get(stream, (-1, b"", {}))
        if step == held:
            return 200, answer
        if step != held + 1:
            return 409, json.dumps({"error": "a gap", "code": "step_gap", "expected_step": held + 1}).encode()
        asked.inputs.update(state)
        asked.outputs, wanted = ["y", "h_n", "c_n"], asked.outputs
        _, body = self.toy(asked)
        head = json.loads(body[: body.index(b"]}") + 2])
        h, c = (np.frombuffer(body[place:][:8], "<f4").reshape(1, 1, 2) for place in (len(body) - 16, len(body) - 8))
        asked.outputs = wanted
        found = json.dumps({**head, "outputs": head["outputs"][:1]}).encode() + body[-24:-16]
        self.kept[stream] = step, found, {"h0": h, "c0": c}
        self.applied.append((stream, step))
        return 200, found


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


def test_a_stream_is_one_sequence_in_chunks(serve_aside, open_client, toy):
    rows = StreamsByThePage(toy)
    with serve_aside(rows) as server, open_client(server.url) as client:
        stream = client.model("toy").stream("a")
        found = [stream.send(X[:1, t : t + 1], end=t == 1)["y"][0, 0] for t in range(2)]

    assert found == [3.0, 15.0]
    assert [asked.parameters["sequence_start"] for asked in server.asked] == [True, False]
    assert [asked.parameters["sequence_end"] for asked in server.asked] == [False, True]


def test_a_chunk_whose_answer_was_lost_is_applied_once(serve_aside, open_client, toy):
    rows, losses = StreamsByThePage(toy), itertools.count()

    def lose_every_second(asked):
        answer = rows(asked)
        return None if next(losses) % 2 == 0 else answer

    with serve_aside(lose_every_second) as server, open_client(server.url) as client:
        stream = client.model("toy").stream()
        found = [stream.send(X[:1, t : t + 1])["y"][0, 0] for t in range(2)]

    assert found == [3.0, 15.0]
    assert rows.applied == [(stream.id, 0), (stream.id, 1)]
    assert len(server.asked) == 4


def test_after_giving_up_the_same_chunk_may_be_sent_again(serve_aside, open_client, toy):
    rows, is_down = StreamsByThePage(toy), [True]
    with (
        serve_aside(lambda asked: (503, b"{}") if is_down else rows(asked)) as server,
        open_client(server.url) as client,
    ):
        stream = client.model("toy").stream(7)
        with pytest.raises(GaveUpError):
            stream.send(X[:1])
        is_down.clear()
        found = stream.send(X[:1])

    assert found["y"][0, 0] == 15.0
    assert (stream.id, stream.step) == (7, 1)


def test_another_process_goes_on_from_the_step_that_was_answered(serve_aside, open_client, toy):
    with serve_aside(StreamsByThePage(toy)) as server:
        with open_client(server.url) as client:
            first = client.model("toy").stream("a")
            first.send(X[:1, :1])
        with open_client(server.url) as client:
            found = client.model("toy").stream("a", step=first.step).send(X[:1, 1:])

    assert found["y"][0, 0] == 15.0


def test_a_gap_is_told_with_the_step_that_is_expected(serve_aside, open_client, toy):
    with (
        serve_aside(StreamsByThePage(toy)) as server,
        open_client(server.url) as client,
        pytest.raises(InferenceError) as found,
    ):
        client.model("toy").stream("a", step=3).send(X[:1])

    assert found.value.facts == {"expected_step": 0}


@pytest.mark.parametrize(("stream", "step"), [(-1, 0), (2**64, 0), ("a", -1), (0, 0), ("", 0), (7.0, 0), ("a", 1.0)])
def test_an_id_or_step_that_cannot_be_is_refused(serve_aside, open_client, stream, step):
    with serve_aside() as server, open_client(server.url) as client, pytest.raises(InputError):
        client.model("toy").stream(stream, step=step)


@pytest.mark.parametrize("properties", [None, {"optional_inputs": '["lengths", "h0", "c0"]', "streamable": "false"}])
def test_a_model_whose_server_promises_nothing_of_streams_has_none(serve_aside, open_client, properties):
    """Another server would take a chunk that is sent again for the next one, without a word."""
    plain = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, -1, 3]}], "properties": properties}
    with serve_aside(**plain) as server, open_client(server.url) as client:
        model = client.model("toy")
        with pytest.raises(ModelError, match="model toy: expected a network that can be streamed"):
            model.stream("a")


def test_numbers_of_numpy_name_a_stream_too(serve_aside, open_client, toy):
    with serve_aside(StreamsByThePage(toy)) as server, open_client(server.url) as client:
        client.model("toy").stream(np.uint64(7), step=np.int32(0)).send(X[:1])

    assert server.asked[0].parameters["sequence_id"] == 7


def test_an_ended_stream_takes_nothing_more(serve_aside, open_client, toy):
    with serve_aside(StreamsByThePage(toy)) as server, open_client(server.url) as client:
        stream = client.model("toy").stream("a")
        stream.send(X[:1], end=True)
        with pytest.raises(InputError, match="found that it has ended; begin another one"):
            stream.send(X[:1])


def test_both_clients_have_the_same_methods():
    def public(kind):
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(Client) == public(AsyncClient)


def test_every_error_is_a_client_error():
    assert all(issubclass(kind, ClientError) for kind in (GaveUpError, InferenceError, InputError))
