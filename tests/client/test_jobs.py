"""Requests as bytes: read by a reader that shares no code with the writer."""

import json

import numpy as np
import pytest

from cellgate.client.address import parse_address
from cellgate.client.errors import ModelError
from cellgate.client.infer_request import FIRST_STREAM, Writer
from cellgate.client.jobs import JobPlan, make_jobs
from cellgate.client.lengths import parse_lengths
from cellgate.client.model_facts import facts_from_metadata

ADDRESS = parse_address("http://h:8000/prefix")
BODIES = pytest.mark.parametrize("body", ["binary", "json"])


def facts(toy_metadata, **changes):
    return facts_from_metadata(toy_metadata(**changes), [])


def plan(lengths="uniform:1-9", **more):
    return JobPlan(lengths=parse_lengths(lengths), **more)


@BODIES
def test_a_whole_sequence_is_one_request(toy_metadata, parse_infer, body):
    jobs = make_jobs(ADDRESS, facts(toy_metadata), plan(body=body))
    job = jobs[0]
    asked = parse_infer(job.parts[0].request(FIRST_STREAM, b""))

    assert len(jobs) == 1024
    assert len(job.parts) == 1
    assert (asked.method, asked.path) == ("POST", "/prefix/v2/models/toy/infer")
    assert asked.headers["host"] == "h:8000"
    assert asked.headers["content-type"] == f"application/{'json' if body == 'json' else 'octet-stream'}"
    assert set(asked.inputs) == {"x"}
    assert asked.inputs["x"].shape == (1, job.length, 3)
    assert job.parts[0].steps == job.length
    assert asked.outputs == []


@BODIES
def test_rows_are_padded_with_zeros_and_say_their_lengths(toy_metadata, parse_infer, body):
    for job in make_jobs(ADDRESS, facts(toy_metadata), plan(rows=4, body=body))[:20]:
        asked = parse_infer(job.parts[0].request(FIRST_STREAM, b""))
        x, lengths = asked.inputs["x"], asked.inputs["lengths"]

        assert x.shape == (4, job.length, 3)
        assert lengths.max() == job.length
        assert job.parts[0].steps == lengths.sum()
        assert not x[np.arange(job.length) >= lengths[:, None]].any()
        assert x[np.arange(job.length) < lengths[:, None]].any(axis=1).all()


def test_a_network_without_lengths_gets_rows_of_one_length(toy_metadata, parse_infer):
    inputs = [tensor for tensor in toy_metadata()["inputs"] if tensor["name"] != "lengths"]
    for job in make_jobs(ADDRESS, facts(toy_metadata, inputs=inputs), plan(rows=3))[:20]:
        asked = parse_infer(job.parts[0].request(FIRST_STREAM, b""))

        assert set(asked.inputs) == {"x"}
        assert job.parts[0].steps == 3 * job.length


@BODIES
def test_tokens_are_below_the_vocabulary_size(toy_metadata, parse_infer, body):
    tokens = [{"name": "tokens", "datatype": "INT64", "shape": [-1, -1]}]
    changed = facts(
        toy_metadata, inputs=tokens, outputs=toy_metadata()["outputs"][:1], properties={"vocabulary_size": "5"}
    )
    seen = [
        parse_infer(job.parts[0].request(FIRST_STREAM, b"")).inputs["tokens"]
        for job in make_jobs(ADDRESS, changed, plan(body=body))[:50]
    ]

    assert {value for tokens in seen for value in tokens.reshape(-1).tolist()} == {0, 1, 2, 3, 4}


@BODIES
def test_columns_hold_what_they_take(toy_metadata, parse_infer, body):
    columns = [
        {"name": "kind", "width": 1, "values": "whole", "counts": [4]},
        {"name": "delta", "width": 1, "values": "not negative", "counts": []},
        {"name": "on", "width": 1, "values": "mark", "counts": []},
    ]
    changed = facts(toy_metadata, properties=toy_metadata()["properties"] | {"columns": json.dumps(columns)})
    jobs = make_jobs(ADDRESS, changed, plan(body=body))[:50]
    rows = [parse_infer(job.parts[0].request(FIRST_STREAM, b"")).inputs["x"].reshape(-1, 3) for job in jobs]
    kind, delta, on = np.concatenate(rows).T

    assert set(kind.tolist()) == {0.0, 1.0, 2.0, 3.0}
    assert delta.min() >= 0.0
    assert delta.max() > 1.0
    assert set(on.tolist()) == {0.0, 1.0}


def test_equal_plans_make_equal_bytes_and_other_seeds_others(toy_metadata):
    def first(seed):
        return make_jobs(ADDRESS, facts(toy_metadata), plan(seed=seed))[0].parts[0].request(FIRST_STREAM, b"")

    assert first(3) == first(3)
    assert first(3) != first(4)


def test_the_lengths_are_the_distribution_s(toy_metadata):
    jobs = make_jobs(ADDRESS, facts(toy_metadata), plan("medium", seed=5))

    assert [job.length for job in jobs] == parse_lengths("medium").draw(1024, 5).tolist()


