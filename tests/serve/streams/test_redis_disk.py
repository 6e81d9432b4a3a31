"""What an answer over Redis promises about its disk, held against a disk that forgets, and the words for it."""

import pytest

from cellgate.serve.streams.record import StreamKey
from cellgate.serve.streams.redis_store import RedisStore
from cellgate.serve.streams.store import StoreError

from .records import put
from .redis_process import version_of

A = StreamKey("m", 7)
LOGGED = ("--slowlog-log-slower-than", "0")  # everything that it is asked


def waits_of(store):
    """How its server was asked to wait for its disk, as it logs itself."""
    return [entry["command"] for entry in store._client.slowlog_get(100) if b"WAITAOF" in entry["command"]]


def lose_power(server, *options):
    """And start it again: with a disk that forgets it has what was on the disk, with another one all that it wrote."""
    server.kill()
    server.options += options
    server.start()


@pytest.mark.parametrize(
    ("appendfsync", "words"),
    [("always", "(WAITAOF)"), ("everysec", "(WAITAOF), up to a second: set its appendfsync to always")],
    ids=["always", "everysec"],
)
def test_an_answer_waits_for_the_disk_where_redis_can_say_so(
    waiting_server, forgetful_disk, make_record, is_same_record, appendfsync, words
):
    with waiting_server("--appendfsync", appendfsync, *LOGGED, preload=forgetful_disk) as server:
        store = RedisStore(server.url)
        assert store.line.endswith(f"an answer waits until its disk has it {words}")
        assert put(store, make_record(4)) == [True]
        assert waits_of(store) == [b"WAITAOF 1 0 1800"]  # of the two seconds that the connection waits for an answer
        store.close()
        lose_power(server)

        store = RedisStore(server.url)
        assert is_same_record(store.load(A), make_record(4))
        store.close()


def test_what_was_answered_outlives_a_loss_of_power_and_what_no_disk_was_asked_for_does_not(
    redis_server, forgetful_disk, make_record, is_same_record
):
    with redis_server(preload=forgetful_disk) as server:
        store = RedisStore(server.url)
        assert "an answer waits until its disk has it" in store.line
        assert put(store, make_record(4)) == [True]
        store._client.config_set("appendfsync", "no")
        store._client.set("unasked", 1)
        store.close()
        lose_power(server)

        store = RedisStore(server.url)
        assert is_same_record(store.load(A), make_record(4))
        assert store._client.get("unasked") is None
        store.close()


def test_a_redis_that_keeps_no_log_is_told_apart(redis_server):
    with redis_server() as server:
        store = RedisStore(server.url)
        assert "shared by all servers that use it: an answer waits until its disk has it (" in store.line
        store.close()
    with redis_server("--appendonly", "no") as server:
        store = RedisStore(server.url)
        assert store.line.endswith("it keeps no log (appendonly no): its crash may lose some")
        store.close()


def test_a_redis_that_may_lose_a_second_says_so(redis_server, forgetful_disk, make_record, is_same_record):
    with redis_server("--appendfsync", "everysec", preload=forgetful_disk) as server:
        store = RedisStore(server.url)
        line, last = store.line, make_record(5, revision=6)
        put(store, make_record(4))
        assert put(store, last, expected=5) == [True]
        store.close()
        lose_power(server)

        store = RedisStore(server.url)
        found = store.load(A)
        is_kept = found is not None and is_same_record(found, last)
        assert is_kept or line.endswith("its machine's crash may lose a second unless its appendfsync is always")
        store.close()


def test_a_disk_that_does_not_take_a_write_fails_it(waitaof_server, make_record, is_same_record):
    with waitaof_server("--appendfsync", "no", *LOGGED) as server:
        store = RedisStore(server.url, timeout_s=60.0)
        store._timeout_s = 0.1  # of the disk alone
        store._facts = (True, "it asked its disk when it was looked at last")
        with pytest.raises(StoreError, match=r"expected its disk to take the write in 0\.09 s, .* `appendfsync no`"):
            put(store, make_record(4))

        assert is_same_record(store.load(A), make_record(4))
        assert put(store, make_record(5, revision=6), expected=5) == [True]
        assert waits_of(store) == [b"WAITAOF 1 0 90"]
        store.close()


def test_a_redis_that_never_asks_its_disk_is_not_waited_for_and_is_told_apart(redis_server, make_record):
    with redis_server("--appendfsync", "no", *LOGGED) as server:
        store = RedisStore(server.url)
        assert store.line.endswith("asks no disk for it (appendfsync no): its machine's crash may lose some")
        assert put(store, make_record(4)) == [True]
        assert waits_of(store) == []
        store.close()


def test_a_redis_that_promises_less_than_it_did_is_logged(redis_server, make_record, caplog):
    with redis_server() as server:
        store = RedisStore(server.url)
        lose_power(server, "--appendonly", "no")
        assert store.load(A) is None

        assert "promises something else now: it keeps no log (appendonly no): its crash may lose some" in caplog.text
        store.close()


def test_a_user_who_may_not_ask_for_settings_is_promised_no_more_than_holds_under_any(redis_server, make_record):
    with redis_server() as server:
        admin, may = RedisStore(server.url), ["info", "hmget", "eval", "hget", "hset", "pexpire"]
        may += ["waitaof"] if version_of(server.program) >= (7, 2) else []
        rights = [f"+{command}" for command in may]
        admin._client.execute_command("ACL", "SETUSER", "cellgate", "on", ">pw", "~cellgate:stream:*", *rights)
        store = RedisStore(f"unix://cellgate:pw@{server.socket}")
        assert store.fault is None
        assert store.line.endswith(("its disk has it (WAITAOF)", "may lose a second unless its appendfsync is always"))
        assert put(store, make_record(4)) == [True]
        for each in (store, admin):
            each.close()
