"""What Redis alone must keep: a killed server, who takes over its address, no password in any message."""

import socket
from contextlib import closing
from pathlib import Path

import pytest

from cellgate.serve.settings import Settings
from cellgate.serve.streams.record import StreamKey
from cellgate.serve.streams.redis_store import RedisStore, _shown
from cellgate.serve.streams.store import DamagedRecordError, StoreError, Write
from cellgate.serve.streams.store_choice import open_store

from .records import put

A = StreamKey("m", 7)


def test_what_was_committed_is_there_after_redis_was_killed(redis_server, make_record, is_same_record):
    with redis_server() as server:
        store = RedisStore(server.url)
        assert store.fault is None
        put(store, make_record(4))
        server.kill()
        with pytest.raises(StoreError, match="expected an answer"):
            store.load(A)
        with pytest.raises(StoreError, match="expected an answer"):
            put(store, make_record(5, revision=6), expected=5)
        server.start()

        assert is_same_record(store.load(A), make_record(4))
        assert put(store, make_record(5, revision=6), expected=5) == [True]
        store.close()


def test_a_password_is_asked_for_and_never_told(redis_server, make_record):
    with redis_server("--requirepass", "s3cret") as server:
        wrong = RedisStore(server.url)
        assert "Authentication required" in wrong.fault
        right = RedisStore(f"unix://:s3cret@{server.socket}")
        assert right.fault is None
        assert put(right, make_record()) == [True]
        for store in (wrong, right):
            assert "s3cret" not in f"{store.line} {store.fault}"
            store.close()
    assert _shown("redis://user:s3cret@host:7000/1") == "host:7000"
    assert _shown("redis://localhost") == "localhost:6379"


@pytest.mark.parametrize("url", ["redis://:s3c/ret@host", "redis://me:12/34@host:6379", "rediss://:s3c#ret@host/0"])
def test_a_password_that_breaks_its_url_is_not_told_either(url):
    from cellgate.serve.start_errors import ServerStartError

    with pytest.raises(ServerStartError, match=r"in a password write / .* as %2F") as caught:
        open_store(Settings(stream_store=url))
    assert not any(part in str(caught.value) for part in ("s3c", "ret", "12", "34"))
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "rest",
    [
        "/abc",
        "/3x",
        "/-1",
        "/1.0",
        "/1/2",
        "//1",
        "/ 3",
        "/\u0663",
        "?db=4",
        "/2?db=5",
        "/2#5",
        "?db",
        "?socket_timeout=9",
    ],
)
@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_database_that_is_no_number_is_refused(scheme, rest):
    from cellgate.serve.start_errors import ServerStartError

    with pytest.raises(ServerStartError, match=r"HOST\[:PORT\]\[/NUMBER\], found another"):
        open_store(Settings(stream_store=f"{scheme}://host{rest}"))


@pytest.mark.parametrize("url", ["redis://h", "redis://h/", "redis://u:p@h:1/15", "rediss://h/1?ssl_ca_certs=/a/b"])
def test_what_may_stand_behind_an_address(url):
    assert _shown(url) in ("h:6379", "h:1")
    assert _shown("unix://u:p@/a/b?db=2") == "/a/b"


def test_a_node_of_a_cluster_is_refused_at_the_start(redis_server):
    """A commit is one script, and a cluster runs none over the keys of several places."""
    from cellgate.serve.start_errors import ServerStartError

    with (
        redis_server("--cluster-enabled", "yes") as server,
        pytest.raises(ServerStartError, match="expected a single server, found a node of a cluster"),
    ):
        open_store(Settings(stream_store=server.url))


def test_a_replica_is_refused_at_the_start(redis_server):
    from cellgate.serve.start_errors import ServerStartError

    with (
        redis_server("--replicaof", "127.0.0.1 1") as server,
        pytest.raises(ServerStartError, match="expected a primary, found a replica"),
    ):
        open_store(Settings(stream_store=server.url))


def test_who_takes_over_the_address_is_found_though_the_old_primary_lives_on_as_a_replica(
    redis_server, make_record, is_same_record
):
    """Its connections stay open, it takes no more writes, and what it knows may be old."""
    with redis_server() as old, redis_server() as new:
        store = RedisStore(old.url)
        put(store, make_record(4))
        store._client.replicaof("127.0.0.1", 1)
        Path(new.socket).rename(old.socket)
        with pytest.raises(StoreError, match="read only replica"):
            put(store, make_record(5, revision=6), expected=5)

        assert store.load(A) is None
        assert put(store, make_record(4)) == [True]
        assert is_same_record(store.load(A), make_record(4))
        store.close()


def test_a_replica_at_the_address_of_a_primary_that_died_is_not_read(redis_server, make_record):
    with redis_server() as old, redis_server("--replicaof", "127.0.0.1 1") as replica:
        store = RedisStore(old.url)
        put(store, make_record(4))
        old.kill()
        Path(replica.socket).rename(old.socket)

        with pytest.raises(StoreError, match="expected a primary, found a replica"):
            store.load(A)
        store.close()


