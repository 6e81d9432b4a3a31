"""Records beside a bundle: bound to its digest, replaced in one step, and never believed without a look."""

import json
import os
from dataclasses import replace

import pytest

from cellgate.bundle.errors import VerificationError
from cellgate.bundle.reader import read_bundle
from cellgate.bundle.verification import MAX_RECORD_BYTES, read_verifications, write_verification


@pytest.fixture
def bundle(bundle_path):
    return read_bundle(bundle_path)


@pytest.fixture
def folder(bundle_path):
    return bundle_path.with_name("tiny.verified")


def test_records_come_back_by_device(bundle, folder):
    path = write_verification(bundle, "cuda", {"max_abs_error": 1e-7, "passed": True})
    write_verification(bundle, "cpu", {"passed": True})

    assert path == folder / "cuda.json"
    assert read_verifications(bundle) == {"cpu": {"passed": True}, "cuda": {"max_abs_error": 1e-7, "passed": True}}
    assert list(read_verifications(bundle)) == ["cpu", "cuda"]


def test_no_folder_is_no_record(bundle):
    assert read_verifications(bundle) == {}


def test_bundle_itself_stays_whole(bundle, bundle_path):
    write_verification(bundle, "cuda", {})

    assert read_bundle(bundle_path).digest == bundle.digest


def test_later_record_replaces_the_earlier(bundle, folder):
    write_verification(bundle, "cuda", {"run": 1})
    write_verification(bundle, "cuda", {"run": 2})

    assert read_verifications(bundle) == {"cuda": {"run": 2}}
    assert [p.name for p in folder.iterdir()] == ["cuda.json"]


def test_record_of_another_bundle_is_passed_over(bundle):
    """The bundle was exported anew under its old name: what was verified is gone."""
    write_verification(replace(bundle, digest="0" * 64), "cuda", {"passed": True})

    assert read_verifications(bundle) == {}


@pytest.mark.parametrize("name", [".0123.tmp", "notes.txt", "cuda.json.bak", "-x.json", ".json"])
def test_other_files_are_passed_over(bundle, folder, name):
    write_verification(bundle, "cuda", {})
    (folder / name).write_bytes(b"{")

    assert read_verifications(bundle) == {"cuda": {}}


@pytest.mark.parametrize("device", ["", "..", "a/b", "/etc/x", "cuda:0", "x" * 129, "cuda\n"])
def test_device_that_is_no_name_is_refused(bundle, folder, device):
    with pytest.raises(VerificationError, match="expected a name"):
        write_verification(bundle, device, {})

    assert not folder.exists()


@pytest.mark.parametrize("record", [{"x": float("nan")}, {"x": {1}}, {"x": "y" * MAX_RECORD_BYTES}])
def test_record_that_could_not_be_read_is_not_written(bundle, folder, record):
    with pytest.raises(VerificationError, match="the record for cuda"):
        write_verification(bundle, "cuda", record)

    assert not folder.exists()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_failing_disk_keeps_the_earlier_record(bundle, folder, monkeypatch, call):
    write_verification(bundle, "cuda", {"run": 1})

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space"):
        write_verification(bundle, "cuda", {"run": 2})
    monkeypatch.undo()

    assert read_verifications(bundle) == {"cuda": {"run": 1}}
    assert [p.name for p in folder.iterdir()] == ["cuda.json"]


def _content(bundle, **changes):
    return {"format_version": 1, "digest": bundle.digest, "device": "cuda", "record": {}} | changes


@pytest.mark.parametrize(
    "changes",
    [{"format_version": 2}, {"format_version": True}, {"device": "cpu"}, {"record": []}, {"extra": 1}, {"digest": 7}],
    ids=str,
)
def test_record_of_another_form_is_refused(bundle, folder, changes):
    folder.mkdir()
    (folder / "cuda.json").write_text(json.dumps(_content(bundle, **changes)))

    with pytest.raises(VerificationError, match=r"cuda.json: expected .*; delete it and verify again"):
        read_verifications(bundle)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"[" * 1000, b" " * (MAX_RECORD_BYTES + 1)])
def test_record_that_is_no_json_object_is_refused(bundle, folder, data):
    folder.mkdir()
    (folder / "cuda.json").write_bytes(data)

    with pytest.raises(VerificationError, match=r"cuda.json: expected"):
        read_verifications(bundle)


@pytest.mark.parametrize("kind", ["link", "hard link", "folder", "pipe"])
def test_record_that_is_no_plain_file_is_refused(bundle, folder, tmp_path, kind):
    folder.mkdir()
    (tmp_path / "real.json").write_text(json.dumps(_content(bundle)))
    record = folder / "cuda.json"
    if kind == "link":
        record.symlink_to(tmp_path / "real.json")
    elif kind == "hard link":
        record.hardlink_to(tmp_path / "real.json")
    elif kind == "folder":
        record.mkdir()
    else:
        os.mkfifo(record)

    with pytest.raises(VerificationError, match=r"cuda.json: expected a record"):
        read_verifications(bundle)


@pytest.mark.parametrize("kind", ["file", "link"])
def test_folder_of_records_that_is_none_is_refused(bundle, folder, tmp_path, kind):
    if kind == "file":
        folder.write_bytes(b"")
    else:
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(VerificationError, match="expected a folder of records"):
        read_verifications(bundle)
    with pytest.raises(OSError, match=r"Not a directory|File exists|symbolic"):
        write_verification(bundle, "cuda", {})
