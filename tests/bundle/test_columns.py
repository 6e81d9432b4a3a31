"""What columns take: the nearest allowed values, and a manifest that says so."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cellgate.bundle.columns import ColumnSpec, expected_of, nearest_allowed
from cellgate.bundle.errors import ManifestError
from cellgate.bundle.manifest import TensorSpec
from cellgate.bundle.manifest_json import manifest_from_json, manifest_to_json

from .minimal_manifest import minimal

COLUMNS = (
    ColumnSpec(name="x", width=2),
    ColumnSpec(name="delta", width=1, values="not negative"),
    ColumnSpec(name="kind", width=2, values="whole", counts=(10, 3)),
    ColumnSpec(name="there", width=1, values="mark"),
)
ALLOWED = np.array([[[-1.5, 7.0, 0.5, 9.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]], dtype=np.float32)


def holding(columns, features=6):
    graph = minimal().graph
    return replace(
        minimal(),
        graph=replace(
            graph,
            inputs=(TensorSpec(name="x", dtype="float32", shape=("B", "T", features)),),
            sequence="x",
            vocabulary_size=None,
            columns=columns,
        ),
    )


def test_what_is_allowed_stays_as_it_is():
    found = nearest_allowed(COLUMNS, ALLOWED)

    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, ALLOWED)


def test_what_is_not_becomes_the_nearest_that_is():
    x = np.array([[[-1.5, 7.0, -0.5, 12.0, 2.6, 0.4]]], dtype=np.float32)

    assert nearest_allowed(COLUMNS, x).tolist() == [[[-1.5, 7.0, 0.5, 9.0, 2.0, 0.0]]]


def test_without_columns_it_is_the_same_array():
    assert nearest_allowed((), ALLOWED) is ALLOWED


@pytest.mark.parametrize(
    ("index", "said"),
    [
        (1, "any number in the columns of x"),
        (2, "numbers of 0 or more in the columns of delta"),
        (3, "whole numbers in 0 .. 9 in the columns of kind"),
        (4, "whole numbers in 0 .. 2 in the columns of kind"),
        (5, "0 or 1 in the columns of there"),
    ],
)
def test_each_column_says_what_it_takes(index, said):
    assert expected_of(COLUMNS, index) == said


def test_one_count_is_that_of_all_columns():
    (column,) = (ColumnSpec(name="kind", width=2, values="whole", counts=(4,)),)

    assert column.expected(1) == "whole numbers in 0 .. 3"
    assert column.nearest(np.array([[9.0, -1.0]])).tolist() == [[3.0, 0.0]]


def test_manifest_with_columns_is_of_the_newest_version_and_comes_back():
    manifest = holding(COLUMNS)
    top = json.loads(manifest_to_json(manifest))

    assert top["format_version"] == 6
    assert top["graph"]["columns"][2] == {"name": "kind", "width": 2, "values": "whole", "counts": [10, 3]}
    assert manifest_from_json(manifest_to_json(manifest)) == manifest


def test_manifest_without_columns_is_of_an_older_version():
    top = json.loads(manifest_to_json(holding(())))

    assert top["format_version"] == 2
    assert "columns" not in top["graph"]


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        (COLUMNS[:2], r"graph.columns: expected 6 together, as the sequence has, found 3"),
        ((*COLUMNS[:3], replace(COLUMNS[3], name="x")), r"graph.columns: expected each name once"),
        (
            (*COLUMNS[:3], replace(COLUMNS[3], counts=(2,))),
            r"columns\[3\].counts: expected 0 of them for mark, found 1",
        ),
        (
            (*COLUMNS[:2], replace(COLUMNS[2], counts=()), COLUMNS[3]),
            r"counts: expected 1 or 2 of them for whole, found 0",
        ),
        ((*COLUMNS[:2], replace(COLUMNS[2], counts=(10, 0)), COLUMNS[3]), r"counts\[1\]: expected an integer in 1"),
        ((*COLUMNS[:3], replace(COLUMNS[3], values="odd")), r"columns\[3\].values: expected "),
        ((*COLUMNS[:3], replace(COLUMNS[3], name="../x")), r"columns\[3\].name: expected "),
    ],
)
def test_columns_that_contradict_the_rest_are_refused(columns, complaint):
    with pytest.raises(ManifestError, match=complaint):
        manifest_to_json(holding(columns))


def test_tokens_have_no_columns():
    manifest = replace(minimal(), graph=replace(minimal().graph, columns=COLUMNS))

    with pytest.raises(ManifestError, match=r"graph.columns: expected none, for the sequence is tokens"):
        manifest_to_json(manifest)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"format_version": 5}, "graph.columns: unknown field"),
        ({"columns": []}, "graph.columns: expected "),
        ({"columns": None}, "graph.columns: expected "),
    ],
)
def test_other_versions_have_none_and_the_newest_has_some(changes, complaint):
    top = json.loads(manifest_to_json(holding(COLUMNS)))
    top["format_version"] = changes.get("format_version", 6)
    top["graph"]["columns"] = changes.get("columns", top["graph"]["columns"])

    with pytest.raises(ManifestError, match=complaint):
        manifest_from_json(json.dumps(top).encode())
