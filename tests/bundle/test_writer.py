"""A bundle appears whole or not at all, and nothing else is ever replaced or deleted."""

import os
import stat
from dataclasses import replace

import pytest

from cellgate.bundle.errors import BundleExistsError, GoldenError, GraphError, ManifestError, NotABundleError
from cellgate.bundle.reader import read_bundle
from cellgate.bundle.writer import write_bundle

from .folder_tree import tree


def test_written_manifest_is_the_one_read(tmp_path, manifest, contents):
    written = write_bundle(tmp_path / "b", manifest, contents)

    assert written == read_bundle(tmp_path / "b").manifest
    assert written.files["equivalence.json"].size_bytes == 3


def test_equal_input_gives_equal_bytes(tmp_path, manifest, contents):
    write_bundle(tmp_path / "a", manifest, contents)
    write_bundle(tmp_path / "b", manifest, dict(reversed(contents.items())))

    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_missing_parents_are_made(tmp_path, manifest, contents):
    write_bundle(tmp_path / "deep" / "er" / "b", manifest, contents)

    assert read_bundle(tmp_path / "deep" / "er" / "b").manifest.name == "tiny"


@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_modes_do_not_depend_on_the_umask(tmp_path, manifest, contents, umask):
    """A server often runs as another user than the one who exported."""
    before = os.umask(umask)
    try:
        write_bundle(tmp_path / "b", manifest, contents)
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o755
    assert {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "b").iterdir()} == {0o644}


def test_nothing_else_is_left_beside(tmp_path, manifest, contents):
    write_bundle(tmp_path / "b", manifest, contents)
    write_bundle(tmp_path / "b", replace(manifest, version=2), contents, overwrite=True)

    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    assert read_bundle(tmp_path / "b").manifest.version == 2


@pytest.mark.parametrize("kind", ["bundle", "file", "folder", "dangling link"])
def test_taken_place_is_refused(tmp_path, manifest, contents, kind):
    out = tmp_path / "b"
    if kind == "bundle":
        write_bundle(out, manifest, contents)
    elif kind == "file":
        out.write_bytes(b"mine")
    elif kind == "folder":
        out.mkdir()
    else:
        out.symlink_to(tmp_path / "nowhere")
    before = tree(tmp_path)

    with pytest.raises(BundleExistsError, match="overwrite"):
        write_bundle(out, manifest, contents)

    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "kind", ["file", "empty folder", "folder of a user", "stray file", "link to a bundle", "foreign manifest", "list"]
)
def test_only_a_bundle_is_overwritten(tmp_path, manifest, contents, kind):
    out = tmp_path / "b"
    if kind == "file":
        out.write_bytes(b"mine")
    elif kind in ("empty folder", "folder of a user", "foreign manifest", "list"):
        out.mkdir()
        if kind == "folder of a user":
            (out / "thesis.txt").write_bytes(b"years of work")
        elif kind == "foreign manifest":
            (out / "manifest.json").write_bytes(b'{"name": "a browser extension"}')
        elif kind == "list":
            (out / "manifest.json").write_bytes(b"[]")
    else:
        write_bundle(tmp_path / "real", manifest, contents)
        if kind == "stray file":
            (tmp_path / "real").rename(out)
            (out / "notes.txt").write_bytes(b"mine")
        else:
            out.symlink_to(tmp_path / "real")
    before = tree(tmp_path)

    with pytest.raises(NotABundleError, match="expected a bundle to overwrite"):
        write_bundle(out, manifest, contents, overwrite=True)

    assert tree(tmp_path) == before
    assert out.is_symlink() == (kind == "link to a bundle")


def test_damaged_bundle_is_overwritten(bundle_path, manifest, contents):
    (bundle_path / "model.onnx").write_bytes(b"")
    (bundle_path / "golden.safetensors").unlink()

    write_bundle(bundle_path, manifest, contents, overwrite=True)

    assert read_bundle(bundle_path).model == contents["model.onnx"]


def test_leftover_of_an_earlier_crash_does_not_hinder(tmp_path, manifest, contents):
    leftover = tmp_path / ".cellgate-abcdefgh"
    leftover.mkdir()
    (leftover / "model.onnx").write_bytes(b"half")

    write_bundle(tmp_path / "b", manifest, contents)

    assert read_bundle(tmp_path / "b").manifest.name == "tiny"
    assert (leftover / "model.onnx").read_bytes() == b"half"


@pytest.mark.parametrize("name", ["../x", "/etc/cron.d/x", "extra.txt", "manifest.json"])
def test_contents_of_other_names_are_refused(tmp_path, manifest, contents, name):
    with pytest.raises(ManifestError, match="expected equivalence"):
        write_bundle(tmp_path / "b", manifest, {**contents, name: b""})

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["model.onnx", "golden.safetensors", "equivalence.json", "equivalence.html"])
def test_incomplete_contents_are_refused(tmp_path, manifest, contents, name):
    del contents[name]

    with pytest.raises(ManifestError, match=name):
        write_bundle(tmp_path / "b", manifest, contents)


def test_what_no_reader_would_take_is_not_written(tmp_path, manifest, contents):
    """Graph, golden cases and manifest are checked before the disk is touched."""
    for error, fields, files in (
        (GraphError, manifest, {**contents, "model.onnx": b"\xff"}),
        (GraphError, replace(manifest, opset=18), contents),
        (GoldenError, manifest, {**contents, "golden.safetensors": b"\xff"}),
        (ManifestError, replace(manifest, name="a/b"), contents),
    ):
        with pytest.raises(error):
            write_bundle(tmp_path / "new" / "b", fields, files)

    assert list(tmp_path.iterdir()) == []
