"""Each bundle is of the oldest version of the format that can say it, and no other is read."""

import json
from dataclasses import replace

import pytest

from cellgate.bundle.errors import ManifestError
from cellgate.bundle.manifest_json import manifest_from_json, manifest_to_json

from .minimal_manifest import minimal


def test_bundle_that_needs_several_steps_is_of_the_newer_version_and_comes_back():
    manifest = _needing(5)

    top = json.loads(manifest_to_json(manifest))

    assert (top["format_version"], top["graph"]["least_steps"]) == (3, 5)
    assert manifest_from_json(manifest_to_json(manifest)) == manifest


def test_bundle_that_needs_one_step_is_of_the_older_version_which_older_servers_read():
    top = json.loads(manifest_to_json(_needing(1)))

    assert top["format_version"] == 2
    assert "least_steps" not in top["graph"]
    assert manifest_from_json(json.dumps(top).encode()).graph.least_steps == 1


@pytest.mark.parametrize(
    ("changes", "least", "complaint"),
    [
        ({"format_version": 2}, 5, "graph.least_steps: unknown field"),
        ({"format_version": 3}, None, "graph.least_steps: expected the field, found it missing"),
        ({"format_version": 3}, 1, "graph.least_steps: expected an integer in 2 .. 2147483647, found 1"),
        ({"format_version": 3}, 0, "graph.least_steps: expected an integer in 2"),
        ({"format_version": 3}, True, "graph.least_steps: expected an integer in 2"),
        ({"format_version": 3}, 5.0, "graph.least_steps: expected an integer in 2"),
    ],
)
def test_least_steps_stand_in_the_newer_version_only_and_are_more_than_one(changes, least, complaint):
    top = json.loads(manifest_to_json(_needing(5))) | changes
    top["graph"]["least_steps"] = least
    if least is None:
        del top["graph"]["least_steps"]

    with pytest.raises(ManifestError, match=complaint):
        manifest_from_json(json.dumps(top).encode())


@pytest.mark.parametrize("least", [0, -3])
def test_record_with_less_than_one_step_is_not_written(least):
    with pytest.raises(
        ManifestError, match=f"graph.least_steps: expected an integer in 2 .. 2147483647, found {least}"
    ):
        manifest_to_json(_needing(least))


def _needing(least):
    return replace(minimal(), graph=replace(minimal().graph, least_steps=least))


def test_bundle_that_takes_no_more_than_so_many_steps_is_of_version_seven_and_comes_back():
    manifest = _ending(512)
    top = json.loads(manifest_to_json(manifest))

    assert (top["format_version"], top["graph"]["most_steps"], top["graph"]["columns"]) == (7, 512, [])
    assert manifest_from_json(manifest_to_json(manifest)) == manifest


@pytest.mark.parametrize(
    ("changes", "most", "complaint"),
    [
        ({"format_version": 6}, 512, "graph.most_steps: unknown field"),
        ({}, None, "graph.most_steps: expected the field, found it missing"),
        ({}, 0, "graph.most_steps: expected an integer in 1 .. 2147483647, found 0"),
        ({}, 512.0, "graph.most_steps: expected an integer in 1"),
        ({"streamable": True}, 512, "streamable: expected false where a sequence may be too long, found True"),
    ],
)
def test_most_steps_stand_in_the_newest_version_only(changes, most, complaint):
    top = json.loads(manifest_to_json(_ending(512))) | changes
    top["graph"]["most_steps"] = most
    if most is None:
        del top["graph"]["most_steps"]

    with pytest.raises(ManifestError, match=complaint):
        manifest_from_json(json.dumps(top).encode())


def _ending(most):
    return replace(minimal(), streamable=False, graph=replace(minimal().graph, most_steps=most))


def test_answer_for_fewer_steps_is_of_version_four_and_comes_back():
    manifest = _answering("(T-3)//4", least=7)
    top = json.loads(manifest_to_json(manifest))

    assert (top["format_version"], top["graph"]["least_steps"]) == (4, 7)
    assert top["graph"]["outputs"][0]["shape"] == ["B", "(T-3)//4", 2]
    assert manifest_from_json(manifest_to_json(manifest)) == manifest


