"""What a whole bundle gives back, and how each way of being no bundle is named."""

import hashlib
import io
import os
import socket

import numpy as np
import pytest

from cellgate.bundle.errors import BundleError, DigestError, NotABundleError, StrayFileError
from cellgate.bundle.plain_file import hash_chunks, read_whole
from cellgate.bundle.reader import read_bundle, read_manifest


def test_what_was_written_is_read(bundle_path, manifest, contents, cases):
    bundle = read_bundle(bundle_path)

    assert bundle.path == bundle_path
    assert bundle.model == contents["model.onnx"]
    assert bundle.manifest.graph == manifest.graph
    assert bundle.digest == hashlib.sha256((bundle_path / "manifest.json").read_bytes()).hexdigest()
    assert [case.id for case in bundle.golden] == [case.id for case in cases]
    for found, expected in zip(bundle.golden, cases, strict=True):
        for name, array in {**expected.inputs, **expected.outputs}.items():
            np.testing.assert_array_equal({**found.inputs, **found.outputs}[name], array)


def test_path_of_the_caller_may_lead_through_a_link(bundle_path, tmp_path):
    """`current -> v3` is how people switch versions; the bundle's own path is the folder behind it."""
    (tmp_path / "current").symlink_to(bundle_path)

    assert read_bundle(tmp_path / "current").path == bundle_path


def test_relative_path_is_made_absolute(bundle_path, monkeypatch):
    monkeypatch.chdir(bundle_path.parent)

    assert read_bundle(bundle_path.relative_to(bundle_path.parent)).path == bundle_path


def test_bundle_without_torchscript_is_whole(forge):
    assert "model.ts" not in read_bundle(forge()).manifest.files


@pytest.mark.parametrize("kind", ["missing", "file", "empty folder", "loop of links", "NUL", "too long"])
def test_path_that_is_no_bundle_is_named(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "file":
        path.write_bytes(b"")
    elif kind == "empty folder":
        path.mkdir()
    elif kind == "loop of links":
        path.symlink_to(path)
    elif kind == "NUL":
        path = tmp_path / "x\0y"
    elif kind == "too long":
        path = tmp_path / ("x" * 300)

    with pytest.raises(NotABundleError, match="expected"):
        read_bundle(path)


def test_what_lies_in_the_place_of_a_bundle_is_said_in_words(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"")

    for name, found in (("none", "nothing there"), ("model.onnx", "a file")):
        for read in (read_bundle, read_manifest):
            with pytest.raises(NotABundleError) as caught:
                read(tmp_path / name)
            assert str(caught.value) == f"{tmp_path / name}: expected the folder of a bundle, found: {found}"


def test_a_folder_of_bundles_is_no_bundle_and_says_which_are_in_it(bundle_path):
    (bundle_path.parent / "other").mkdir()

    with pytest.raises(NotABundleError) as caught:
        read_bundle(bundle_path.parent)
    assert f"found no manifest.json in it, but bundles: '{bundle_path.name}'; name one of them" in str(caught.value)


def test_errors_name_the_bundle_and_the_file(bundle_path):
    (bundle_path / "equivalence.json").write_bytes(b"[]\n")

    with pytest.raises(DigestError) as caught:
        read_bundle(bundle_path)

    assert str(caught.value).startswith(f"{bundle_path}: equivalence.json: expected sha-256 ")


@pytest.mark.parametrize("name", ["model.onnx", "golden.safetensors", "equivalence.html", "model.ts"])
@pytest.mark.parametrize("change", ["flipped", "longer", "shorter", "missing"])
def test_changed_file_is_refused(bundle_path, name, change):
    file = bundle_path / name
    data = file.read_bytes()
    if change == "missing":
        file.unlink()
    else:
        new = {"flipped": bytes([data[0] ^ 1]) + data[1:], "longer": data + b"\0", "shorter": data[:-1]}
        file.write_bytes(new[change])

    with pytest.raises(DigestError, match=name):
        read_bundle(bundle_path)


@pytest.mark.parametrize("size_bytes", [0, 3, 2**20])
def test_file_that_grows_while_it_is_read_shows(size_bytes):
    """The size is asked first; what is read then is counted again, and never without end."""
    assert len(read_whole(io.BytesIO(b"x" * (size_bytes + 9)), size_bytes)) == size_bytes + 1
    assert size_bytes < hash_chunks(io.BytesIO(b"x" * (size_bytes + 9)), size_bytes)[0]


def test_chunks_hash_as_the_whole():
    data = os.urandom(3 * 2**20 + 1)

    assert hash_chunks(io.BytesIO(data), len(data)) == (len(data), hashlib.sha256(data).hexdigest())


def test_unreadable_file_is_an_error_of_the_bundle(bundle_path, monkeypatch):
    """Tests run as root now and then, where no mode forbids reading: the refusal is injected."""
    real = os.open

    def refuse(path, *args, **kwargs):
        if path == "model.onnx":
            raise PermissionError(13, "Permission denied", path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr("cellgate.bundle.plain_file.os.open", refuse)

    with pytest.raises(NotABundleError, match=r"Permission denied: 'model\.onnx'"):
        read_bundle(bundle_path)


def test_socket_is_refused(bundle_path):
    """A socket cannot even be opened; it is still named as what it is not."""
    (bundle_path / "model.onnx").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(bundle_path / "model.onnx"))

        with pytest.raises(StrayFileError, match=r"model.onnx: expected a plain file"):
            read_bundle(bundle_path)


def test_every_refusal_is_a_bundle_error():
    for kind in (NotABundleError, DigestError, StrayFileError):
        assert issubclass(kind, BundleError)