def test_a_full_redis_is_told_in_its_own_words_and_can_be_read(redis_server, make_record, is_same_record):
    with redis_server() as server:
        store = RedisStore(server.url)
        put(store, make_record(4))
        store._client.config_set("maxmemory", 1)
        with pytest.raises(StoreError, match=r"expected an answer, found: [^(]*maxmemory"):
            put(store, make_record(5, revision=6), expected=5)
        assert is_same_record(store.load(A), make_record(4))
        store._client.config_set("maxmemory", 0)

        assert put(store, make_record(5, revision=6), expected=5) == [True]
        store.close()


def test_a_record_that_is_damaged_can_be_written_over_by_its_revision(redis_server, make_record, is_same_record):
    with redis_server() as server:
        store = RedisStore(server.url)
        put(store, make_record(4))
        store._client.hset("cellgate:stream:m:n:7", "b", b"none")
        with pytest.raises(DamagedRecordError) as caught:
            store.load(A)

        assert put(store, make_record(0, revision=9), expected=caught.value.revision) == [True]
        assert is_same_record(store.load(A), make_record(0, revision=9))
        store.close()


HARMS = {
    "no revision": lambda client, key: client.hdel(key, "r"),
    "no record": lambda client, key: client.hdel(key, "b"),
    "a revision of another record": lambda client, key: client.hset(key, "r", "9"),
    "a revision that is no number": lambda client, key: client.hset(key, "r", "abc"),
    "a revision with a zero before it": lambda client, key: client.hset(key, "r", "05"),
    "a revision of many digits": lambda client, key: client.hset(key, "r", "5" * 6000),
    "no text": lambda client, key: client.hset(key, mapping={"r": b"\xff", "b": b""}),
    "no revision and no record": lambda client, key: (client.hset(key, "b", b"junk"), client.hdel(key, "r")),
    "text": lambda client, key: (client.delete(key), client.set(key, "5")),
    "a list": lambda client, key: (client.delete(key), client.rpush(key, "5")),
}


@pytest.fixture(scope="module")
def harmed(redis_server):
    with redis_server() as server:
        store = RedisStore(server.url)
        yield store
        store.close()


@pytest.mark.parametrize("harm", HARMS)
def test_whatever_lies_under_a_key_is_written_over_and_keeps_no_other_from_being_written(
    harmed, make_record, is_same_record, harm
):
    harmed._client.flushall()
    put(harmed, make_record(4))
    HARMS[harm](harmed._client, "cellgate:stream:m:n:7")
    with pytest.raises(DamagedRecordError) as caught:
        harmed.load(A)
    others = StreamKey("m", 1), StreamKey("m", 8)
    before = harmed.commit([write_of(key, make_record(), None) for key in (others[0], A, others[1])])
    late = put(harmed, make_record(5, revision=6), expected=4)
    over = harmed.commit([write_of(A, make_record(0, revision=12), caught.value.revision)])

    assert (before, late, over) == ([True, False, True], [False], [True])
    assert is_same_record(harmed.load(A), make_record(0, revision=12))
    assert harmed._client.pttl("cellgate:stream:m:n:7") > 0
    assert all(harmed.load(key) is not None for key in others)


def write_of(key, record, expected):
    return Write(key=key, expected=expected, record=record, expires_s=1e12, keep_until_s=record.touched_s + 99)


def test_a_redis_that_is_not_there_stops_a_start_but_not_a_restart(tmp_path, caplog, make_record):
    from cellgate.serve.start_errors import ServerStartError

    settings = Settings(stream_store=f"unix://:s3cret@{tmp_path}/none.sock")
    with pytest.raises(ServerStartError, match="start Redis, or name another") as caught:
        open_store(settings)
    assert "s3cret" not in str(caught.value)
    store = open_store(settings, is_restart=True)

    assert "it is tried again for every stream" in caplog.text
    assert "it cannot be reached yet" in store.line
    with pytest.raises(StoreError):
        put(store, make_record())
    store.close()


def test_a_redis_that_stands_still_is_asked_once(tmp_path):
    """Whoever waits for the store has waited long enough by then; only a connection that broke is worth another one."""
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(f"{tmp_path}/still.sock")
        listener.listen()
        listener.setblocking(False)
        store = RedisStore(f"unix://{tmp_path}/still.sock", timeout_s=0.01)

        assert "Timeout" in store.fault
        listener.accept()[0].close()
        with pytest.raises(BlockingIOError):
            listener.accept()
        store.close()


def test_memory_and_sqlite_are_opened_by_name(tmp_path):
    memory = open_store(Settings())
    assert (memory.is_durable, memory.is_shared) == (False, False)
    assert "a restart of the engine or of the server loses them" in memory.line
    sqlite = open_store(Settings(stream_store=f"sqlite:{tmp_path}/s"))
    assert (sqlite.is_durable, sqlite.is_shared) == (True, False)
    sqlite.close()
    redis = RedisStore(f"unix://{tmp_path}/none.sock")
    assert (redis.is_durable, redis.is_shared, redis.usage) == (True, True, None)
    redis.close()


def test_a_url_that_is_none_and_a_missing_package_are_told_at_the_start(monkeypatch):
    import sys

    from cellgate.serve.start_errors import ServerStartError

    with pytest.raises(ServerStartError, match="expected the URL of a Redis server"):
        open_store(Settings(stream_store="redis://host:port"))
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.delitem(sys.modules, "cellgate.serve.streams.redis_store")
    with pytest.raises(ServerStartError, match=r"expected the package redis, found none; install cellgate\[redis\]"):
        open_store(Settings(stream_store="redis://host"))
