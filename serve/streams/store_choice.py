"""Which store the settings name, opened.

Rules of this file: composition only; a package that only one store needs is imported when that store is asked for.
"""

import logging
from pathlib import Path

from ..settings import Settings
from ..start_errors import ServerStartError
from .memory_store import MemoryStore
from .sqlite_store import SqliteStore
from .store import StreamStore

logger = logging.getLogger("cellgate.streams")


def open_store(settings: Settings, *, is_restart: bool = False) -> StreamStore:
    """Open the store of streams.

    Args:
        settings: name it.
        is_restart: the server has been up before: a Redis that cannot be reached now may come back, and what needs no
            stream is served meanwhile.

    Raises:
        ServerStartError: it cannot be opened.
    """
    kind, _, place = settings.stream_store.partition(":")
    if kind == "memory":
        return MemoryStore(settings.max_streams)
    if kind == "sqlite":
        return SqliteStore(Path(place), settings.max_streams)
    return _open_redis(settings.stream_store, is_restart=is_restart)


def _open_redis(url: str, *, is_restart: bool) -> StreamStore:
    try:
        from .redis_store import RedisStore  # noqa: PLC0415 - the extra `redis`
    except ImportError as err:
        raise ServerStartError("stream store: expected the package redis, found none; install cellgate[redis]") from err
    try:
        store = RedisStore(url)
    except ValueError:  # it may hold a part of the password
        raise ServerStartError(
            "stream store: expected the URL of a Redis server, redis://[[USER]:PASSWORD@]HOST[:PORT][/NUMBER], found "
            "another; in a password write / ? # @ [ ] % as %2F %3F %23 %40 %5B %5D %25"
        ) from None
    if store.fault is not None:
        if not is_restart:
            store.close()
            raise ServerStartError(f"stream store: {store.fault}; start Redis, or name another with --stream-store")
        logger.warning("stream store: %s; it is tried again for every stream", store.fault)
    return store
