"""The manifest's JSON: its bytes, both ways, and that whatever else somebody writes is a manifest or refused."""

import json
from dataclasses import fields, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellgate.bundle.errors import ManifestError
from cellgate.bundle.manifest import (
    SESSION_CONFIG_KEYS,
    FileEntry,
    GraphSignature,
    Manifest,
    SessionOptions,
    TensorSpec,
)
from cellgate.bundle.manifest_json import MAX_MANIFEST_BYTES, manifest_from_json, manifest_to_json

_FILES = {
    name: FileEntry(size_bytes=size, sha256=digit * 64)
    for name, size, digit in [
        ("model.onnx", 10, "a"),
        ("golden.safetensors", 20, "b"),
        ("equivalence.json", 30, "c"),
        ("equivalence.html", 40, "d"),
    ]
}
# Readers of other versions and other tools depend on these bytes. A change here is a new format version.
_GOLDEN = """\
{
  "bitwise_chunks": false,
  "bitwise_rows": true,
  "files": {
    "equivalence.html": {
      "sha256": "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd",
      "size_bytes": 40
    },
    "equivalence.json": {
      "sha256": "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc",
      "size_bytes": 30
    },
    "golden.safetensors": {
      "sha256": "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
      "size_bytes": 20
    },
    "model.onnx": {
      "sha256": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
      "size_bytes": 10
    }
  },
  "format_version": 2,
  "graph": {
    "inputs": [
      {
        "dtype": "int64",
        "name": "tokens",
        "shape": [
          "B",
          "T"
        ]
      }
    ],
    "lengths": null,
    "outputs": [
      {
        "dtype": "float32",
        "name": "y",
        "shape": [
          "B",
          2
        ]
      }
    ],
    "sequence": "tokens",
    "state": [],
    "vocabulary_size": 7
  },
  "labels": [
    "no",
    "yes"
  ],
  "name": "words",
  "network": {
    "note": "Größe"
  },
  "normalisation": null,
  "operators": [
    "Gather",
    "LSTM"
  ],
  "opset": 21,
  "precision": "float32",
  "session": {
    "config": {
      "session.intra_op.allow_spinning": "0"
    },
    "execution_mode": "sequential",
    "graph_optimization_level": "all"
  },
  "streamable": false,
  "tolerances": {
    "y": 1.5e-06
  },
  "tools": {
    "cellgate": "0.1.0",
    "torch": "2.13.0"
  },
  "variants": [],
  "version": 3
}
"""


def _minimal():
    return Manifest(
        name="words",
        version=3,
        network={"note": "Größe"},
        graph=GraphSignature(
            inputs=(TensorSpec(name="tokens", dtype="int64", shape=("B", "T")),),
            outputs=(TensorSpec(name="y", dtype="float32", shape=("B", 2)),),
            sequence="tokens",
            lengths=None,
            vocabulary_size=7,
        ),
        opset=21,
        operators=("Gather", "LSTM"),
        streamable=False,
        bitwise_rows=True,
        bitwise_chunks=False,
        precision="float32",
        tolerances={"y": 1.5e-6},
        session=SessionOptions(config={"session.intra_op.allow_spinning": "0"}),
        tools={"cellgate": "0.1.0", "torch": "2.13.0"},
        files=_FILES,
        labels=("no", "yes"),
    )


def test_bytes_of_a_manifest_are_pinned():
    assert manifest_to_json(_minimal()).decode() == _GOLDEN
    assert manifest_from_json(_GOLDEN.encode()) == _minimal()


def test_every_field_of_the_record_is_in_the_json(manifest_bytes):
    assert set(json.loads(manifest_bytes)) == {field.name for field in fields(Manifest)}


def test_round_trip_keeps_everything(manifest_bytes):
    assert manifest_to_json(manifest_from_json(manifest_bytes)) == manifest_bytes


def test_normalisation_comes_back_as_numbers(manifest):
    scaled = replace(manifest, files=_FILES, normalisation={"mean": (0, 0.5), "std": (1.0, 2.0)})

    assert manifest_from_json(manifest_to_json(scaled)).normalisation == {"mean": (0.0, 0.5), "std": (1.0, 2.0)}


