"""The file of streams: opened for one server alone, known by its marks, and refused where it is not this program's.

Rules of this file: one server holds the file, exclusively, as long as it runs; a second one is told so. Nothing is
changed in a file before it is known. What the rows mean is `sqlite_store`'s.
Source: https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html.
"""

import os
import sqlite3
from pathlib import Path
from typing import Final

from ..start_errors import ServerStartError

SCHEMA: Final = 1
_APPLICATION: Final = 0x43475354  # "CGST": this file is of this program
# The columns that a sweep reads stand before the record: it reads those of expired streams only.
_TABLE: Final = """
CREATE TABLE streams (
    key TEXT NOT NULL UNIQUE, model TEXT NOT NULL, revision INTEGER NOT NULL, is_live INTEGER NOT NULL,
    state_bytes INTEGER NOT NULL, size_bytes INTEGER NOT NULL, expires_s REAL NOT NULL, keep_until_s REAL NOT NULL,
    record BLOB NOT NULL
) STRICT
"""
_NO_FILE: Final = ":memory:"
_OLDEST: Final = (3, 37)  # that knows STRICT
# Of 4 KiB: 32 MiB of log are read at a start after a crash. The usual 1,000 would move every page to the file several
# times as often, for streams write the same pages again and again.
_CHECKPOINT_PAGES: Final = 8192


def open_file(path: Path, patience_s: float) -> sqlite3.Connection:
    """Return the file's connection, which any thread may use, one at a time; what it commits is on the disk.

    Args:
        path: of the file; made where it is missing, for this user only.
        patience_s: how long to wait for another process that still holds the file, such as one that was just killed.

    Raises:
        ServerStartError: another server holds the file, it is of another program or version, or damaged, the disk does
            not take it, or Python's SQLite is too old.
    """
    if sqlite3.sqlite_version_info < _OLDEST:
        expected, found = (".".join(map(str, version)) for version in (_OLDEST, sqlite3.sqlite_version_info))
        remedy = "use a Python with a newer one, or another --stream-store"
        raise _refusal(path, f"SQLite {expected} or newer in this Python", found, remedy)
    if str(path) == _NO_FILE:
        raise _refusal(path, "the path of a file", "SQLite's word for none", "--stream-store memory keeps none")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(path, timeout=patience_s, isolation_level=None, check_same_thread=False)
    except (OSError, ValueError, sqlite3.Error) as err:  # a path with a NUL in it is a ValueError
        raise _refusal(path, "a file that can be written", str(err), "name another with --stream-store") from err
    try:
        _take(db, path)
    except sqlite3.Error as err:
        db.close()
        raise refused_by(err, path) from err
    except ServerStartError:
        db.close()
        raise
    return db


def refused_by(err: sqlite3.Error, path: Path) -> ServerStartError:
    """Return what to say of a file that SQLite does not take, or in which it does not find what it asks for."""
    if getattr(err, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        remedy = "stop it, or name another file with --stream-store"
        return _refusal(path, "to be its only server", "that another one holds it", remedy)
    return _refusal(path, "streams of cellgate", str(err), "move it away, or name another with --stream-store")


def _take(db: sqlite3.Connection, path: Path) -> None:
    # Exclusive first: the log then needs no memory that is shared with other processes.
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    _is_new(db, path)  # before anything is changed in it
    (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise _refusal(path, "a disk that takes a write-ahead log", f"the mode {mode}", "use a local disk")
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    db.execute("BEGIN IMMEDIATE")  # the lock is taken here, and kept
    if _is_new(db, path):
        db.execute(_TABLE)
        db.execute(f"PRAGMA application_id = {_APPLICATION}")
        db.execute(f"PRAGMA user_version = {SCHEMA}")
    db.execute("COMMIT")
    (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise _refusal(path, "a whole file", " ".join(found.split()), "move it away, or bring back a copy")


def _is_new(db: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is empty.

    Raises:
        ServerStartError: it is another program's, or of another version.
    """
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (schema,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if (application, schema, tables) == (0, 0, 0):
        return True
    if (application, schema) != (_APPLICATION, SCHEMA):
        found = f"application {application:#x}, version {schema}"
        raise _refusal(path, f"streams of cellgate, version {SCHEMA}", found, "name another with --stream-store")
    return False


def _refusal(path: Path, expected: str, found: str, remedy: str) -> ServerStartError:
    return ServerStartError(f"stream store {path}: expected {expected}, found {found}; {remedy}")
