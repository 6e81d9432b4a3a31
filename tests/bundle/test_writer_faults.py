"""Disks that fail, processes that are killed and strangers who come in between: nothing of anybody's is lost."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from cellgate.bundle.errors import BundleExistsError, NotABundleError
from cellgate.bundle.reader import read_bundle
from cellgate.bundle.writer import write_bundle

from .folder_tree import tree


@pytest.mark.parametrize("existing", [False, True], ids=["new", "overwrite"])
@pytest.mark.parametrize("call", ["os.fsync", "os.fchmod", "pathlib.Path.rename"])
@pytest.mark.parametrize("nth", [0, 1])
def test_failing_disk_leaves_everything_as_it_was(*, tmp_path, manifest, contents, monkeypatch, existing, call, nth):
    """The nth call of its kind fails; for the rename that is, when overwriting, the old one's and the new one's."""
    if existing:
        write_bundle(tmp_path / "b", manifest, contents)
    before = tree(tmp_path)
    owner, name = (os, call.removeprefix("os.")) if call.startswith("os.") else (type(tmp_path), "rename")
    real, calls = getattr(owner, name), []

    def fail(*args, **kwargs):
        calls.append(args)
        if len(calls) == nth + 1:
            raise OSError(28, "No space left on device")
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, fail)
    if name == "rename" and nth == 1 and not existing:
        write_bundle(tmp_path / "b", manifest, contents)
        assert len(calls) == 1  # there is but one rename
        return
    with pytest.raises(OSError, match="No space"):
        write_bundle(tmp_path / "b", replace(manifest, version=2), contents, overwrite=True)
    monkeypatch.undo()

    assert tree(tmp_path) == before


def test_full_disk_is_an_os_error_and_leaves_nothing(tmp_path, manifest, contents):
    """A real refusal of the system: the limit on the size of a file, as a full disk in small."""
    program = f"""
import resource, signal, sys
sys.path[:0] = {sys.path!r}
import json, pathlib
from cellgate.bundle import manifest_json, writer
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
contents = {contents!r}
manifest = manifest_json.manifest_from_json(pathlib.Path(sys.argv[2]).read_bytes())
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
try:
    writer.write_bundle(pathlib.Path(sys.argv[1]), manifest, contents)
except OSError as err:
    print(err.errno)
"""
    write_bundle(tmp_path / "good", manifest, contents)
    (tmp_path / "work").mkdir()

    found = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "work" / "b", tmp_path / "good" / "manifest.json"],
        capture_output=True,
        text=True,
        check=False,
        # Measuring coverage would write a file of its own, against the same limit.
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
    )

    assert (found.stdout, found.stderr) == ("27\n", "")
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "overwrite"])
@pytest.mark.parametrize("at", ["first file", "last file", "first rename", "second rename"])
def test_killed_process_leaves_nothing_the_old_or_the_new(tmp_path, manifest, contents, overwrite, at):
    """A real end of the process in the middle. The one window: between the two renames the old one lies beside."""
    program = f"""
import os, pathlib, sys
sys.path[:0] = {sys.path!r}
from dataclasses import replace
from cellgate.bundle import manifest_json, writer
def die_at(owner, name, nth):
    real, left = getattr(owner, name), [nth]
    def call(*args, **kwargs):
        if left[0] == 0:
            os._exit(9)
        left[0] -= 1
        return real(*args, **kwargs)
    setattr(owner, name, call)
at = sys.argv[3]
if at.endswith("file"):
    die_at(os, "fsync", 0 if at.startswith("first") else 4)
else:
    die_at(pathlib.Path, "rename", 0 if at.startswith("first") else 1)
manifest = manifest_json.manifest_from_json(pathlib.Path(sys.argv[2]).read_bytes())
writer.write_bundle(pathlib.Path(sys.argv[1]), replace(manifest, version=2), {contents!r}, overwrite=True)
"""
    work = tmp_path / "work"
    work.mkdir()
    write_bundle(tmp_path / "good", manifest, contents)
    if overwrite:
        write_bundle(work / "b", manifest, contents)

    found = subprocess.run(
        [sys.executable, "-c", program, work / "b", tmp_path / "good" / "manifest.json", at], check=False
    )

    if at == "second rename" and not overwrite:
        assert found.returncode == 0
        assert read_bundle(work / "b").manifest.version == 2
        return
    assert found.returncode == 9
    if at == "second rename":
        versions = {read_bundle(p).manifest.version for p in work.iterdir()}
        assert versions == {1, 2}
        assert not (work / "b").exists()
    elif overwrite:
        assert read_bundle(work / "b").manifest.version == 1
    else:
        assert not (work / "b").exists()
    write_bundle(work / "b", manifest, contents, overwrite=True)
    assert read_bundle(work / "b").manifest.version == 1


def test_place_taken_in_the_meantime_is_not_replaced(tmp_path, manifest, contents, monkeypatch):
    """Somebody makes the folder while the bundle is being written: theirs stays."""
    out = tmp_path / "b"
    real = os.fsync

    def take(descriptor):
        if not out.exists():
            out.mkdir()
            (out / "theirs.txt").write_bytes(b"theirs")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", take)

    with pytest.raises(BundleExistsError):
        write_bundle(out, manifest, contents)

    assert tree(tmp_path) == {"b": None, "b/theirs.txt": b"theirs"}


def test_strangers_file_that_comes_before_the_renames_stops_them(bundle_path, manifest, contents, monkeypatch):
    real = os.fsync

    def intrude(descriptor):
        (bundle_path / "thesis.txt").write_bytes(b"years of work")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", intrude)

    with pytest.raises(NotABundleError, match=r"thesis\.txt"):
        write_bundle(bundle_path, replace(manifest, version=2), contents, overwrite=True)

    (bundle_path / "thesis.txt").unlink()
    assert read_bundle(bundle_path).manifest.version == 1


def test_strangers_file_that_comes_between_check_and_rename_is_kept(bundle_path, manifest, contents, monkeypatch):
    """The old folder then stays beside, with nothing but the stranger's file in it."""
    real = type(bundle_path).rename

    def intrude(path, target):
        if path == bundle_path:
            (bundle_path / "thesis.txt").write_bytes(b"years of work")
        return real(path, target)

    monkeypatch.setattr(type(bundle_path), "rename", intrude)

    write_bundle(bundle_path, replace(manifest, version=2), contents, overwrite=True)

    assert read_bundle(bundle_path).manifest.version == 2
    assert [p.read_bytes() for p in bundle_path.parent.glob(".cellgate-*/*")] == [b"years of work"]
