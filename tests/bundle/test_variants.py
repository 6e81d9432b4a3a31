"""A second graph for a device: kept and checked as model.onnx is, and taken by that device alone."""

import json
from dataclasses import replace

import pytest

from cellgate.bundle.errors import DigestError, GraphError, ManifestError
from cellgate.bundle.manifest import Variant
from cellgate.bundle.reader import read_bundle
from cellgate.bundle.writer import write_bundle

SCAN = "model.scan.onnx"


@pytest.fixture
def variant(manifest):
    return Variant(file=SCAN, device="cuda", operators=manifest.operators, bitwise_rows=True, bitwise_chunks=False)


@pytest.fixture
def other_model(tiny_model):
    made = tiny_model()
    made.producer_version = "2"
    return made.SerializeToString()


@pytest.fixture
def path(tmp_path, manifest, contents, variant, other_model):
    write_bundle(tmp_path / "b", replace(manifest, variants=(variant,)), {**contents, SCAN: other_model})
    return tmp_path / "b"


def test_variant_comes_back_with_its_own_digest_and_facts(path, variant, contents, other_model):
    bundle = read_bundle(path)

    assert bundle.manifest.variants == (variant,)
    assert bundle.variants == {SCAN: other_model}
    assert bundle.manifest.files[SCAN].sha256 != bundle.manifest.files["model.onnx"].sha256
    assert bundle.graph_for("cuda") == (SCAN, other_model)
    assert bundle.graph_for("cpu") == ("model.onnx", contents["model.onnx"])


def test_bundle_without_variants_has_one_graph_for_all(bundle_path, contents):
    bundle = read_bundle(bundle_path)

    assert bundle.variants == {}
    assert bundle.graph_for("cuda") == ("model.onnx", contents["model.onnx"])


def test_variant_that_was_changed_is_refused(path):
    data = bytearray((path / SCAN).read_bytes())
    data[-1] ^= 1
    (path / SCAN).write_bytes(data)

    with pytest.raises(DigestError, match=r"model\.scan\.onnx: expected sha-256"):
        read_bundle(path)


def test_variant_that_is_missing_is_refused(path):
    (path / SCAN).unlink()

    with pytest.raises(DigestError, match=r"model\.scan\.onnx: expected the file, found it missing"):
        read_bundle(path)


def test_variant_with_an_operator_that_its_list_lacks_is_refused(tmp_path, manifest, contents, variant, other_model):
    lying = replace(manifest, variants=(replace(variant, operators=("Squeeze", "Transpose")),))

    with pytest.raises(GraphError, match=r"model\.scan\.onnx: the model holds operators that are not listed: LSTM"):
        write_bundle(tmp_path / "b", lying, {**contents, SCAN: other_model})


def test_variant_of_another_signature_is_refused(tmp_path, manifest, contents, variant, tiny_model):
    made = tiny_model()
    made.graph.output[0].name = "z"
    made.graph.node[-1].output[0] = "z"

    with pytest.raises(
        GraphError, match=r"model\.scan\.onnx: the model has the outputs z, h_n, c_n; expected y, h_n, c_n"
    ):
        write_bundle(
            tmp_path / "b", replace(manifest, variants=(variant,)), {**contents, SCAN: made.SerializeToString()}
        )


def test_graph_that_no_variant_names_is_refused(tmp_path, manifest, contents, other_model):
    with pytest.raises(
        ManifestError, match=r"variants: expected one for each of the files model\.scan\.onnx, found none"
    ):
        write_bundle(tmp_path / "b", manifest, {**contents, SCAN: other_model})


def test_bits_of_chunks_are_not_claimed_where_nothing_is_cut(tmp_path, manifest, contents, variant, other_model):
    whole = replace(manifest, streamable=False, bitwise_chunks=False, variants=(replace(variant, bitwise_chunks=True),))

    with pytest.raises(ManifestError, match=r"variants\[0\].bitwise_chunks: expected false where streamable is false"):
        write_bundle(tmp_path / "b", whole, {**contents, SCAN: other_model})


def test_bundle_with_a_variant_can_be_replaced(path, manifest, contents):
    write_bundle(path, manifest, contents, overwrite=True)

    assert not (path / SCAN).exists()
    assert json.loads((path / "manifest.json").read_bytes())["variants"] == []
