"""Hostile bundles as programs: each takes a valid one, does one evil thing, and says why it must be refused.

The forger writes digests that are right, so that what refuses is the check that is meant, not the digest.
"""

import json
import os

import numpy as np
import pytest
from onnx import StringStringEntryProto, TensorProto, helper, numpy_helper

from cellgate.bundle.errors import DigestError, GraphError, ManifestError, NotABundleError, StrayFileError
from cellgate.bundle.manifest_json import MAX_MANIFEST_BYTES
from cellgate.bundle.reader import read_bundle

_HEX = "0" * 64
_MODEL = "model.onnx"


def test_forged_bundle_without_evil_is_read(forge):
    """The control: what the tests below refuse is refused for the evil thing alone."""
    assert read_bundle(forge()).manifest.name == "tiny"


# Files: what the manifest asks for must be inside, plain, and itself.


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "../../etc/passwd",
        "/etc/passwd",
        "x/../model.onnx",
        "./model.onnx",
        "model.onnx/",
        "..",
        "",
        "model.onnx\0.txt",
        "%2e%2e/secret",
        "..\\secret",
        "MODEL.ONNX",
    ],
)
def test_name_that_leads_elsewhere(forge, tmp_path, name):
    """A manifest must not make the reader open, hash or publish a file outside the bundle."""
    (tmp_path / "secret").write_bytes(b"")
    path = forge(edit=lambda top: top["files"].update({name: {"size_bytes": 0, "sha256": _HEX}}))

    with pytest.raises(ManifestError, match=r"expected only model.onnx"):
        read_bundle(path)


def test_name_that_leads_elsewhere_in_place_of_a_file(forge, tmp_path):
    """The same with the true entry moved: nothing stands for model.onnx but model.onnx."""

    def edit(top):
        top["files"]["../model.onnx"] = top["files"].pop(_MODEL)

    with pytest.raises(ManifestError):
        read_bundle(forge(edit=edit))


@pytest.mark.parametrize("name", [_MODEL, "golden.safetensors", "equivalence.html", "manifest.json"])
@pytest.mark.parametrize("target", ["absolute", "relative", "dangling", "inside"])
def test_symbolic_link(forge, tmp_path, name, target):
    """The target may change after the check, or be a file of the server's that its caller may not read."""
    path = forge()
    (path / name).rename(tmp_path / "elsewhere")
    if target == "absolute":
        (path / name).symlink_to(tmp_path / "elsewhere")
    elif target == "relative":
        (path / name).symlink_to("../elsewhere")
    elif target == "inside":
        (path / name).symlink_to("equivalence.json")
    else:
        (path / name).symlink_to("nowhere")

    with pytest.raises(StrayFileError, match=f"{name}: expected a plain file"):
        read_bundle(path)


@pytest.mark.parametrize("name", [_MODEL, "equivalence.json", "manifest.json"])
def test_hard_link(forge, tmp_path, name):
    """Whoever holds the other name can write into the bundle, past its folder's permissions."""
    path = forge()
    (tmp_path / "other").hardlink_to(path / name)

    with pytest.raises(StrayFileError, match="2 hard links"):
        read_bundle(path)


@pytest.mark.parametrize("name", [_MODEL, "manifest.json"])
def test_named_pipe(forge, name):
    """Opening a pipe waits for a writer for ever; the suite's own timeout would tell."""
    path = forge()
    (path / name).unlink()
    os.mkfifo(path / name)

    with pytest.raises(StrayFileError, match="pipe"):
        read_bundle(path)


@pytest.mark.parametrize("name", [_MODEL, "manifest.json"])
def test_folder_in_place_of_a_file(forge, name):
    path = forge()
    (path / name).unlink()
    (path / name).mkdir()

    with pytest.raises(StrayFileError, match="folder"):
        read_bundle(path)


def test_device_in_place_of_a_file(forge):
    """/dev/zero never ends. Making a device takes rights that not every test run has."""
    path = forge()
    (path / _MODEL).unlink()
    try:
        os.mknod(path / _MODEL, 0o600 | 0o020000, os.makedev(1, 5))
    except PermissionError:
        (path / _MODEL).symlink_to("/dev/zero")

    with pytest.raises(StrayFileError, match=_MODEL):
        read_bundle(path)


@pytest.mark.parametrize("name", ["extra.bin", "model.onnx.data", ".hidden", "model.ts", "Manifest.json", "x\ny"])
def test_extra_file(forge, name):
    """What no digest covers may be picked up by somebody later: weights beside the model, a TorchScript."""
    path = forge()
    (path / name).write_bytes(b"")

    with pytest.raises(StrayFileError, match="expected only the files in the manifest"):
        read_bundle(path)


