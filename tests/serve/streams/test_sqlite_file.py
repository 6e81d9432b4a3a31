"""Whose the file of streams is: one server's at a time, this user's, and of this program and version."""

import os
import sqlite3
from pathlib import Path

import pytest

from cellgate.serve.start_errors import ServerStartError
from cellgate.serve.streams.record import StreamKey
from cellgate.serve.streams.sqlite_store import SqliteStore
from cellgate.serve.streams.store import Write


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "streams.sqlite"


def test_commits_wait_for_the_disk(path):
    store = SqliteStore(path, 10)
    asked = {name: store._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}

    assert asked == {"journal_mode": "wal", "synchronous": 2}
    store.close()


def test_the_file_is_for_this_user_only(path, only_for_this_user):
    store = SqliteStore(path, 10)

    assert only_for_this_user(path) == 0o600
    assert only_for_this_user(path.parent) == 0o700
    assert str(path) in store.line
    store.close()


def test_a_second_server_is_told_in_one_sentence(path):
    first = SqliteStore(path, 10)
    with pytest.raises(ServerStartError) as caught:
        SqliteStore(path, 10, patience_s=0.0)
    assert str(caught.value) == (
        f"stream store {path}: expected to be its only server, found that another one holds it; stop it, or name "
        "another file with --stream-store"
    )
    first.close()
    SqliteStore(path, 10, patience_s=0.0).close()


def test_files_of_others_and_of_other_versions_are_left_alone(path, tmp_path):
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE mine (a)")
    db.close()
    SqliteStore(path, 10).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    text = tmp_path / "text"
    text.write_text("no database, however long it may be " * 99)

    for place, found in ((other, "application 0x0, version 0"), (path, "version 99"), (text, "not a database")):
        before = place.read_bytes()
        with pytest.raises(ServerStartError, match=found):
            SqliteStore(place, 10)
        assert place == path or place.read_bytes() == before


def test_an_sqlite_that_is_too_old_is_told_and_nothing_is_made(path, monkeypatch):
    """As the Python of a distribution may have it: it would take the table for a fault of the file."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))

    with pytest.raises(ServerStartError, match=r"expected SQLite 3\.37 or newer in this Python, found 3\.34\.1; use"):
        SqliteStore(path, 10)
    assert not path.exists()


def test_a_damaged_file_is_refused(path, make_record):
    store = SqliteStore(path, 10)
    for number in range(50):
        key, record = StreamKey("m", 1 + number), make_record(4, rows=50)
        store.commit([Write(key=key, expected=None, record=record, expires_s=1e12, keep_until_s=1e12)])
    store.close()
    data = bytearray(path.read_bytes())
    data[8192 : 8192 + 2000] = os.urandom(2000)
    path.write_bytes(data)

    with pytest.raises(ServerStartError, match=r"stream store .*: expected .*; move it away"):
        SqliteStore(path, 10)


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ServerStartError, match="expected a file that can be written"):
        SqliteStore(tmp_path / "file" / "streams.sqlite", 10)
    with pytest.raises(ServerStartError, match="expected a file that can be written"):
        SqliteStore(tmp_path, 10)


def test_a_path_that_can_be_none_is_refused_and_no_file_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ServerStartError, match="stream store :memory:: expected the path of a file, found SQLite's word"
    ):
        SqliteStore(Path(":memory:"), 10)
    with pytest.raises(ServerStartError, match="expected a file that can be written, found embedded null"):
        SqliteStore(Path("a\0b"), 10)

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_lost_its_table_is_refused(path):
    SqliteStore(path, 10).close()
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE streams")
    db.close()

    with pytest.raises(ServerStartError, match=r"expected streams of cellgate, found no such table: streams; move it"):
        SqliteStore(path, 10)
