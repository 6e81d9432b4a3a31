"""Streams in a file: SQLite with a write-ahead log that is on the disk before a commit returns.

Rules of this file: whose the file is, and whether it may be used, is `sqlite_file`'s. What fails is rolled back and
raised.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from .record import EXPIRED, StreamKey, StreamRecord
from .record_bytes import RecordError, pack_record, unpack_record
from .sqlite_file import open_file, refused_by
from .store import DamagedRecordError, StoreError, Usage, Write

_COLUMNS: Final = "key, model, revision, is_live, state_bytes, size_bytes, expires_s, keep_until_s, record"
_SET: Final = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS.split(", ")[2:])
_MOST_ROWS: Final = 500  # of a statement
_MOST_EMPTIED: Final = 1000  # records that one sweep reads, for commits wait meanwhile
_SUMS: Final = "SELECT model, is_live, count(*), sum(state_bytes), sum(size_bytes) FROM streams"
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
    return f"{_SUMS} WHERE key IN ({keys}) GROUP BY 1, 2"


class SqliteStore:
    """Records in an SQLite file.

    Args:
        path: of the file; made where it is missing, for this user only.
        max_ended: most records of streams that have ended.
        patience_s: how long to wait for another process that still holds the file, such as one that was just killed.

    Raises:
        ServerStartError: the file cannot be had, or is not of this program; see `open_file`.
    """

    is_durable = True
    is_shared = False

    def __init__(self, path: Path, max_ended: int, patience_s: float = 5.0) -> None:
        self.line = f"on disk, in {path}: what was answered survives a crash of the server and of the machine"
        self._path = path
        self._max_ended = max_ended
        self._db = open_file(path, patience_s)
        try:
            self._db.create_function("expired", 1, _expired, deterministic=True)
            self.usage = self._held()
        except sqlite3.Error as err:
            self._db.close()
            raise refused_by(err, path) from err

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
        for sums, sign in counted:  # not before it is true
            _count(self.usage, sums, sign)
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
            self.usage = self._held()
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

    def _held(self) -> Usage:
        usage = Usage()
        _count(usage, self._db.execute(f"{_SUMS} GROUP BY 1, 2").fetchall(), 1)
        return usage


def _count(usage: Usage, sums: Iterable[_Row], sign: int) -> None:
    for model, is_live, count, state_bytes, size_bytes in sums:
        usage.add(
            model, is_live=bool(is_live), state_bytes=state_bytes, size_bytes=size_bytes, records=count, sign=sign
        )


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