@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_extra_of_other_kinds(forge, kind):
    path = forge()
    extra = path / "extra"
    {"folder": extra.mkdir, "link": lambda: extra.symlink_to("/"), "pipe": lambda: os.mkfifo(extra)}[kind]()

    with pytest.raises(StrayFileError):
        read_bundle(path)


def test_wrong_digest(forge):
    path = forge(edit=lambda top: top["files"][_MODEL].update(sha256=_HEX))

    with pytest.raises(DigestError, match=f"{_MODEL}: expected sha-256 {_HEX}"):
        read_bundle(path)


@pytest.mark.parametrize("change", [-1, 1, 10**6])
def test_wrong_size(forge, change):
    def edit(top):
        top["files"][_MODEL]["size_bytes"] += change

    with pytest.raises(DigestError, match=f"{_MODEL}: expected bytes"):
        read_bundle(forge(edit=edit))


def test_huge_sparse_file_is_refused_by_its_size_alone(forge):
    """A terabyte of nothing on the disk: refused before a byte of it is read."""
    path = forge()
    os.truncate(path / _MODEL, 2**40)

    with pytest.raises(DigestError, match=f"found {2**40}"):
        read_bundle(path)


@pytest.mark.parametrize("name", [_MODEL, "golden.safetensors", "equivalence.json"])
def test_truncated_file(forge, name):
    path = forge()
    os.truncate(path / name, 1)

    with pytest.raises(DigestError, match=name):
        read_bundle(path)


def test_missing_file(forge):
    path = forge()
    (path / "equivalence.html").unlink()

    with pytest.raises(DigestError, match=r"equivalence\.html: expected the file, found it missing"):
        read_bundle(path)


# The manifest: bounded before it is parsed, and of one version.


def test_huge_manifest(forge):
    """Valid JSON of 5 MiB, and a sparse file of a terabyte."""
    path = forge(edit=lambda top: top["network"].update(padding="x" * MAX_MANIFEST_BYTES))
    with pytest.raises(ManifestError, match="expected at most 4194304 bytes"):
        read_bundle(path)

    os.truncate(path / "manifest.json", 2**40)
    with pytest.raises(ManifestError, match=f"found {2**40}"):
        read_bundle(path)


def test_deep_manifest(forge):
    """A parser that recurses would end the process, not raise."""
    path = forge()
    (path / "manifest.json").write_bytes(b'{"network":' + b"[" * 100_000 + b"]" * 100_000 + b"}")

    with pytest.raises(ManifestError, match="at most 32 levels"):
        read_bundle(path)


@pytest.mark.parametrize("version", [0, 1, 3, "2", None, 2.0, True])
def test_unknown_version(forge, version):
    with pytest.raises(ManifestError, match="format_version: expected 2"):
        read_bundle(forge(edit=lambda top: top.update(format_version=version)))


def test_duplicate_key(forge):
    """Two readers may keep different ones: one checks the first digest, the other loads by the second."""
    path = forge()
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text.replace('"sha256"', f'"sha256": "{_HEX}", "sha256"', 1))

    with pytest.raises(ManifestError, match="'sha256' twice"):
        read_bundle(path)


