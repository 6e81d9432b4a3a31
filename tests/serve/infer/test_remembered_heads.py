"""Heads that come again are parsed once, and what was remembered of them changes no request."""

import json
import sys

import numpy as np
import pytest

from cellgate.serve.errors import BadInput
from cellgate.serve.infer.infer_request import RequestReader
from cellgate.serve.stream_errors import StreamExpired
from cellgate.serve.streams.state_carrier import StateCarrier

from .request_reader import HEAD, LIMITS, make_reader


@pytest.fixture
def reader(served_models):
    return make_reader(served_models)


def test_deadline_is_counted_from_now_each_time(served_models, pack_binary):
    now = [50.0]
    reader = make_reader(served_models, clock=lambda: now[0])
    request = pack_binary({"x": np.zeros((1, 1, 2), np.float32)}, parameters={"timeout": 2_000_000, "priority": 2})

    first, _ = reader.read(*request)
    now[0] = 60.0
    second, _ = reader.read(*request)

    assert (first.deadline_s, second.deadline_s, first.priority) == (52.0, 62.0, 3)


def test_equal_heads_are_parsed_once_and_other_tensors_are_still_looked_at(served_models, pack_binary, monkeypatch):
    reader, parsed = make_reader(served_models), []
    real = sys.modules[RequestReader.__module__].parse_request
    monkeypatch.setattr(
        sys.modules[RequestReader.__module__], "parse_request", lambda body: parsed.append(1) or real(body)
    )
    arrays = [np.full((1, 2, 2), value, np.float32) for value in (1, 2, np.nan)]

    found = [reader.read(*pack_binary({"x": array}))[0] for array in arrays[:2]]
    with pytest.raises(BadInput, match="finite"):
        reader.read(*pack_binary({"x": arrays[2]}))

    assert len(parsed) == 1
    assert [work.sequence[0, 0, 0] for work in found] == [1, 2]


def test_heads_that_differ_in_the_id_only_are_told_apart(reader, pack_binary):
    x = {"x": np.zeros((1, 1, 2), np.float32)}

    forms = [reader.read(*pack_binary(x, id=text))[1] for text in ("a", "b", "a")]

    assert [json.loads(form.start + b"]}")["id"] for form in forms] == ["a", "b", "a"]


def test_head_that_is_refused_is_refused_again(reader):
    text = json.dumps({"inputs": [{**HEAD, "name": "z"}]}).encode()

    for _ in range(2):
        with pytest.raises(BadInput, match="expected only x"):
            reader.read(text + bytes(16), len(text))
    assert reader._known_head.cache_info().currsize == 0


def test_what_is_remembered_is_bounded(reader, pack_binary):
    x = {"x": np.zeros((1, 1, 2), np.float32)}
    for number in range(1500):
        reader.read(*pack_binary(x, id=str(number)))
    before = reader._known_head.cache_info()
    reader.read(*pack_binary(x, id="a" * 1024, parameters={"comment": "b" * 2000}))

    assert before.currsize == before.maxsize == 1024
    assert reader._known_head.cache_info().misses == before.misses


def test_heads_that_differ_in_their_timeout_are_remembered_once(served_models, pack_binary):
    reader = make_reader(served_models, clock=lambda: 100.0)
    x = {"x": np.zeros((1, 1, 2), np.float32)}
    found = [reader.read(*pack_binary(x, parameters={"timeout": number}))[0] for number in range(1, 200)]

    assert [work.deadline_s for work in found] == [100.0 + number / 1e6 for number in range(1, 200)]
    assert reader._known_head.cache_info().misses == 1


@pytest.mark.parametrize("name", [b"sequence_state", rb"sequence\u005fstate"])
def test_a_carried_state_expires_however_its_name_is_spelled(served_models, pack_binary, name):
    now_s, model, zeros = [1e9], served_models["steps"], np.zeros((1, 1, 3), np.float32)
    carrier = StateCarrier(model=model, keys=(b"k" * 32,), idle_s=60.0, clock=lambda: now_s[0])
    reader = RequestReader(model, LIMITS, carrier=carrier)
    state = carrier.sign(dict.fromkeys(carrier.streams.states, zeros), 1, 0)
    body, size = pack_binary({"x": np.zeros((1, 1, 2), np.float32)}, parameters={"sequence_state": state})
    text = body[:size].replace(b"sequence_state", name)

    reader.read(text + body[size:], len(text))
    now_s[0] += 60.0
    with pytest.raises(StreamExpired):
        reader.read(text + body[size:], len(text))


TIMEOUTS = {
    "alone": '{"inputs": [X], "parameters": {"timeout": 250000}}',
    "one": '{"inputs": [X], "parameters": {"timeout": 1}}',
    "spaced": '{"inputs": [X], "parameters": {"timeout" :\t250000 }}',
    "beside others": '{"inputs": [X], "parameters": {"timeout":250000,"priority":1}}',
    "none": '{"inputs": [X], "parameters": {"timeout": 0}}',
    "twice": '{"inputs": [X], "parameters": {"timeout": 5, "timeout": 1}}',
    "twice, the other way": '{"inputs": [X], "parameters": {"timeout": 1, "timeout": 5}}',
    "in two places": '{"outputs": [{"name": "y", "parameters": {"timeout": 0}}], "inputs": [X], "parameters": {'
    '"timeout": 5}}',
    "of an output": '{"inputs": [X], "outputs": [{"name": "y", "parameters": {"timeout": 7}}]}',
    "of nobody": '{"inputs": [X], "timeout": 7}',
    "in an id": '{"inputs": [X], "id": "\\"timeout\\": 7"}',
    "a fraction": '{"inputs": [X], "parameters": {"timeout": 1.5}}',
    "an exponent": '{"inputs": [X], "parameters": {"timeout": 1e3}}',
    "a zero in front": '{"inputs": [X], "parameters": {"timeout": 07}}',
    "negative": '{"inputs": [X], "parameters": {"timeout": -7}}',
    "text": '{"inputs": [X], "parameters": {"timeout": "7"}}',
    "too long": '{"inputs": [X], "parameters": {"timeout": 90071992547409930}}',
    "beside a fault": '{"inputs": [X], "parameters": {"timeout": 7, "priority": 70}}',
    "no JSON": '{"inputs": [X], "parameters": {"timeout": 123456},, }',
}


@pytest.mark.parametrize("name", TIMEOUTS)
def test_a_remembered_head_with_a_timeout_is_read_as_if_it_were_not(reader, pack_binary, name):
    pack = pack_binary({"x": np.zeros((1, 1, 2), np.float32)})
    reader.read(*pack_binary({"x": np.zeros((1, 1, 2), np.float32)}, parameters={"timeout": 1}))
    tensor = json.dumps(json.loads(pack[0][: pack[1]])["inputs"][0])
    text = TIMEOUTS[name].replace("X", tensor).encode()

    assert told(lambda: reader._find_head(text)) == told(lambda: reader._read_head(text))


def told(read):
    try:
        head = read()
    except BadInput as err:
        return str(err)
    return head.timeout_s, head.priority, head.form


def test_remembered_lengths_cannot_be_written_to(reader, pack_binary):
    work, _ = reader.read(*pack_binary({"x": np.zeros((2, 1, 2), np.float32)}))

    with pytest.raises(ValueError, match="read-only"):
        work.lengths[0] = 7