_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_json_objects = st.dictionaries(
    _texts, st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _texts
)


@given(
    name=_names,
    version=st.integers(1, 2**63 - 1),
    network=_json_objects,
    opset=st.integers(1, 30),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    tolerance=st.floats(0, 1e30),
    config=st.dictionaries(st.sampled_from(sorted(SESSION_CONFIG_KEYS)), _texts, max_size=3),
    level=st.sampled_from(["disable", "basic", "extended", "all"]),
    labels=st.none() | st.tuples(_texts, _texts),
)
def test_any_lawful_manifest_comes_back_equal(
    *, name, version, network, opset, flags, tolerance, config, level, labels
):
    expected = replace(
        _minimal(),
        name=name,
        version=version,
        network=network,
        opset=opset,
        streamable=flags[0],
        bitwise_rows=flags[1],
        bitwise_chunks=flags[0] and flags[2],
        tolerances={"y": tolerance},
        session=SessionOptions(graph_optimization_level=level, execution_mode="parallel", config=config),
        labels=labels,
    )

    assert manifest_from_json(manifest_to_json(expected)) == expected


def test_normalisation_of_tokens_is_refused():
    with pytest.raises(ManifestError, match="normalisation: expected null where the sequence is tokens"):
        manifest_to_json(replace(_minimal(), normalisation={"mean": (0.0,), "std": (1.0,)}))


@pytest.mark.parametrize(
    "changes",
    [{"network": {"a": {1}}}, {"tolerances": {"y": float("nan")}}, {"name": "a b"}, {"operators": ("B", "A")}],
    ids=["a set", "NaN", "name", "operators"],
)
def test_what_no_reader_would_take_is_not_rendered(changes):
    with pytest.raises(ManifestError, match=r"^manifest.json: "):
        manifest_to_json(replace(_minimal(), **changes))


def test_manifest_up_to_the_limit_is_read(manifest_bytes):
    padded = manifest_bytes + b" " * (MAX_MANIFEST_BYTES - len(manifest_bytes))

    assert manifest_from_json(padded) == manifest_from_json(manifest_bytes)
    with pytest.raises(ManifestError, match="at most"):
        manifest_from_json(padded + b" ")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(data=st.data())
def test_mutated_bytes_are_a_manifest_or_refused(manifest_bytes, data):
    """Bytes are exchanged, cut and doubled anywhere; what still reads is written back to something that reads."""
    at = data.draw(st.integers(0, len(manifest_bytes)))
    upto = data.draw(st.integers(at, min(at + 40, len(manifest_bytes))))
    mutated = manifest_bytes[:at] + data.draw(st.binary(max_size=6)) + manifest_bytes[upto:]
    try:
        manifest = manifest_from_json(mutated)
    except ManifestError:
        return

    assert manifest_from_json(manifest_to_json(manifest)) == manifest


_any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("BTyx/.0", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xy", max_size=2), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(data=st.data())
def test_any_json_in_any_place_is_a_manifest_or_refused(manifest_bytes, data):
    top = json.loads(manifest_bytes)
    place = top
    while isinstance(place, dict | list) and place:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if data.draw(st.booleans()) or not isinstance(place[key], dict | list) or not place[key]:
            place[key] = data.draw(_any_json)
            break
        place = place[key]
    try:
        manifest = manifest_from_json(json.dumps(top).encode())
    except ManifestError:
        return

    assert json.loads(manifest_to_json(manifest)) == top


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
    return replace(_minimal(), graph=replace(_minimal().graph, least_steps=least))


def test_answer_for_fewer_steps_is_of_the_newest_version_and_comes_back():
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


def _answering(axis, least):
    graph = _minimal().graph
    y = replace(graph.outputs[0], shape=("B", axis, 2))
    return replace(_minimal(), streamable=False, graph=replace(graph, outputs=(y,), least_steps=least))
