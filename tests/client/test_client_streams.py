"""Streams of the plain and of the async client, against a server that has them as docs/streams.md says."""

import itertools
import json
from contextlib import ExitStack

import numpy as np
import pytest

from cellgate.client import GaveUpError, InferenceError, InputError
from cellgate.client.errors import ModelError

from .both_clients import X


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


@pytest.mark.parametrize("stream", [77, "a"])
def test_a_chunk_without_a_step_is_not_sent_again_when_its_answer_was_lost(serve_aside, open_client, stream):
    with serve_aside(lambda _: None) as server, open_client(server.url) as client:
        model = client.model("toy")
        with pytest.raises(GaveUpError, match=r"it is not known whether the chunk counted, .* by stream\(\)") as found:
            model.infer(X[:1], parameters={"sequence_id": stream})

    assert len(server.asked) == 1
    assert not found.value.may_repeat


@pytest.mark.parametrize(
    "parameters", [{"sequence_id": 0}, {"sequence_id": ""}, {"sequence_id": 7, "sequence_step": 0}, {"priority": 1}]
)
def test_what_is_no_chunk_or_has_a_step_is_sent_again(serve_aside, open_client, toy, parameters):
    faults = itertools.chain([None, (503, b"{}")], itertools.repeat(toy))
    with (
        serve_aside(lambda asked: fault(asked) if callable(fault := next(faults)) else fault) as server,
        open_client(server.url) as client,
    ):
        client.model("toy").infer(X[:1], parameters=parameters)

    assert len(server.asked) == 3


def test_a_chunk_without_a_step_is_sent_again_where_nobody_took_the_connection(serve_aside, open_client):
    serving = ExitStack()
    server = serving.enter_context(serve_aside())
    with open_client(server.url) as client:
        with serving:
            model = client.model("toy")
        with pytest.raises(GaveUpError, match="in 4 attempts, the last time Connect") as found:
            model.infer(X[:1], parameters={"sequence_id": 7})

    assert found.value.may_repeat


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
