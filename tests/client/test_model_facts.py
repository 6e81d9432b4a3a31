"""What a server says about a model: read from real sockets, and whatever is wrong told in one sentence."""

import socket

import pytest

from cellgate.client.address import parse_address
from cellgate.client.errors import ModelError, UnreachableError
from cellgate.client.model_facts import AnswerSteps, ModelFacts, StateFacts, facts_from_metadata, read_model

STATES = (
    StateFacts(input="h0", output="h_n", datatype="FP32", shape=(1, -1, 2)),
    StateFacts(input="c0", output="c_n", datatype="FP32", shape=(1, -1, 2)),
)


def test_a_model_is_known_by_its_metadata(serve_aside):
    with serve_aside(extensions=("a", "b")) as server:
        found = read_model(parse_address(server.url), None)

    assert found == ModelFacts(
        name="toy",
        sequence="x",
        features=3,
        vocabulary_size=None,
        lengths="lengths",
        answer="y",
        states=STATES,
        streamable=True,
        extensions=frozenset({"a", "b"}),
    )
    assert found.states[0].row_bytes == 8


def test_a_server_of_another_make_needs_no_properties(toy_metadata):
    plain = toy_metadata(properties=None, inputs=toy_metadata()["inputs"][:1], outputs=toy_metadata()["outputs"][:1])
    found = facts_from_metadata(plain, [])

    assert (found.lengths, found.states, found.streamable) == (None, (), False)


def test_a_model_is_chosen_by_its_name_where_there_are_several(serve_aside):
    with serve_aside(models=("toy", "other")) as server:
        address = parse_address(server.url)

        assert read_model(address, "toy").name == "toy"
        with pytest.raises(ModelError, match="found toy, other; name one with --model NAME"):
            read_model(address, None)
        with pytest.raises(ModelError, match=r"model none: expected it to be served, found 404 \(no such model\)"):
            read_model(address, "none")


def test_a_server_without_a_list_of_models_wants_a_name(serve_aside):
    with serve_aside() as server:
        server.pages["/v2/models"] = {}
        with pytest.raises(ModelError, match="found no list of models; name one with --model NAME"):
            read_model(parse_address(server.url), None)
        server.pages["/v2"] = {"name": "old"}

        assert read_model(parse_address(server.url), "toy").extensions == frozenset()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"properties": {}}, "found that it needs lengths, h0, c0 too"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]}, r"found FP32 \[-1, 3\]"),
        ({"inputs": [{"name": "x", "datatype": "INT64", "shape": [-1, -1]}]}, "with a vocabulary_size, found INT64"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, -1, -1]}]}, r"found FP32 \[-1, -1, -1\]"),
        ({"inputs": []}, "expected metadata with inputs, outputs, their datatypes and shapes, found IndexError"),
        ({"inputs": [{"name": "x"}]}, "found KeyError 'shape'"),
        ({"outputs": 3}, "found TypeError"),
        ({"properties": {"optional_inputs": "x"}}, "found JSONDecodeError"),
    ],
)
def test_a_model_that_cannot_be_asked_is_one_sentence(serve_aside, changes, expected):
    with serve_aside(**changes) as server, pytest.raises(ModelError, match=expected):
        read_model(parse_address(server.url), "toy")


def test_nobody_at_the_address_is_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UnreachableError, match="found no answer in time; start one with cellgate serve BUNDLE"):
            read_model(parse_address(url), None, timeout_s=0.05)
    with pytest.raises(UnreachableError, match=f"{url}: expected a model server there, found connection refused"):
        read_model(parse_address(url), None)


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (None, "found status 404 for GET /v2"),
        ([1], "found status 200 for GET /v2"),
    ],
)
def test_another_server_at_the_address_is_one_sentence(serve_aside, page, expected):
    with serve_aside() as server:
        if page is None:
            del server.pages["/v2"]
        else:
            server.pages["/v2"] = page
        with pytest.raises(UnreachableError, match=expected):
            read_model(parse_address(server.url), None)


def test_what_is_left_of_the_steps_is_read_where_the_server_says_it(toy_metadata):
    said = {**toy_metadata()["properties"], "answer_steps": '{"add": -3, "divide": 4}'}

    assert facts_from_metadata(toy_metadata(properties=said), []).answer_steps == AnswerSteps(add=-3, divide=4)
    assert facts_from_metadata(toy_metadata(), []).answer_steps == AnswerSteps()
    for wrong in ("[]", "{}", '{"add": 1, "divide": 0}', "three"):
        with pytest.raises((KeyError, TypeError, ValueError)):
            facts_from_metadata(toy_metadata(properties={**said, "answer_steps": wrong}), [])
    assert [AnswerSteps(add=-3, divide=4).of(steps) for steps in (2, 7, 8, 11)] == [0, 1, 1, 2]