@pytest.mark.parametrize(
    ("axis", "least", "changes", "complaint"),
    [
        ("(T-3)//4", 6, {}, r"graph.outputs\[0\].shape: expected 1 .. 6 of .* fewest steps .* found 0 by \(T-3\)//4"),
        ("(T+9)//2", 1, {}, r"graph.outputs\[0\].shape: expected 1 .. 1 of .* found 5 by \(T\+9\)//2"),
        ("(T+1)//2", 1, {"streamable": True}, r"streamable: expected false where y has \(T\+1\)//2 steps, found True"),
        ("T//1", 1, {}, r"graph.outputs\[0\]: .*found y: float32 \[B, T//1, 2\]"),
        ("T//0", 1, {}, r"graph.outputs\[0\].shape\[1\]: expected a string of the form"),
        ("T//2", 2, {"format_version": 3}, r"graph.outputs\[0\].shape\[1\]: expected a string of the form"),
        ("T", 3, {}, "format_version: expected 3, the oldest that can say the rest, found 4"),
        ("T", 1, {}, "format_version: expected 2, the oldest that can say the rest, found 4"),
    ],
)
def test_axis_of_fewer_steps_is_refused_where_it_cannot_be(axis, least, changes, complaint):
    top = json.loads(manifest_to_json(_answering("(T-3)//4", least=7))) | changes
    top["graph"]["outputs"][0]["shape"][1] = axis
    top["graph"]["least_steps"] = least

    with pytest.raises(ManifestError, match=complaint):
        manifest_from_json(json.dumps(top).encode())


def test_sequence_has_no_axis_of_fewer_steps():
    top = json.loads(manifest_to_json(_answering("(T-3)//4", least=7)))
    top["graph"]["inputs"][0]["shape"][1] = "T//2"

    with pytest.raises(ManifestError, match=r"graph.inputs\[0\].shape\[1\]: expected a string of the form \[BT\]"):
        manifest_from_json(json.dumps(top).encode())


@pytest.mark.parametrize("shape", [("B", 6, 2), ("B", "T", 6, 2), ("B", "T//2", 3, 4, 2)])
def test_answer_that_is_a_table_is_of_the_newest_version_and_comes_back(shape):
    manifest = _shaped(shape)
    top = json.loads(manifest_to_json(manifest))

    assert (top["format_version"], top["graph"]["outputs"][0]["shape"]) == (5, list(shape))
    assert manifest_from_json(manifest_to_json(manifest)) == manifest


@pytest.mark.parametrize(
    ("shape", "changes", "complaint"),
    [
        (["B", 6, 2], {"format_version": 2}, "graph.least_steps: unknown field"),
        (["B", 6, 2], {"format_version": 4}, "format_version: expected 5, the oldest that can say the rest, found 4"),
        (["B", 2], {}, "format_version: expected 3, the oldest that can say the rest, found 5"),
        (["B", 6, 2], {"labels": ["a"] * 6}, "labels: expected 2 names, as y has classes, found 6"),
        (["B", 2, 2, 2, 2], {}, r"graph.outputs\[0\]: expected .* one to three sizes for O, found y: .*2, 2, 2, 2\]"),
        (["B", 6, "T"], {}, r"graph.outputs\[0\]: expected .* found y: float32 \[B, 6, T\]"),
        ([6, "B", 2], {}, r"graph.outputs\[0\]: expected .* found y: float32 \[6, B, 2\]"),
        (["B", "T"], {}, r"graph.outputs\[0\]: expected .* found y: float32 \[B, T\]"),
        (["B", 6, 0], {}, r"graph.outputs\[0\].shape\[2\]: expected an integer in 1"),
    ],
)
def test_table_is_refused_where_it_cannot_be(shape, changes, complaint):
    top = json.loads(manifest_to_json(_shaped(("B", 6, 2)))) | changes
    top["graph"]["outputs"][0]["shape"] = shape
    top["graph"]["least_steps"] = 3

    with pytest.raises(ManifestError, match=complaint):
        manifest_from_json(json.dumps(top).encode())


def _answering(axis, least):
    return _shaped(("B", axis, 2), least)


def _shaped(shape, least=2):
    graph = minimal().graph
    y = replace(graph.outputs[0], shape=shape)
    return replace(minimal(), streamable=False, graph=replace(graph, outputs=(y,), least_steps=least))
