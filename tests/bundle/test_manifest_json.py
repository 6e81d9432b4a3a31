"""The manifest's JSON: its bytes, both ways, and every wrong field by name."""

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


def _set(*path_and_value):
    """A change that sets, or with `del` removes, the value at a path into the JSON."""
    *path, last, value = path_and_value

    def change(top):
        for step in path:
            top = top[step]
        if value is del_:
            del top[last]
        else:
            top[last] = value

    return change


del_ = object()
_HEX = "0" * 64
_VARIANT = {
    "file": "model.scan.onnx",
    "device": "cuda",
    "operators": ["Scan"],
    "bitwise_rows": True,
    "bitwise_chunks": True,
}
_WRONG = [
    (_set("format_version", 3), "format_version: expected 2, found 3"),
    (_set("format_version", 1), "format_version: expected 2, found 1"),
    (_set("format_version", 0), "format_version: expected 2, found 0"),
    (_set("format_version", True), "format_version: expected 2, found True"),
    (_set("format_version", 2.0), "format_version: expected 2, found 2.0"),
    (_set("format_version", "2"), "format_version: expected 2, found '2'"),
    (_set("format_version", del_), "format_version: expected 2, found none"),
    (_set("variants", del_), "variants: expected the field, found it missing"),
    (_set("variants", [{}]), r"variants\[0\].file: expected the field, found it missing"),
    (_set("variants", [_VARIANT | {"file": "model.onnx"}]), r"variants\[0\].file: expected one of model.scan.onnx"),
    (_set("variants", [_VARIANT | {"device": "cpu"}]), r"variants\[0\].device: expected one of cuda"),
    (_set("variants", [_VARIANT | {"operators": []}]), r"variants\[0\].operators: expected an array of at least 1"),
    (_set("variants", [_VARIANT | {"bitwise_rows": 1}]), r"variants\[0\].bitwise_rows: expected true or false"),
    (_set("variants", [_VARIANT | {"more": 1}]), r"variants\[0\].more: unknown field"),
    (_set("variants", [_VARIANT]), "variants: expected one for each of the files none, found model.scan.onnx"),
    (_set("files", "model.scan.onnx", {"size_bytes": 1, "sha256": "0" * 64}), "variants: expected one for each of the"),
    (_set("surprise", 1), "surprise: unknown field"),
    (_set("name", "a/b"), "name: expected a string of the form"),
    (_set("name", ".."), "name: expected a string of the form"),
    (_set("name", ""), "name: expected a string of the form"),
    (_set("name", "x" * 129), "name: expected a string of the form"),
    (_set("name", "x\n"), "name: expected a string of the form"),
    (_set("name", 5), "name: expected a string .* found 5"),
    (_set("version", 0), "version: expected an integer in 1"),
    (_set("version", True), "version: expected an integer .* found True"),
    (_set("version", 1.0), "version: expected an integer .* found 1.0"),
    (_set("version", 2**63), "version: expected an integer"),
    (_set("network", []), r"network: expected an object, found \[\]"),
    (_set("graph", None), "graph: expected an object, found None"),
    (_set("graph", "sequence", del_), "graph.sequence: expected the field, found it missing"),
    (_set("graph", "extra", 1), "graph.extra: unknown field"),
    (_set("graph", "inputs", []), "graph.inputs: expected an array of at least 1"),
    (_set("graph", "inputs", {}), "graph.inputs: expected an array of at least 1"),
    (_set("graph", "inputs", 0, "dtype", "float64"), r"graph.inputs\[0\].dtype: expected one of float32, .*'float64'"),
    (_set("graph", "inputs", 0, "dtype", ["float32"]), r"graph.inputs\[0\].dtype: expected one of"),
    (_set("graph", "inputs", 0, "shape", []), r"graph.inputs\[0\].shape: expected an array of at least 1"),
    (_set("graph", "inputs", 0, "shape", 0, "N"), r"graph.inputs\[0\].shape\[0\]: .*found 'N'"),
    (_set("graph", "inputs", 0, "shape", 2, 0), r"graph.inputs\[0\].shape\[2\]: expected an integer in 1"),
    (_set("graph", "inputs", 0, "shape", 2, -1), r"graph.inputs\[0\].shape\[2\]: expected an integer in 1"),
    (_set("graph", "inputs", 0, "shape", 2, 2.0), r"graph.inputs\[0\].shape\[2\]: expected an integer in 1"),
    (_set("graph", "inputs", 0, "name", "x/../y"), r"graph.inputs\[0\].name: expected a string"),
    (_set("graph", "state", 0, "output", 1), r"graph.state\[0\].output: expected a string"),
    (_set("graph", "state", {}), "graph.state: expected an array, found {}"),
    (_set("graph", "state", []), "graph.inputs: expected sequence, lengths and states"),
    (_set("graph", "vocabulary_size", 0), "graph.vocabulary_size: expected an integer in 1"),
    (_set("graph", "lengths", 1), "graph.lengths: expected a string"),
    (_set("opset", 0), "opset: expected an integer in 1"),
    (_set("opset", 2**31), "opset: expected an integer in 1"),
    (_set("operators", []), "operators: expected an array of at least 1"),
    (_set("operators", ["B", "A"]), "operators: expected operator names sorted, each once"),
    (_set("operators", ["A", "A"]), "operators: expected operator names sorted, each once"),
    (_set("operators", ["com.x::A"]), r"operators\[0\]: expected a string of the form"),
    (_set("streamable", 1), "streamable: expected true or false, found 1"),
    (_set("bitwise_rows", None), "bitwise_rows: expected true or false, found None"),
    (_set("streamable", False), "bitwise_chunks: expected false where streamable is false"),
    (_set("precision", "int8"), "precision: expected one of float32, float16, found 'int8'"),
    (_set("tolerances", {}), "tolerances: expected one for each of y, h_n, c_n"),
    (_set("tolerances", "z", 0.1), "tolerances: expected one for each of y, h_n, c_n"),
    (_set("tolerances", "y", -1e-9), "tolerances.y: expected a number that is not negative"),
    (_set("tolerances", "y", "0"), "tolerances.y: expected a number, found '0'"),
    (_set("tolerances", "y", True), "tolerances.y: expected a number, found True"),
    (_set("tolerances", "y", 10**400), "tolerances.y: expected a number"),
    (_set("session", "execution_mode", "fast"), "session.execution_mode: expected one of sequential, parallel"),
    (_set("session", "graph_optimization_level", 99), "session.graph_optimization_level: expected one of disable"),
    (_set("session", "config", {"a": 1}), "session.config.a: expected a string"),
    (
        _set("session", "config", {"session.optimized_model_filepath": "/x"}),
        "session.config.session.opt.*: not an entry",
    ),
    (_set("session", "config", {"ep.context_file_path": "/x"}), "session.config.ep.*: not an entry for a bundle"),
    (_set("session", "custom_ops", "evil.so"), "session.custom_ops: unknown field"),
    (_set("tools", {"torch": None}), "tools.torch: expected a string"),
    (_set("tools", {"torch": "x" * 5000}), "tools.torch: expected a string .* at most 4096 characters"),
    (_set("labels", []), "labels: expected an array of at least 1"),
    (_set("labels", ["a"]), "labels: expected 3 names, as y has classes, found 1"),
    (_set("labels", ["a", "b", 3]), r"labels\[2\]: expected a string"),
    (_set("normalisation", {"mean": [0, 0]}), "normalisation.std: expected the field"),
    (_set("normalisation", {"mean": [0, 0], "std": [1]}), "normalisation.std: expected 2 numbers, found 1"),
    (_set("normalisation", {"mean": [0, 0], "std": [1, 0]}), "normalisation.std: expected positive numbers, found 0"),
    (_set("files", []), r"files: expected an object"),
    (_set("files", "model.onnx", del_), "files.model.onnx: expected the file, found it missing"),
    (_set("files", "../x", {"size_bytes": 0, "sha256": _HEX}), r"files.'../x': expected only model.onnx"),
    (_set("files", "manifest.json", {"size_bytes": 0, "sha256": _HEX}), "files.'manifest.json': expected only"),
    (_set("files", "model.onnx", "size_bytes", -1), "files.model.onnx.size_bytes: expected an integer in 0"),
    (_set("files", "model.onnx", "size_bytes", 2**31), "files.model.onnx.size_bytes: expected an integer in 0"),
    (_set("files", "model.onnx", "sha256", "A" * 64), r"files.model.onnx.sha256: expected .*\[0-9a-f\]\{64\}"),
    (_set("files", "model.onnx", "sha256", "0" * 63), "files.model.onnx.sha256: expected"),
    (_set("files", "model.onnx", "sha256", "0" * 64 + "\n"), "files.model.onnx.sha256: expected"),
    (_set("files", "model.onnx", "mode", 0o644), "files.model.onnx.mode: unknown field"),
]


@pytest.mark.parametrize(("change", "expected"), _WRONG, ids=[expected[:50] for _, expected in _WRONG])
def test_wrong_field_is_refused_by_name(manifest_bytes, change, expected):
    top = json.loads(manifest_bytes)
    change(top)

    with pytest.raises(ManifestError, match=rf"^manifest.json: {expected}"):
        manifest_from_json(json.dumps(top).encode())


@pytest.mark.parametrize("name", [field.name for field in fields(Manifest)])
def test_every_field_is_required(manifest_bytes, name):
    top = json.loads(manifest_bytes)
    del top[name]

    with pytest.raises(ManifestError, match=f"manifest.json: {name}: expected"):
        manifest_from_json(json.dumps(top).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b'"manifest"', b"\xff"])
def test_what_is_no_object_is_refused(data):
    with pytest.raises(ManifestError, match=r"^manifest.json: "):
        manifest_from_json(data)


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
