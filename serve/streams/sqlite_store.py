"""Streams in a file: SQLite with a write-ahead log that is on the disk before a commit returns.

Rules of this file: one server holds the file, exclusively, as long as it runs; a second one is told so. What fails is
rolled back and raised. The columns that a sweep reads stand before the record, so that it does not read the records.
Source: https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ..errors import ServerStartError
from .record import StreamKey, StreamRecord
from .record_bytes import pack_record, unpack_record
from .store import StoreError, Usage, Write

SCHEMA: Final = 1
_APPLICATION: Final = 0x43475354  # "CGST": this file is of this program
_TABLE: Final = """
CREATE TABLE streams (
    key TEXT NOT NULL UNIQUE, model TEXT NOT NULL, revision INTEGER NOT NULL, is_live INTEGER NOT NULL,
    state_bytes INTEGER NOT NULL, size_bytes INTEGER NOT NULL, expires_s REAL NOT NULL, keep_until_s REAL NOT NULL,
    record BLOB NOT NULL
) STRICT
"""
_FACTS: Final = "SELECT revision, is_live, state_bytes, size_bytes FROM streams WHERE key = ?"
_INSERT: Final = """
INSERT INTO streams (key, revision, is_live, state_bytes, size_bytes, expires_s, keep_until_s, record, model)
VALUES (:key, :revision, :is_live, :state_bytes, :size_bytes, :expires_s, :keep_until_s, :record, :model)
"""
_UPDATE: Final = """
UPDATE streams SET revision = :revision, is_live = :is_live, state_bytes = :state_bytes, size_bytes = :size_bytes,
    expires_s = :expires_s, keep_until_s = :keep_until_s, record = :record WHERE key = :key
"""


class SqliteStore:
    """Records in an SQLite file.

    Args:
        path: of the file; made where it is missing, for this user only.
        max_ended: most records of streams that have ended.
        patience_s: how long to wait for another process that still holds the file, such as one that was just killed.

    Raises:
        ServerStartError: another server holds the file, it is of another program or version, or damaged, or the disk
            does not take it.
    """

    is_durable = True
    is_shared = False

    def __init__(self, path: Path, max_ended: int, patience_s: float = 5.0) -> None:
        self.line = f"on disk, in {path}: what was answered survives a crash of the server and of the machine"
        self.usage = Usage()
        self._path = path
        self._max_ended = max_ended
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
            found = self._db.execute("SELECT record FROM streams WHERE key = ?", (key.text(),)).fetchone()
        return None if found is None else unpack_record(found[0])

    def commit(self, writes: Sequence[Write]) -> list[bool]:
        """Write records in one transaction, on the disk when this returns."""
        counted: list[Callable[[], None]] = []
        with self._asking():
            self._db.execute("BEGIN IMMEDIATE")
            won = [self._put(write, counted) for write in writes]
            self._db.execute("COMMIT")
        for count in counted:  # not before it is true
            count()
        return won

    def sweep(self, now_s: float) -> dict[str, int]:
        """See `StreamStore.sweep`. What turned idle keeps its state on the disk until it is forgotten."""
        with self._asking():
            self._db.execute("BEGIN IMMEDIATE")
            idle = "is_live = 1 AND expires_s <= ?"
            asked = f"SELECT model, count(*) FROM streams WHERE {idle} GROUP BY model"  # noqa: S608 - a constant
            expired = dict(self._db.execute(asked, (now_s,)).fetchall())
            self._db.execute(f"UPDATE streams SET is_live = 0 WHERE {idle}", (now_s,))  # noqa: S608 - likewise
            self._db.execute("DELETE FROM streams WHERE is_live = 0 AND keep_until_s <= ?", (now_s,))
            over = "SELECT rowid FROM streams WHERE is_live = 0 ORDER BY keep_until_s DESC LIMIT -1 OFFSET ?"
            self._db.execute(f"DELETE FROM streams WHERE rowid IN ({over})", (self._max_ended,))  # noqa: S608 - likewise
            self._db.execute("COMMIT")
            self._count()
        return expired

    def close(self) -> None:
        """Give the file back."""
        self._db.close()

    def _put(self, write: Write, counted: list[Callable[[], None]]) -> bool:
        key, record = write.key.text(), write.record
        before = self._db.execute(_FACTS, (key,)).fetchone()
        if (None if before is None else before[0]) != write.expected:
            return False
        is_live = record.ended is None
        values = {
            "key": key,
            "model": write.key.model,
            "revision": record.revision,
            "is_live": is_live,
            "state_bytes": record.state_bytes,
            "size_bytes": record.size_bytes,
            "expires_s": write.expires_s,
            "keep_until_s": write.keep_until_s,
            "record": pack_record(record),
        }
        self._db.execute(_INSERT if before is None else _UPDATE, values)

        def count() -> None:
            sizes = {"state_bytes": record.state_bytes, "size_bytes": record.size_bytes}
            self.usage.add(write.key.model, is_live=is_live, **sizes)
            if before is not None:
                sizes = {"state_bytes": before[2], "size_bytes": before[3]}
                self.usage.add(write.key.model, is_live=bool(before[1]), **sizes, sign=-1)

        counted.append(count)
        return True

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
        (mode,) = self._db.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise self._refusal("a disk that takes a write-ahead log", f"the mode {mode}", "use a local disk")
        self._db.execute("PRAGMA synchronous = FULL")
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
