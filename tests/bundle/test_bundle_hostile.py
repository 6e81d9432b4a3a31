"""Hostile bundles as programs: what the manifest asks for must be inside the bundle, plain, and itself.

Each takes a valid bundle, does one evil thing, and says why it must be refused. The forger writes digests that are
right, so that what refuses is the check that is meant, not the digest. What a manifest or a graph alone can do is in
test_manifest_hostile.py and test_graph_hostile.py.
"""

import os

import pytest

from cellgate.bundle.errors import DigestError, ManifestError, StrayFileError
from cellgate.bundle.reader import read_bundle

_HEX = "0" * 64
_MODEL = "model.onnx"


def test_forged_bundle_without_evil_is_read(forge):
    """The control: what the tests below refuse is refused for the evil thing alone."""
    assert read_bundle(forge()).manifest.name == "tiny"


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
