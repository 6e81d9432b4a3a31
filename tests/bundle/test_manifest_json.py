"""The manifest's JSON: its bytes, both ways, and that whatever else somebody writes is a manifest or refused."""

import json
from dataclasses import fields, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellgate.bundle.errors import ManifestError
from cellgate.bundle.manifest import (
    SESSION_CONFIG_KEYS,
    Manifest,
    SessionOptions,
)
from cellgate.bundle.manifest_json import MAX_MANIFEST_BYTES, manifest_from_json, manifest_to_json

from .minimal_manifest import FILES, minimal

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


def test_bytes_of_a_manifest_are_pinned():
    assert manifest_to_json(minimal()).decode() == _GOLDEN
    assert manifest_from_json(_GOLDEN.encode()) == minimal()


def test_every_field_of_the_record_is_in_the_json(manifest_bytes):
    assert set(json.loads(manifest_bytes)) == {field.name for field in fields(Manifest)}


def test_round_trip_keeps_everything(manifest_bytes):
    assert manifest_to_json(manifest_from_json(manifest_bytes)) == manifest_bytes


def test_normalisation_comes_back_as_numbers(manifest):
    scaled = replace(manifest, files=FILES, normalisation={"mean": (0, 0.5), "std": (1.0, 2.0)})

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
        minimal(),
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
        manifest_to_json(replace(minimal(), normalisation={"mean": (0.0,), "std": (1.0,)}))


@pytest.mark.parametrize(
    "changes",
    [{"network": {"a": {1}}}, {"tolerances": {"y": float("nan")}}, {"name": "a b"}, {"operators": ("B", "A")}],
    ids=["a set", "NaN", "name", "operators"],
)
def test_what_no_reader_would_take_is_not_rendered(changes):
    with pytest.raises(ManifestError, match=r"^manifest.json: "):
        manifest_to_json(replace(minimal(), **changes))


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