def test_truncated_manifest(forge):
    path = forge()
    os.truncate(path / "manifest.json", (path / "manifest.json").stat().st_size // 2)

    with pytest.raises(ManifestError, match="expected UTF-8 JSON"):
        read_bundle(path)


def test_empty_manifest(forge):
    path = forge()
    os.truncate(path / "manifest.json", 0)

    with pytest.raises(ManifestError):
        read_bundle(path)


def test_no_manifest(forge):
    path = forge()
    (path / "manifest.json").unlink()

    with pytest.raises(NotABundleError, match=r"no manifest\.json"):
        read_bundle(path)


@pytest.mark.parametrize(
    "key", ["session.optimized_model_filepath", "ep.context_file_path", "session.collect_node_memory_stats_to_file"]
)
def test_option_of_the_runtime_that_writes_a_file(forge, key):
    """The runtime would write wherever the bundle says, with the server's rights."""
    with pytest.raises(ManifestError, match="not an entry for a bundle"):
        read_bundle(forge(edit=lambda top: top["session"]["config"].update({key: "/tmp/x"})))


# The graph: one file, the default domain, the operators that are listed, weights that fit.


def _external(model, location):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.append(StringStringEntryProto(key="location", value=location))


def _external_without_location(model):
    _external(model, "../../etc/passwd")
    model.graph.initializer[0].ClearField("data_location")


def _external_in_attribute(model):
    tensor = numpy_helper.from_array(np.zeros(1, np.float32), "hidden")
    tensor.data_location = TensorProto.EXTERNAL
    model.graph.node.append(helper.make_node("Transpose", ["x"], ["z"], value=tensor))


def _subgraph(*nodes, stored=()):
    return helper.make_graph(list(nodes), "inner", [], [], list(stored))


def _hide(model, *nodes, **parts):
    """Put nodes three subgraphs deep into an attribute of a listed operator."""
    graph = _subgraph(*nodes, **parts)
    for _ in range(2):
        graph = _subgraph(helper.make_node("Squeeze", ["a"], ["b"], body=graph))
    model.graph.node.append(helper.make_node("Squeeze", ["a"], ["b"], body=graph))


def _external_in_subgraph(model):
    tensor = numpy_helper.from_array(np.zeros(1, np.float32), "hidden")
    tensor.external_data.append(StringStringEntryProto(key="location", value="x"))
    _hide(model, stored=[tensor])


def _foreign(model):
    model.graph.node[0].domain = "com.evil"
    model.opset_import.append(helper.make_opsetid("com.evil", 1))


def _foreign_import(model):
    model.opset_import.append(helper.make_opsetid("com.evil", 1))


def _function(model):
    body = [helper.make_node("Relu", ["a"], ["b"])]
    model.functions.append(helper.make_function("com.evil", "Transpose", ["a"], ["b"], body, list(model.opset_import)))


def _function_in_default_domain(model):
    body = [helper.make_node("Relu", ["a"], ["b"])]
    model.functions.append(helper.make_function("", "Transpose", ["a"], ["b"], body, list(model.opset_import)))


def _weights(index, *shape):
    def change(model):
        name = model.graph.initializer[index].name
        model.graph.initializer[index].CopyFrom(numpy_helper.from_array(np.zeros(shape, np.float32), name))

    return change


def _hidden_size(model):
    next(a for a in model.graph.node[1].attribute if a.name == "hidden_size").i = 1000


def _attribute_twice(model):
    model.graph.node[1].attribute.append(helper.make_attribute("hidden_size", 1000))


def _layout(model):
    model.graph.node[1].attribute.append(helper.make_attribute("layout", 1))


def _runtime_options(model):
    model.metadata_props.append(StringStringEntryProto(key="ort_config", value='{"session_options": {}}'))


def _sparse(model):
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [3]))


def _sparse_in_attribute(model):
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    sparse = helper.make_sparse_tensor(values, indices, [3])
    model.graph.node.append(helper.make_node("Squeeze", [], ["b"], value=sparse))


def _exchangeable(model):
    model.graph.input.append(helper.make_tensor_value_info("W", TensorProto.FLOAT, [1, 12, 2]))


def _segment(model):
    model.graph.initializer[0].segment.begin = 1


def _reference(model):
    model.graph.node[0].attribute[0].ref_attr_name = "perm"


