"""Streams in Redis, shared by any number of servers: compare-and-set on the revision, in a script on the server.

Rules of this file: the package `redis` (extra `redis`) is imported here only. A key is a hash (`redis_fields`), and
expires by itself. A connection over which anything failed is given up, and another one made at the next use, for the
address may lead to another server by then; what was asked over it may have happened or not, and is raised as such. The
password stands in the URL and in no message.
Source: https://redis.io/docs/latest/commands/waitaof/, .../develop/programmability/eval-intro/.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .record import StreamKey, StreamRecord
from .record_bytes import pack_record
from .redis_fields import COMPARE_AND_SET, record_of
from .store import StoreDownError, StoreError, Usage, Write

logger = logging.getLogger("cellgate.streams")

_DATABASE: Final = re.compile("(/[0-9]*)?")
_OPTIONS: Final = {  # of the client's, behind a question mark, that change nothing which this file relies on
    "redis": re.compile("(?!)"),
    "rediss": re.compile("ssl_[a-z_]+"),
    "unix": re.compile("db|username|password"),
}
_PREFIX: Final = "cellgate:stream:"
_NOBODY: Final = (redis.TimeoutError, redis.ConnectionError)  # answers, or nobody whom this server may ask
# Under `appendfsync everysec` WAITAOF answers before the disk has it in Redis before 8.0 (its pull request 13793) and
# in every Valkey so far (seen in 8.0.1 and 8.1.1), which says 7.2.4 as its `redis_version`.
_WAITS_FOR_DISK: Final = (8, 0)
# Of the connection's own limit: a server looks ten times a second whether somebody has waited for long enough.
_DISK_SHARE: Final = 0.9


class RedisStore:
    """Records in a Redis server.

    Args:
        url: redis://[[USER]:PASSWORD@]HOST[:PORT][/NUMBER], rediss:// with TLS, unix://.
        timeout_s: for connecting, and for each answer.

    Raises:
        ValueError: the URL is none. Its message may hold a part of the password.

    Attributes:
        fault: why the server could not be reached at the start, in one sentence, or None.
    """

    is_shared = True

    def __init__(self, url: str, timeout_s: float = 2.0) -> None:
        self._where = _shown(url)
        self._timeout_s = timeout_s
        self._facts: tuple[bool, str] | None = None  # of the server at the other end of the connection
        self._told: tuple[bool, str] | None = None  # what they were last
        self._client = redis.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),  # a commit is never sent twice: its first one may have won
            single_connection_client=False,
            max_connections=1,  # WAITAOF speaks of the writes of its own connection
            protocol=2,
            redis_connect_func=self._greet,
        )
        self.fault: str | None = None
        try:
            self._learn()
        except StoreError as err:
            self.fault = str(err)

    @property
    def line(self) -> str:
        """Where states live and what a restart does to them."""
        how = "it cannot be reached yet" if self._facts is None else self._facts[1]
        return f"in Redis at {self._where}, shared by all servers that use it: {how}"

    @property
    def is_durable(self) -> bool:
        """A record outlives this process; whether it outlives Redis is Redis's own setting, which `line` says."""
        return True

    @property
    def usage(self) -> Usage | None:
        """Redis is not asked to count; `maxmemory` and the expiry of keys bound it."""
        return None

    def load(self, key: StreamKey) -> StreamRecord | None:
        """See `StreamStore.load`."""

        def read() -> Any:
            self._learn()  # a replica may lag behind what was answered
            found = self._fields(key)
            if self._facts is None:
                raise redis.ConnectionError("another connection than the one that was looked at")
            return found

        return record_of(*self._ask_again(read))

    def commit(self, writes: Sequence[Write]) -> list[bool]:
        """Write records in one round trip; where Redis can say so, on its disk when this returns."""
        can_wait, _ = self._learn()
        if not writes:
            return []
        disk_limit_s = self._timeout_s * _DISK_SHARE
        arguments: list[str | bytes] = []
        for write in writes:
            keep_ms = max(1, int((write.keep_until_s - write.record.touched_s) * 1000))
            expected = "" if write.expected is None else str(write.expected)
            arguments += (expected, str(write.record.revision), pack_record(write.record), str(keep_ms))
        pipeline = self._client.pipeline(transaction=False)
        pipeline.eval(COMPARE_AND_SET, len(writes), *(_name(write.key) for write in writes), *arguments)
        if can_wait:
            pipeline.execute_command("WAITAOF", 1, 0, int(disk_limit_s * 1000))  # type: ignore[no-untyped-call]
        found: list[Any] = self._ask(lambda: _answers(pipeline.execute(raise_on_error=False)))
        if can_wait and found.pop()[0] < 1:
            self._facts = None  # its `appendfsync` may have been set to no meanwhile
            raise StoreError(
                f"redis at {self._where}: expected its disk to take the write in {disk_limit_s:g} s, found that it has "
                "not; under `appendfsync no` it never would"
            )
        return [won == 1 for won in found[0]]

    def sweep(self, now_s: float) -> dict[str, int]:  # noqa: ARG002 - its keys expire by themselves
        """Do nothing: keys expire by themselves, and nobody counts them."""
        return {}

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _fields(self, key: StreamKey) -> Any:
        """Return revision and record, None for what is not there; of a key that is no hash, what can be neither."""
        try:
            return self._client.hmget(_name(key), ("r", "b"))
        except redis.ResponseError as err:
            if "WRONGTYPE" not in str(err):
                raise
            return b"", b""

    def _greet(self, connection: Any) -> None:
        """The client connects by itself, between two commands too: what is known is of the server before."""
        self._facts = None
        connection.on_connect()

    def _learn(self) -> tuple[bool, str]:
        """Find out what this Redis can promise: whether to wait for its disk, and the words for it."""
        if self._facts is None:
            info = self._ask_again(self._client.info)
            if info.get("cluster_enabled"):  # a commit of many streams is one script, on one server
                raise StoreError(f"redis at {self._where}: expected a single server, found a node of a cluster")
            if info.get("role") == "slave":
                self._client.connection_pool.disconnect()  # the address may lead to the primary by now
                raise StoreError(f"redis at {self._where}: expected a primary, found a replica")
            self._facts = self._promise(info)
            if self._told not in (None, self._facts):
                logger.warning("redis at %s promises something else now: %s", self._where, self._facts[1])
            self._told = self._facts
        return self._facts

    def _promise(self, info: Mapping[str, Any]) -> tuple[bool, str]:
        """Return whether to ask a primary to wait for its disk, and the words for what its answers mean."""
        if not info.get("aof_enabled"):
            return False, "it keeps no log (appendonly no): its crash may lose some"
        appendfsync = self._ask_again(self._appendfsync)
        if appendfsync == "no":  # it would be waited for in vain
            how = "its machine's crash may lose some"
            return False, f"it appends to a file and asks no disk for it (appendfsync no): {how}"
        waits = "an answer waits until its disk has it"
        if tuple(int(part) for part in str(info["redis_version"]).split(".")[:2]) >= _WAITS_FOR_DISK:
            how = ", up to a second: set its appendfsync to always" if appendfsync == "everysec" else ""
            return True, f"{waits} (WAITAOF){how}"
        if appendfsync == "always":
            return False, f"{waits} (appendfsync always)"
        return False, "it appends to a file: its machine's crash may lose a second unless its appendfsync is always"

    def _appendfsync(self) -> str:
        """Return when it asks its disk, or nothing where this user may not know."""
        try:
            return str(self._client.config_get("appendfsync").get("appendfsync", ""))
        except redis.ResponseError:
            return ""

    def _ask_again(self, command: Callable[[], Any]) -> Any:
        """Ask for what changes nothing, twice if need be: the connection may be one that was lost long ago."""
        try:
            return self._ask(command)
        except StoreError as err:
            if isinstance(err.__cause__, redis.TimeoutError):  # there is somebody, who does not answer
                raise
            return self._ask(command)

    def _ask(self, command: Callable[[], Any]) -> Any:
        try:
            return command()
        except redis.RedisError as err:
            self._facts = None  # whoever answers next may be another one
            self._client.connection_pool.disconnect()
            kind = StoreDownError if isinstance(err, _NOBODY) else StoreError
            raise kind(f"redis at {self._where}: expected an answer, found: {err}") from err


def _answers(found: list[Any]) -> list[Any]:
    """Return the answers to a pipeline; an error among them is raised without the commands, which are long."""
    for answer in found:
        if isinstance(answer, redis.RedisError):
            raise answer
    return found


def _name(key: StreamKey) -> str:
    return _PREFIX + key.text()


def _shown(url: str) -> str:
    """Return the address without user and password.

    Raises:
        ValueError: the URL is none, its password holds what ends an address, or what stands behind the address is
            nothing known: the client would guess the number of the database.
    """
    parts = urlsplit(url)
    if parts.scheme != "unix":
        if "@" in f"{parts.path}{parts.query}{parts.fragment}":
            raise ValueError("an @ behind the address")
        if not _DATABASE.fullmatch(parts.path) or parts.fragment:
            raise ValueError("no number of a database")
    known = _OPTIONS[parts.scheme]
    if not all(known.fullmatch(name) for name in parse_qs(parts.query, keep_blank_values=True)):
        raise ValueError("an option that is not known")
    return parts.path if parts.scheme == "unix" else f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
