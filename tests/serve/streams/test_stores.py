"""One contract for all stores, memory, SQLite, Redis, Valkey: the same cases, and a dictionary driven at random."""

import math
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from cellgate.serve.streams.memory_store import MemoryStore
from cellgate.serve.streams.record import END, EXPIRED, StreamKey
from cellgate.serve.streams.redis_store import RedisStore
from cellgate.serve.streams.sqlite_store import SqliteStore
from cellgate.serve.streams.store import Write

from .redis_process import NO_SERVER, PROGRAMS

A, B = StreamKey("m", 7), StreamKey("m", "7")
IDLE_S, KEPT_S = 60.0, 30.0


def write_of(key, record, expected=None):
    lives_until_s = record.touched_s + IDLE_S
    keep_until_s = KEPT_S + (record.touched_s if record.ended else lives_until_s)
    return Write(key=key, expected=expected, record=record, expires_s=lives_until_s, keep_until_s=keep_until_s)


@pytest.fixture(scope="module")
def running(start_redis):
    """A server of each program."""
    with ExitStack() as servers:
        yield {program: servers.enter_context(start_redis(program)) for program in PROGRAMS}


@pytest.fixture(params=["memory", "sqlite", *(PROGRAMS or ["none"])])
def open_store(request, tmp_path):
    """A context with an empty store."""

    @contextmanager
    def memory():
        yield MemoryStore(1000)

    @contextmanager
    def sqlite():
        store = SqliteStore(tmp_path / f"{len(list(tmp_path.iterdir()))}.sqlite", 1000)
        try:
            yield store
        finally:
            store.close()

    @contextmanager
    def redis():
        store = RedisStore(request.getfixturevalue("running")[request.param].url)
        store._client.flushall()
        try:
            yield store
        finally:
            store.close()

    if request.param == "none":
        pytest.skip(NO_SERVER)
    return {"memory": memory, "sqlite": sqlite}.get(request.param, redis)


def test_what_is_written_is_read_and_others_are_not(open_store, make_record, is_same_record):
    record = make_record(4)
    with open_store() as store:
        assert store.load(A) is None
        assert store.commit([write_of(A, record)]) == [True]
        assert is_same_record(store.load(A), record)
        assert store.load(B) is None


def test_a_write_wins_only_over_the_revision_that_it_saw(open_store, make_record, is_same_record):
    first, second, third = (make_record(step, revision=10 + step) for step in range(3))
    with open_store() as store:
        assert store.commit([write_of(A, second, expected=10)]) == [False]
        assert store.commit([write_of(A, first)]) == [True]
        assert store.commit([write_of(A, first)]) == [False]
        assert store.commit([write_of(A, third, expected=11)]) == [False]
        assert is_same_record(store.load(A), first)
        assert store.commit([write_of(A, second, expected=10)]) == [True]
        assert is_same_record(store.load(A), second)


def test_of_many_writes_each_wins_or_loses_for_itself(open_store, make_record):
    keys = [StreamKey("m", place) for place in range(1, 6)]
    with open_store() as store:
        assert store.commit([write_of(key, make_record()) for key in keys[:2]]) == [True, True]
        wanted = [write_of(keys[0], make_record(1, revision=6), expected=5), write_of(keys[1], make_record(1))]
        wanted += [write_of(key, make_record()) for key in keys[2:]]
        assert store.commit(wanted) == [True, False, True, True, True]
        assert [store.load(key).step for key in keys] == [1, 0, 0, 0, 0]
        assert store.commit([]) == []


def test_ended_streams_keep_their_last_answer(open_store, make_record, is_same_record):
    record = make_record(4, ended=END)
    with open_store() as store:
        store.commit([write_of(A, record)])
        assert is_same_record(store.load(A), record)


def test_odd_ids_are_told_apart(open_store, make_record):
    ids = [7, "7", " 7", "07", "é", "e\u0301", "a:b", "n:7", "\0", "%37", "a b\nc", "🦊" * 64, 2**64 - 1]
    with open_store() as store:
        for place, name in enumerate(ids):
            assert store.commit([write_of(StreamKey("m", name), make_record(place))]) == [True], name
            assert store.commit([write_of(StreamKey("m2", name), make_record(99))]) == [True], name
        assert [store.load(StreamKey("m", name)).step for name in ids] == list(range(len(ids)))


def test_a_sweep_forgets_what_was_kept_for_long_enough(open_store, make_record):
    with open_store() as store:
        if store.usage is None:
            pytest.skip("Redis forgets by itself")
        store.commit([write_of(A, make_record(4, touched_s=1000.0)), write_of(B, make_record(5, ended=END))])
        assert store.sweep(1029.9) == {}
        assert store.load(B) is not None
        assert store.sweep(1030.0) == {}
        assert store.load(B) is None
        assert store.sweep(1059.9) == {}
        assert store.usage.total_live == 1
        assert store.sweep(1060.0) == {"m": 1}
        assert store.usage.total_live == 0
        assert store.load(A).as_of(1060.0, IDLE_S).ended == EXPIRED
        assert store.sweep(1089.9) == {}
        assert store.load(A) is not None
        assert store.sweep(1090.0) == {}
        assert store.load(A) is None
        assert (store.usage.records, store.usage.total_bytes) == (0, 0)