_EVIL = {
    # The runtime would open the file that the graph names, with the server's rights.
    "external data by traversal": (lambda m: _external(m, "../../etc/passwd"), "external data: initializer 'W'"),
    "external data by absolute path": (lambda m: _external(m, "/etc/passwd"), "external data: initializer 'W'"),
    "external data beside": (lambda m: _external(m, "model.onnx.data"), "external data: initializer 'W'"),
    "external data without its mark": (_external_without_location, "external data: initializer 'W'"),
    "external data in an attribute": (_external_in_attribute, "external data: attribute 'value' of Transpose"),
    "external data in a subgraph": (_external_in_subgraph, "external data: initializer 'hidden'"),
    # A custom operator is native code; a contributed one is code that nobody listed.
    "foreign domain": (_foreign, "foreign domain com.evil"),
    "foreign domain imported only": (_foreign_import, "foreign domain com.evil"),
    "foreign domain in a subgraph": (
        lambda m: _hide(m, helper.make_node("Squeeze", ["a"], ["b"], domain="com.evil")),
        "operator Squeeze of the foreign domain com.evil",
    ),
    "foreign domain of the runtime's maker": (
        lambda m: m.graph.node.append(helper.make_node("FusedMatMul", ["a"], ["b"], domain="com.microsoft")),
        "foreign domain com.microsoft",
    ),
    # A function gives a listed name another meaning.
    "function": (_function, "function com.evil::Transpose"),
    "function in the default domain": (_function_in_default_domain, "function Transpose"),
    "attribute of a function": (_reference, "refers to a function's"),
    # The manifest's list is what people and policies look at.
    "unlisted operator": (lambda m: m.graph.node.append(helper.make_node("Det", ["a"], ["b"])), "not listed: Det"),
    "operator hidden in a subgraph": (lambda m: _hide(m, helper.make_node("Det", ["a"], ["b"])), "not listed: Det"),
    "operator spelled in the long domain": (
        lambda m: m.graph.node.append(helper.make_node("Det", ["a"], ["b"], domain="ai.onnx")),
        "not listed: Det",
    ),
    # Kernels have read past the end of weights that disagree with hidden_size (onnxruntime #29595, #27737).
    "LSTM W too short": (_weights(0, 1, 11, 2), r"with W \[1, 11, 2\], expected \[1, 12, I\]"),
    "LSTM W of two directions": (_weights(0, 2, 12, 2), "with W"),
    "LSTM R too short": (_weights(1, 1, 12, 2), r"with R \[1, 12, 2\], expected \[1, 12, 3\]"),
    "LSTM B half": (_weights(2, 1, 12), r"with B \[1, 12\], expected \[1, 24\]"),
    "LSTM hidden_size": (_hidden_size, "expected .* for hidden_size 1000"),
    "LSTM hidden_size twice": (_attribute_twice, "attribute 'hidden_size' twice"),
    "LSTM layout": (_layout, "layout 1, expected 0"),
    # A tensor whose bytes are not those of its shape is read past its end by whoever trusts the shape.
    "weights shorter than their shape": (
        lambda m: m.graph.initializer[0].dims.__setitem__(2, 2**40),
        "initializer 'W' with 96 bytes",
    ),
    "negative size": (lambda m: m.graph.initializer[3].dims.append(-1), "a negative size: initializer 'one'"),
    "unknown element type": (lambda m: setattr(m.graph.initializer[0], "data_type", 99), "unknown element type 99"),
    "part of a tensor": (_segment, "a part of a tensor: initializer 'W'"),
    "initializer twice": (lambda m: m.graph.initializer.append(m.graph.initializer[0]), "initializer 'W' twice"),
    # The caller could send weights of its own.
    "initializer that is an input": (_exchangeable, "initializer 'W' that is an input too"),
    "sparse initializer": (_sparse, "sparse initializers"),
    "sparse attribute": (_sparse_in_attribute, "a sparse tensor in attribute"),
    "training information": (lambda m: m.training_info.add(), "training information"),
    "options for the runtime": (_runtime_options, "options for the runtime"),
    "field from the future": (lambda m: m.configuration.add(), "field 26 of the model"),
    "another opset than said": (lambda m: setattr(m.opset_import[0], "version", 16), "opset 16, expected 17"),
    "another input than said": (lambda m: setattr(m.graph.input[0], "name", "z"), "the inputs z"),
    "time frozen": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 30),
        "input x has shape",
    ),
}


@pytest.mark.parametrize("evil", _EVIL)
def test_hostile_graph(forge, tiny_model, evil):
    change, expected = _EVIL[evil]
    model = tiny_model()
    change(model)

    with pytest.raises(GraphError, match=expected):
        read_bundle(forge({_MODEL: model.SerializeToString()}))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x80\x02.", b"{}", b"\x3a\xff\xff\xff\xff\x0f"])
def test_model_that_is_no_onnx(forge, data):
    with pytest.raises(GraphError, match="no whole ONNX file"):
        read_bundle(forge({_MODEL: data}))


def test_graph_given_twice_is_not_merged(forge, contents):
    """Protobuf merges the two; a reader that keeps one of them would check another model than the runtime opens."""
    extra = helper.make_graph([helper.make_node("Det", ["a"], ["b"])], "g", [], []).SerializeToString()
    data = contents[_MODEL] + b"\x3a" + bytes([len(extra)]) + extra

    with pytest.raises(GraphError, match="graph stands 2 times"):
        read_bundle(forge({_MODEL: data}))


def test_weights_that_the_manifest_hides(forge):
    """A wrong operator list in the manifest is as wrong as a wrong graph."""
    with pytest.raises(GraphError, match="not listed: LSTM"):
        read_bundle(forge(edit=lambda top: top.update(operators=["Squeeze", "Transpose"])))


def test_error_text_stays_short(forge):
    """A name of a megabyte is not echoed into a log."""
    path = forge(edit=lambda top: top.update({"x" * 2**20: 1, "name": "y" * 2**20}))

    with pytest.raises(ManifestError) as caught:
        read_bundle(path)

    assert len(str(caught.value)) < 2000


def test_manifest_json_is_what_the_digest_names(forge):
    """Whitespace changes the digest: two manifests never share one, however alike they read."""
    path = forge()
    first = read_bundle(path).digest
    (path / "manifest.json").write_text(json.dumps(json.loads((path / "manifest.json").read_text()), indent=1))

    assert read_bundle(path).digest != first
