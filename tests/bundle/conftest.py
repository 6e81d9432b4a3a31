"""A tiny valid bundle, and a forger that writes hostile ones which the writer would refuse."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cellgate.bundle.golden import GoldenCase, pack_golden
from cellgate.bundle.manifest import (
    FILE_RULES,
    VARIANT_FILES,
    FileEntry,
    GraphSignature,
    Manifest,
    SessionOptions,
    StatePair,
    TensorSpec,
)
from cellgate.bundle.manifest_json import manifest_to_json
from cellgate.bundle.writer import write_bundle

I, H = 2, 3


def _spec(name, dtype, *shape):
    return TensorSpec(name=name, dtype=dtype, shape=shape)


@pytest.fixture
def signature():
    """x [B,T,2], lengths [B], h0 and c0 [1,B,3] to y [B,T,3], h_n and c_n."""
    return GraphSignature(
        inputs=(
            _spec("x", "float32", "B", "T", I),
            _spec("lengths", "int32", "B"),
            _spec("h0", "float32", 1, "B", H),
            _spec("c0", "float32", 1, "B", H),
        ),
        outputs=(
            _spec("y", "float32", "B", "T", H),
            _spec("h_n", "float32", 1, "B", H),
            _spec("c_n", "float32", 1, "B", H),
        ),
        sequence="x",
        lengths="lengths",
        state=(StatePair(input="h0", output="h_n"), StatePair(input="c0", output="c_n")),
    )


@pytest.fixture
def manifest(signature):
    return Manifest(
        name="tiny",
        version=1,
        network={"kind": "LSTM", "layers": [{"I": I, "H": H}]},
        graph=signature,
        opset=17,
        operators=("LSTM", "Squeeze", "Transpose"),
        streamable=True,
        bitwise_rows=True,
        bitwise_chunks=True,
        precision="float32",
        tolerances={"y": 1e-6, "h_n": 1e-6, "c_n": 2e-6},
        session=SessionOptions(),
        tools={"cellgate": "0.1.0"},
        files={},
    )


def _tiny_model():
    weights = np.random.default_rng(0)
    stored = {
        "W": weights.normal(size=(1, 4 * H, I)),
        "R": weights.normal(size=(1, 4 * H, H)),
        "bias": np.zeros((1, 8 * H)),
    }
    nodes = [
        helper.make_node("Transpose", ["x"], ["x_t"], perm=[1, 0, 2]),
        helper.make_node(
            "LSTM", ["x_t", "W", "R", "bias", "lengths", "h0", "c0"], ["y_t", "h_n", "c_n"], "lstm", hidden_size=H
        ),
        helper.make_node("Squeeze", ["y_t", "one"], ["y_s"]),
        helper.make_node("Transpose", ["y_s"], ["y"], perm=[1, 0, 2]),
    ]
    value = helper.make_tensor_value_info
    real, state = TensorProto.FLOAT, [1, "B", H]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            value("x", real, ["B", "T", I]),
            value("lengths", TensorProto.INT32, ["B"]),
            value("h0", real, state),
            value("c0", real, state),
        ],
        [value("y", real, ["B", "T", H]), value("h_n", real, state), value("c_n", real, state)],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()]
        + [numpy_helper.from_array(np.array([1]), "one")],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, producer_name="tests", producer_version="1"
    )


@pytest.fixture(scope="session")
def tiny_model():
    """Makes a fresh ModelProto of the signature at every call: Transpose, LSTM, Squeeze, Transpose."""
    onnx.checker.check_model(_tiny_model(), full_check=True)
    return _tiny_model


@pytest.fixture
def cases():
    """Two cases of unequal sizes. The values fit the signature, and no graph: a bundle compares nothing."""
    made = []
    for index, (B, T) in enumerate([(1, 1), (2, 5)]):
        values = np.random.default_rng(index)
        state = {name: values.normal(size=(1, B, H)).astype(np.float32) for name in ("h0", "c0", "h_n", "c_n")}
        made.append(
            GoldenCase(
                id=f"case-{index}",
                inputs={
                    "x": values.normal(size=(B, T, I)).astype(np.float32),
                    "lengths": np.full(B, T, np.int32),
                    "h0": state["h0"],
                    "c0": state["c0"],
                },
                outputs={
                    "y": values.normal(size=(B, T, H)).astype(np.float32),
                    "h_n": state["h_n"],
                    "c_n": state["c_n"],
                },
            )
        )
    return tuple(made)


@pytest.fixture
def contents(tiny_model, cases):
    return {
        "model.onnx": tiny_model().SerializeToString(),
        "golden.safetensors": pack_golden(cases),
        "equivalence.json": b"{}\n",
        "equivalence.html": b"<!doctype html>\n",
    }


@pytest.fixture
def bundle_path(tmp_path, manifest, contents):
    """A valid bundle on the disk, with a model.ts."""
    write_bundle(tmp_path / "tiny", manifest, {**contents, "model.ts": b"torchscript"})
    return tmp_path / "tiny"


@pytest.fixture
def forge(tmp_path, manifest, contents):
    """Writes a folder like a bundle, digests right and nothing checked, and returns its path.

    `files` replaces contents (None leaves a file out), `edit` changes the manifest's JSON before it is written.
    """

    def write(files=None, edit=None):
        path = tmp_path / "forged"
        path.mkdir()
        held = {name: data for name, data in {**contents, **(files or {})}.items() if data is not None}
        entries = {
            name: {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in held.items()
        }
        top = json.loads(_valid_json(manifest)) | {"files": entries}
        if edit is not None:
            edit(top)
        for name, data in held.items():
            (path / name).write_bytes(data)
        (path / "manifest.json").write_text(json.dumps(top))
        return path

    return write


def _valid_json(manifest):
    files = {name: FileEntry(size_bytes=0, sha256="0" * 64) for name in FILE_RULES.keys() - VARIANT_FILES}
    return manifest_to_json(replace(manifest, files=files))


@pytest.fixture
def manifest_bytes(manifest):
    """The manifest as JSON, with entries for all files."""
    return _valid_json(manifest)