def test_a_stream_that_turned_idle_leaves_no_bytes_behind(open_store, make_record):
    """Else nobody could begin another one before it is forgotten, though none lives."""
    with open_store() as store:
        if store.usage is None:
            pytest.skip("Redis does not count")
        store.commit([write_of(A, make_record(4)), write_of(B, make_record(4, ended=END, touched_s=1059.0))])
        store.sweep(1060.0)
        left = store.load(A)

        assert (left.ended, left.states, left.answer, left.step, left.revision) == (EXPIRED, (), None, 4, 5)
        assert store.usage.total_bytes == store.load(B).size_bytes


def test_a_stream_that_turned_idle_may_still_be_written_by_who_saw_it_alive(open_store, make_record):
    with open_store() as store:
        store.commit([write_of(A, make_record(4))])
        store.sweep(1060.0)
        assert store.commit([write_of(A, make_record(5, revision=6, touched_s=1061.0), expected=5)]) == [True]
        assert store.sweep(1100.0) == {}
        assert store.load(A).ended is None


def test_the_oldest_marks_go_first_where_there_are_too_many(tmp_path, make_record):
    for store in (MemoryStore(3), SqliteStore(tmp_path / "s", 3)):
        for place in range(1, 6):
            store.commit([write_of(StreamKey("m", place), make_record(ended=END, touched_s=1000.0 + place))])
        store.commit([write_of(A, make_record(touched_s=1000.0))])
        store.sweep(1006.0)
        found = [store.load(StreamKey("m", place)) is not None for place in range(1, 6)]
        assert found == [False, False, True, True, True]
        assert store.load(A) is not None
        store.close()


def test_redis_keeps_a_record_as_long_as_it_may_be_needed(redis_server, make_record):
    with redis_server() as server:
        store = RedisStore(server.url)
        store.commit([write_of(A, make_record(4)), write_of(B, make_record(4, ended=END))])

        assert 89_000 < store._client.pttl("cellgate:stream:m:n:7") <= 90_000
        assert 29_000 < store._client.pttl("cellgate:stream:m:s:7") <= 30_000
        assert store.sweep(1e9) == {}
        store.close()


KEYS = st.sampled_from([A, B, StreamKey("other", 7)])


class StoreMachine(RuleBasedStateMachine):
    """Any order of writes, reads and sweeps: the store says what a dictionary says."""

    make_store = make_record = is_same = None

    @initialize()
    def begin(self):
        self.context = self.make_store()
        self.store = self.context.__enter__()
        self.model = {}
        self.now = 1000.0
        self.revision = 0

    @rule(key=KEYS, step=st.integers(0, 3), rows=st.integers(1, 3), ended=st.booleans(), lag=st.integers(0, 2))
    def write(self, key, step, rows, ended, lag):
        """The writer saw the record there, or, with a lag, an older one."""
        self.revision += 1
        record = self.make_record(
            step, rows=rows, ended=END if ended else None, revision=self.revision, touched_s=self.now
        )
        there = self.model.get(key)
        saw = None if there is None else there.record.revision
        expected = saw if lag == 0 else (saw or 0) + lag
        write = write_of(key, record, expected)
        (won,) = self.store.commit([write])
        assert won is (lag == 0)
        if won:
            self.model[key] = write

    @rule(key=KEYS)
    def read(self, key):
        found, write = self.store.load(key), self.model.get(key)
        assert (found is None) == (write is None)
        if write is not None:
            expected = write.record
            if self.store.usage is not None:
                found, expected = (one.as_of(self.now, IDLE_S) for one in (found, expected))
            assert self.is_same(found, expected)

    @rule(seconds=st.floats(0, 50))
    def sweep(self, seconds):
        if self.store.usage is None:
            return
        self.now += seconds
        before = {key for key, write in self.model.items() if self.is_live(write)}
        found = self.store.sweep(self.now)
        expired = [key for key in before if self.model[key].expires_s <= self.now]
        assert found == {model: count for model in ("m", "other") if (count := sum(k.model == model for k in expired))}
        for key in expired:
            self.model[key] = replace(self.model[key], expires_s=-math.inf)
        self.model = {key: write for key, write in self.model.items() if self.is_kept(write)}

    @staticmethod
    def is_live(write):
        return write.record.ended is None and write.expires_s > -math.inf

    def is_kept(self, write):
        return self.is_live(write) or write.keep_until_s > self.now

    @invariant()
    def counts_what_lives(self):
        if hasattr(self, "store") and self.store.usage is not None:
            live = [key for key, write in self.model.items() if self.is_live(write)]
            assert self.store.usage.total_live == len(live)
            assert self.store.usage.records == len(self.model)
            assert self.store.usage.live.get("m", 0) == sum(key.model == "m" for key in live)

    def teardown(self):
        if hasattr(self, "context"):
            self.context.__exit__(None, None, None)


def test_any_history_is_that_of_a_dictionary(open_store, make_record, is_same_record):
    machine = type(
        "Machine",
        (StoreMachine,),
        {
            "make_store": staticmethod(open_store),
            "make_record": staticmethod(make_record),
            "is_same": staticmethod(is_same_record),
        },
    )
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        ),
    )


def test_a_commit_may_be_large_and_one_loser_in_it_takes_nobody_along(open_store, make_record):
    keys = [StreamKey("m", place) for place in range(1, 1202)]
    with open_store() as store:
        assert store.commit([write_of(keys[700], make_record(revision=99))]) == [True]
        assert store.commit([write_of(key, make_record()) for key in keys]) == [key != keys[700] for key in keys]
        assert store.load(keys[700]).revision == 99
        assert store.load(keys[1200]).revision == 5
        if store.usage is not None:
            assert (store.usage.total_live, store.usage.records) == (1201, 1201)
