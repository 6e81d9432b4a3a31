"""The manifest's fields: each is required, and every wrong one is refused by its name."""

import json
from dataclasses import fields

import pytest

from cellgate.bundle.errors import ManifestError
from cellgate.bundle.manifest import Manifest
from cellgate.bundle.manifest_json import manifest_from_json


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
    (_set("format_version", 8), "format_version: expected 2, 3, 4, 5, 6 or 7, found 8"),
    (_set("format_version", 1), "format_version: expected 2, 3, 4, 5, 6 or 7, found 1"),
    (_set("format_version", 0), "format_version: expected 2, 3, 4, 5, 6 or 7, found 0"),
    (_set("format_version", True), "format_version: expected 2, 3, 4, 5, 6 or 7, found True"),
    (_set("format_version", 2.0), "format_version: expected 2, 3, 4, 5, 6 or 7, found 2.0"),
    (_set("format_version", "2"), "format_version: expected 2, 3, 4, 5, 6 or 7, found '2'"),
    (_set("format_version", del_), "format_version: expected 2, 3, 4, 5, 6 or 7, found none"),
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
