"""What SQLite alone must keep: what was committed, over a kill, a full disk, and damage."""

import subprocess
import sys

import pytest

from cellgate.serve.streams import sqlite_store
from cellgate.serve.streams.record import StreamKey
from cellgate.serve.streams.sqlite_store import SqliteStore
from cellgate.serve.streams.store import DamagedRecordError, StoreError, Write

A = StreamKey("m", 7)
KILLED = """
import os, signal, sys
from pathlib import Path
from cellgate.serve.streams.record_bytes import unpack_record
from cellgate.serve.streams.record import StreamKey
from cellgate.serve.streams.sqlite_store import SqliteStore
from cellgate.serve.streams.store import Write
store = SqliteStore(Path(sys.argv[1]), 10)
record = unpack_record(bytes.fromhex(sys.argv[2]))
store.commit([Write(key=StreamKey("m", 7), expected=None, record=record, expires_s=1e12, keep_until_s=1e12)])
os.kill(os.getpid(), signal.SIGKILL)
"""


def put(store, record, expected=None, key=A):
    return store.commit([Write(key=key, expected=expected, record=record, expires_s=1e12, keep_until_s=1e12)])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "streams.sqlite"


def test_what_was_committed_is_there_after_a_restart_and_counted(path, make_record, is_same_record):
    first = SqliteStore(path, 10)
    put(first, make_record(4))
    first.close()
    first.close()
    second = SqliteStore(path, 10)

    assert is_same_record(second.load(A), make_record(4))
    assert (second.usage.total_live, second.usage.live, second.usage.state_bytes) == (1, {"m": 1}, {"m": 48})
    second.close()


def test_what_was_committed_is_there_after_a_kill(path, make_record, is_same_record):
    from cellgate.serve.streams.record_bytes import pack_record

    done = subprocess.run([sys.executable, "-c", KILLED, path, pack_record(make_record(4)).hex()], check=False)
    assert done.returncode == -9
    store = SqliteStore(path, 10)

    assert is_same_record(store.load(A), make_record(4))
    store.close()


def test_a_full_disk_is_an_error_that_changes_nothing(path, make_record, is_same_record):
    store = SqliteStore(path, 10)
    put(store, make_record(4))
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="full"):
        put(store, make_record(5, rows=5000, revision=6), expected=5)

    assert is_same_record(store.load(A), make_record(4))
    assert store.usage.total_bytes == make_record(4).size_bytes
    store._db.execute("PRAGMA max_page_count = 1000000")
    assert put(store, make_record(5, rows=5000, revision=6), expected=5) == [True]
    store.close()


def test_what_turned_idle_at_once_is_emptied_some_records_a_sweep(path, make_record, monkeypatch):
    monkeypatch.setattr(sqlite_store, "_MOST_EMPTIED", 2)
    store = SqliteStore(path, 10)
    for name in (1, 2, 3):
        record = make_record(4)
        store.commit([Write(key=StreamKey("m", name), expected=None, record=record, expires_s=10.0, keep_until_s=99.0)])
    found = [(store.sweep(11.0 + turn), store.usage.total_live, store.usage.total_bytes) for turn in range(2)]
    store.close()

    assert found == [({"m": 3}, 0, record.size_bytes), ({}, 0, 0)]


def test_a_record_that_is_damaged_does_not_stop_a_sweep(path, make_record):
    store = SqliteStore(path, 10)
    for name in (1, 2):
        put(store, make_record(4), key=StreamKey("m", name))
    store._db.execute("UPDATE streams SET record = x'00' WHERE key = 'm:n:1'")

    assert store.sweep(1e12) == {"m": 2}
    store.close()


def test_a_record_that_is_damaged_can_be_written_over_by_its_revision(path, make_record, is_same_record):
    store = SqliteStore(path, 10)
    put(store, make_record(4))
    store._db.execute("UPDATE streams SET record = x'00'")
    with pytest.raises(DamagedRecordError) as caught:
        store.load(A)

    assert put(store, make_record(0, revision=9), expected=caught.value.revision) == [True]
    assert is_same_record(store.load(A), make_record(0, revision=9))
    store.close()


def test_a_store_that_is_closed_says_so(path, make_record):
    store = SqliteStore(path, 10)
    store.close()
    for use in (lambda: store.load(A), lambda: put(store, make_record()), lambda: store.sweep(1.0)):
        with pytest.raises(StoreError):
            use()