def test_long_sequences_make_fewer_jobs(toy_metadata):
    jobs = make_jobs(ADDRESS, facts(toy_metadata), plan("fixed:200000"))

    assert 32 <= len(jobs) < 100


@BODIES
@pytest.mark.parametrize("rows", [1, 2])
def test_a_stream_that_the_client_keeps_sends_the_state_back(toy_metadata, parse_infer, toy, body, rows):
    job = make_jobs(ADDRESS, facts(toy_metadata), plan("fixed:7", body=body, stream_steps=3, rows=rows))[0]
    whole = make_jobs(ADDRESS, facts(toy_metadata), plan("fixed:7", body=body, rows=rows))[0]
    answer, seen = b"", []
    for part in job.parts:
        seen.append(parse_infer(part.request(FIRST_STREAM, answer)))
        answer = toy(seen[-1])[1]
    expected = toy(parse_infer(whole.parts[0].request(FIRST_STREAM, b"")))[1]

    assert [asked.inputs["x"].shape[1] for asked in seen] == [3, 3, 1]
    assert [set(asked.inputs) for asked in seen] == [{"x"}, {"x", "h0", "c0"}, {"x", "h0", "c0"}]
    assert [asked.outputs for asked in seen] == [["y", "h_n", "c_n"], ["y", "h_n", "c_n"], ["y"]]
    assert seen[-1].inputs["c0"].tolist() == np.full((1, rows, 2), 6).tolist()
    assert [part.steps for part in job.parts] == [3 * rows, 3 * rows, rows]
    y, y_whole = (np.frombuffer(a[-8 * rows :], "<f4") for a in (answer, expected)) if body == "binary" else (0, 0)
    np.testing.assert_allclose(y, y_whole, atol=1e-5)


@pytest.mark.parametrize("body", ["json"])
def test_an_answer_without_a_state_is_an_error(toy_metadata, body):
    job = make_jobs(ADDRESS, facts(toy_metadata), plan("fixed:4", body=body, stream_steps=2))[0]

    with pytest.raises((ValueError, KeyError)):
        job.parts[1].request(FIRST_STREAM, b'{"outputs": []}')


@BODIES
def test_a_stream_that_the_server_keeps_is_named_anew_each_time(toy_metadata, parse_infer, body):
    plan_ = plan("fixed:5", body=body, stream_steps=2, stream_state="server")
    job = make_jobs(ADDRESS, facts(toy_metadata), plan_)[0]
    seen = [parse_infer(part.request(FIRST_STREAM + 41, b"")).parameters for part in job.parts]

    assert [asked["sequence_id"] for asked in seen] == [FIRST_STREAM + 41] * 3
    assert [asked["sequence_start"] for asked in seen] == [True, False, False]
    assert [asked["sequence_end"] for asked in seen] == [False, False, True]


def test_a_sequence_shorter_than_a_part_is_a_whole_stream(toy_metadata, parse_infer):
    plan_ = plan("fixed:2", stream_steps=9, stream_state="server")
    (part,) = make_jobs(ADDRESS, facts(toy_metadata), plan_)[0].parts
    asked = parse_infer(part.request(FIRST_STREAM, b""))

    assert asked.parameters["sequence_start"]
    assert asked.parameters["sequence_end"]


def test_a_network_that_is_not_streamable_is_not_streamed(toy_metadata):
    with pytest.raises(ModelError, match="expected a network that can be streamed"):
        make_jobs(
            ADDRESS,
            facts(toy_metadata, properties={**toy_metadata()["properties"], "streamable": "false"}),
            plan(stream_steps=2),
        )


def test_a_name_is_quoted_in_the_path():
    writer = Writer(address=ADDRESS, model="a/b c", body="json")

    assert (
        b"POST /prefix/v2/models/a%2Fb%20c/infer HTTP/1.1\r\n"
        in writer.whole({"x": np.zeros((1, 1)).astype("f4")}, 1).payload
    )


def test_lengths_below_what_the_network_takes_are_refused_before_anything_is_sent(toy_metadata):
    needing = facts(toy_metadata, properties={**toy_metadata()["properties"], "least_steps": "4"})

    assert needing.least_steps == 4
    assert min(job.length for job in make_jobs(ADDRESS, needing, plan("uniform:4-9"))) == 4
    with pytest.raises(ModelError, match="model toy: expected sequences of at least 4 steps, found one of 1; look at"):
        make_jobs(ADDRESS, needing, plan("uniform:1-9"))


def test_lengths_above_what_the_network_takes_are_refused_before_anything_is_sent(toy_metadata):
    ending = facts(toy_metadata, properties={**toy_metadata()["properties"], "most_steps": "8"})

    assert (ending.most_steps, facts(toy_metadata).most_steps) == (8, None)
    assert max(job.length for job in make_jobs(ADDRESS, ending, plan("uniform:1-8"))) == 8
    with pytest.raises(ModelError, match="model toy: expected sequences of at most 8 steps, found one of 9; look at"):
        make_jobs(ADDRESS, ending, plan("uniform:1-9"))
