"""Streams in a file: SQLite with a write-ahead log that is on the disk before a commit returns.

Rules of this file: one server holds the file, exclusively, as long as it runs; a second one is told so. What fails is
rolled back and raised. The columns that a sweep reads stand before the record: it reads those of expired streams only.
Source: https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from ..start_errors import ServerStartError
from .record import EXPIRED, StreamKey, StreamRecord
from .record_bytes import RecordError, pack_record, unpack_record
from .store import DamagedRecordError, StoreError, Usage, Write

SCHEMA: Final = 1
_APPLICATION: Final = 0x43475354  # "CGST": this file is of this program
_TABLE: Final = """
CREATE TABLE streams (
    key TEXT NOT NULL UNIQUE, model TEXT NOT NULL, revision INTEGER NOT NULL, is_live INTEGER NOT NULL,
    state_bytes INTEGER NOT NULL, size_bytes INTEGER NOT NULL, expires_s REAL NOT NULL, keep_until_s REAL NOT NULL,
    record BLOB NOT NULL
) STRICT
"""
_COLUMNS: Final = "key, model, revision, is_live, state_bytes, size_bytes, expires_s, keep_until_s, record"
_SET: Final = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS.split(", ")[2:])
_OLDEST: Final = (3, 37)  # that knows STRICT
_MOST_ROWS: Final = 500  # of a statement
_MOST_EMPTIED: Final = 1000  # records that one sweep reads, for commits wait meanwhile
# Of 4 KiB: 32 MiB of log are read at a start after a crash. The usual 1,000 would move every page to the file several
# times as often, for streams write the same pages again and again.
_CHECKPOINT_PAGES: Final = 8192
_Row = tuple[Any, ...]


@lru_cache(maxsize=64)
def _put_sql(rows: int) -> str:
    """Return the statement that writes so many records, each where the revision there is the one that it expects."""
    values = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"] * rows)
    any_ = "SELECT 1 FROM streams WHERE streams.key = new.key"
    # It begins with INSERT, for Python counts the rows of such statements only.
    return (
        f"INSERT INTO streams ({_COLUMNS}) WITH new({_COLUMNS}, expected) AS (VALUES {values}) "  # noqa: S608 - constants
        f"SELECT {_COLUMNS} FROM new "
        f"WHERE iif(expected IS NULL, NOT EXISTS ({any_}), EXISTS ({any_} AND revision = expected)) "
        f"ON CONFLICT (key) DO UPDATE SET {_SET}"
    )


@lru_cache(maxsize=64)
def _sum_sql(rows: int) -> str:
    """Return the statement that adds up what lies under so many keys."""
    keys = ", ".join("?" * rows)
    asked = "SELECT model, is_live, count(*), sum(state_bytes), sum(size_bytes) FROM streams"
    return f"{asked} WHERE key IN ({keys}) GROUP BY 1, 2"


class SqliteStore:
    """Records in an SQLite file.

    Args:
        path: of the file; made where it is missing, for this user only.
        max_ended: most records of streams that have ended.
        patience_s: how long to wait for another process that still holds the file, such as one that was just killed.

    Raises:
        ServerStartError: another server holds the file, it is of another program or version, or damaged, the disk does
            not take it, or Python's SQLite is too old.
    """

    is_durable = True
    is_shared = False

    def __init__(self, path: Path, max_ended: int, patience_s: float = 5.0) -> None:
        self.line = f"on disk, in {path}: what was answered survives a crash of the server and of the machine"
        self.usage = Usage()
        self._path = path
        self._max_ended = max_ended
        if sqlite3.sqlite_version_info < _OLDEST:
            expected, found = (".".join(map(str, version)) for version in (_OLDEST, sqlite3.sqlite_version_info))
            remedy = "use a Python with a newer one, or another --stream-store"
            raise self._refusal(f"SQLite {expected} or newer in this Python", found, remedy)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(path, timeout=patience_s, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as err:
            raise self._refusal("a file that can be written", str(err), "name another with --stream-store") from err
        try:
            self._open()
            self._count()
        except sqlite3.Error as err:
            self._db.close()
            raise self._refused_by(err) from err
        except ServerStartError:
            self._db.close()
            raise

    def load(self, key: StreamKey) -> StreamRecord | None:
        """See `StreamStore.load`."""
        with self._asking():
            found = self._db.execute("SELECT revision, record FROM streams WHERE key = ?", (key.text(),)).fetchone()
        if found is None:
            return None
        try:
            return unpack_record(found[1])
        except RecordError as err:
            raise DamagedRecordError(found[0], err) from err

    def commit(self, writes: Sequence[Write]) -> list[bool]:
        """Write records in one transaction, on the disk when this returns."""
        packed = [_row_of(write) for write in writes]
        with self._asking():
            won, counted = self._put_all(packed, _MOST_ROWS)
            if not all(won):  # which of them lost is seen one by one
                self._db.execute("ROLLBACK")
                won, counted = self._put_all(packed, 1)
            self._db.execute("COMMIT")
        for rows, sign in counted:  # not before it is true
            for model, is_live, count, state_bytes, size_bytes in rows:
                self.usage.add(
                    model,
                    is_live=bool(is_live),
                    state_bytes=state_bytes,
                    size_bytes=size_bytes,
                    records=count,
                    sign=sign,
                )
        return won

    def sweep(self, now_s: float) -> dict[str, int]:
        """See `StreamStore.sweep`."""
        with self._asking():
            self._db.execute("BEGIN IMMEDIATE")
            idle = "is_live = 1 AND expires_s <= ?"
            asked = f"SELECT model, count(*) FROM streams WHERE {idle} GROUP BY model"  # noqa: S608 - a constant
            expired = dict(self._db.execute(asked, (now_s,)).fetchall())
            self._db.execute(f"UPDATE streams SET is_live = 0 WHERE {idle}", (now_s,))  # noqa: S608 - likewise
            self._db.execute("DELETE FROM streams WHERE is_live = 0 AND keep_until_s <= ?", (now_s,))
            full = "SELECT rowid FROM streams WHERE is_live = 0 AND state_bytes > 0 LIMIT ?"
            emptied = "state_bytes = 0, size_bytes = 0, record = expired(record)"
            self._db.execute(f"UPDATE streams SET {emptied} WHERE rowid IN ({full})", (_MOST_EMPTIED,))  # noqa: S608
            over = "SELECT rowid FROM streams WHERE is_live = 0 ORDER BY keep_until_s DESC LIMIT -1 OFFSET ?"
            self._db.execute(f"DELETE FROM streams WHERE rowid IN ({over})", (self._max_ended,))  # noqa: S608 - likewise
            self._db.execute("COMMIT")
            self._count()
        return expired

    def close(self) -> None:
        """Give the file back."""
        self._db.close()

    def _put_all(self, rows: Sequence[_Row], at_once: int) -> tuple[list[bool], list[tuple[list[Any], int]]]:
        """Begin to write, so many rows a statement; return which won, all of a statement or none, and what to count.

        Few statements for many rows: each lets another thread have the interpreter, and waits to get it back.
        """
        won: list[bool] = []
        counted: list[tuple[list[Any], int]] = []
        self._db.execute("BEGIN IMMEDIATE")
        for begin in range(0, len(rows), at_once):
            some = rows[begin : begin + at_once]
            keys = [row[0] for row in some]
            counted.append((self._db.execute(_sum_sql(len(keys)), keys).fetchall(), -1))
            done = self._db.execute(_put_sql(len(some)), [value for row in some for value in row]).rowcount
            counted.append((self._db.execute(_sum_sql(len(keys)), keys).fetchall(), 1))
            won += [done == len(some)] * len(some)
        return won, counted

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as err:
            with suppress(sqlite3.Error):
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            raise StoreError(f"{self._path}: {err}") from err

    def _open(self) -> None:
        # Exclusive first: the log then needs no memory that is shared with other processes.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._is_new()  # before anything is changed in it
        self._db.create_function("expired", 1, _expired, deterministic=True)
        (mode,) = self._db.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise self._refusal("a disk that takes a write-ahead log", f"the mode {mode}", "use a local disk")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        self._db.execute("BEGIN IMMEDIATE")  # the lock is taken here, and kept
        if self._is_new():
            self._db.execute(_TABLE)
            self._db.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._db.execute(f"PRAGMA user_version = {SCHEMA}")
        self._db.execute("COMMIT")
        (found,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise self._refusal("a whole file", " ".join(found.split()), "move it away, or bring back a copy")

    def _is_new(self) -> bool:
        """Whether the file is empty.

        Raises:
            ServerStartError: it is another program's, or of another version.
        """
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (schema,) = self._db.execute("PRAGMA user_version").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if (application, schema, tables) == (0, 0, 0):
            return True
        if (application, schema) != (_APPLICATION, SCHEMA):
            found = f"application {application:#x}, version {schema}"
            raise self._refusal(f"streams of cellgate, version {SCHEMA}", found, "name another with --stream-store")
        return False

    def _count(self) -> None:
        usage = Usage()
        asked = "SELECT model, is_live, count(*), sum(state_bytes), sum(size_bytes) FROM streams GROUP BY 1, 2"
        for model, is_live, count, state_bytes, size_bytes in self._db.execute(asked):
            usage.records += count
            usage.total_bytes += size_bytes
            if is_live:
                usage.total_live += count
                usage.live[model], usage.state_bytes[model] = count, state_bytes
        self.usage = usage

    def _refused_by(self, err: sqlite3.Error) -> ServerStartError:
        if getattr(err, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            remedy = "stop it, or name another file with --stream-store"
            return self._refusal("to be its only server", "that another one holds it", remedy)
        return self._refusal("streams of cellgate", str(err), "move it away, or name another with --stream-store")

    def _refusal(self, expected: str, found: str, remedy: str) -> ServerStartError:
        return ServerStartError(f"stream store {self._path}: expected {expected}, found {found}; {remedy}")


def _row_of(write: Write) -> _Row:
    """Return the columns of a record, and the revision that it expects."""
    record = write.record
    sizes = (record.ended is None, record.state_bytes, record.size_bytes)
    moments = (write.expires_s, write.keep_until_s)
    return (write.key.text(), write.key.model, record.revision, *sizes, *moments, pack_record(record), write.expected)


def _expired(data: bytes) -> bytes:
    """Return what is left of a record when its stream has expired; of a damaged one, it."""
    try:
        return pack_record(unpack_record(data).tombstone(EXPIRED))
    except RecordError:
        return data
