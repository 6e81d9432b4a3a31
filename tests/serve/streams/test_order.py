"""A stream can be looked at, closed, moved and forked, and goes on with the bits of the whole."""

from dataclasses import replace

import numpy as np
import pytest

from cellgate.serve.engine.work import StreamAnswer, StreamOrder, StreamRef
from cellgate.serve.errors import BadInput, NotReady, ServeError, UnknownModel
from cellgate.serve.stream_errors import (
    ModelChanged,
    StreamEnded,
    StreamExists,
    StreamExpired,
    StreamsFull,
    UnknownStream,
)
from cellgate.serve.streams.memory_store import MemoryStore
from cellgate.serve.streams.record import StreamKey
from cellgate.serve.streams.record_bytes import pack_record, unpack_record


@pytest.fixture
def order():
    """Give an order to a driver and return its outcome."""

    def give(driver, kind, name, data=b"", model="steps"):
        found = []
        try:
            driver.engine.order(StreamOrder(kind=kind, model=model, id=name, data=data), found.append)
        except ServeError as err:
            return err
        driver.drain()
        (outcome,) = found
        return outcome

    return give


@pytest.fixture
def begun(make_driver, make_work, make_x):
    """A driver with a stream of two requests, and its whole sequence."""
    driver, x = make_driver(), make_x(12)
    driver.ask(make_work(x[:, :3], StreamRef(id=7, is_start=True, step=0)))
    driver.ask(make_work(x[:, 3:6], StreamRef(id=7, step=1)))
    return driver, x


def test_a_stream_is_shown_with_its_step_and_not_changed(begun, order):
    driver, _ = begun
    driver.clock.now += 2.5

    assert [order(driver, "show", 7).facts for _ in range(2)] == [
        {
            "model_name": "steps",
            "sequence_id": 7,
            "sequence_step": 1,
            "rows": 1,
            "ended": None,
            "idle_s": 2.5,
            "state_bytes": 24,
            "repeatable": True,
            "bundle_digest": driver.engine.models[0].served.digest,
        }
    ] * 2


def test_a_stream_moves_to_another_server_and_goes_on_there(begun, order, make_driver, make_work, whole_of):
    driver, x = begun
    other = make_driver()
    report = order(driver, "export", 7)
    assert order(driver, "close", 7).facts["ended"] == "closed"
    assert order(other, "bring", 7, report.data).facts["sequence_step"] == 1

    again = other.ask(make_work(x[:, 3:6], StreamRef(id=7, step=1)))
    last = other.ask(make_work(x[:, 6:], StreamRef(id=7, step=2, is_end=True)))
    assert (again.is_replayed, last.is_replayed) == (True, False)
    y = np.concatenate([again.outputs["y"], last.outputs["y"]], axis=1)
    assert y.tobytes() == whole_of(x)["y"][:, 3:].tobytes()
    assert isinstance(driver.ask(make_work(x[:, 6:], StreamRef(id=7, step=2))), StreamEnded)


def test_a_fork_goes_on_from_the_same_state_by_itself(begun, order, make_work, make_x, whole_of):
    driver, x = begun
    order(driver, "bring", "fork", order(driver, "export", 7).data)
    elsewhere = make_x(6, seed=9)
    own = driver.ask(make_work(x[:, 6:], StreamRef(id=7, step=2)))
    forked = driver.ask(make_work(elsewhere, StreamRef(id="fork", step=2)))

    assert own.outputs["y"].tobytes() == whole_of(x)["y"][:, 6:].tobytes()
    expected = whole_of(np.concatenate([x[:, :6], elsewhere], axis=1))["y"][:, 6:]
    assert forked.outputs["y"].tobytes() == expected.tobytes()


def test_an_order_waits_for_its_turn(begun, make_work):
    driver, x = begun
    found = []
    for step, kind in ((2, "show"), (3, "close")):
        driver.post(make_work(x[:, 6:7], StreamRef(id=7, step=step)))
        driver.engine.order(StreamOrder(kind=kind, model="steps", id=7), found.append)
    late = driver.post(make_work(x[:, 6:7], StreamRef(id=7, step=4)))
    outcomes = driver.drain()

    assert [report.facts["sequence_step"] for report in found] == [2, 3]
    assert isinstance(outcomes[late], StreamEnded)
    assert driver.engine.statistics()["streams"]["steps"]["ended"]["closed"] == 1


def test_what_is_not_there_or_not_alive_is_refused(begun, order, make_work, make_x):
    driver, x = begun
    for kind in ("show", "export", "close"):
        assert isinstance(order(driver, kind, 8), UnknownStream)
        assert isinstance(order(driver, kind, 7, model="none"), UnknownModel)
    driver.ask(make_work(x[:, 6:], StreamRef(id=7, step=2, is_end=True)))
    assert order(driver, "show", 7).facts["ended"] == "end"
    for kind in ("export", "close"):
        assert isinstance(order(driver, kind, 7), StreamEnded)
    driver.ask(make_work(x, StreamRef(id=9, is_start=True)))
    driver.clock.now += 600.0
    assert order(driver, "show", 9).facts["ended"] == "expired"
    assert isinstance(order(driver, "export", 9), StreamExpired)


def test_only_a_live_state_of_the_same_bundle_is_brought_and_only_where_none_lives(begun, order, make_record):
    driver, _ = begun
    data = order(driver, "export", 7).data
    digest = driver.engine.models[0].served.digest

    assert isinstance(order(driver, "bring", 7, data), StreamExists)
    for wrong, error in (
        (data[:-1], BadInput),
        (b"", BadInput),
        (pack_record(make_record(4, ended="end", digest=digest)), BadInput),
        (pack_record(make_record(4)), ModelChanged),
        (pack_record(make_record(4, digest=digest, fill=np.inf)), BadInput),
    ):
        assert isinstance(order(driver, "bring", 8, wrong), error), wrong[:8]
    assert isinstance(order(driver, "bring", 8, data, model="last"), ModelChanged)
    assert isinstance(order(driver, "show", 8), UnknownStream)


def test_a_record_that_no_frame_between_the_processes_has_room_for_is_not_given_out(
    make_driver, make_work, make_x, order
):
    driver, x = make_driver(max_record_bytes=1000), make_x(100)
    driver.ask(make_work(x, StreamRef(id=7, is_start=True, step=0)))
    refused = order(driver, "export", 7)
    assert isinstance(refused, BadInput)
    assert "stream: expected a record of at most 1000 bytes, found 1" in str(refused)
    driver.ask(make_work(x[:, :5], StreamRef(id=7, step=1)))

    assert 0 < len(order(driver, "export", 7).data) <= 1000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"step": 2**64 - 1}, "requests", id="a-step-that-nobody-can-count-on-from"),
        pytest.param({"answer": {"y": np.zeros((1, 3, 4))}}, "outputs", id="another-dtype"),
        pytest.param({"answer": {"y": np.zeros((2, 3, 4), np.float32)}}, "outputs", id="other-rows"),
        pytest.param({"answer": {"y": np.zeros((1, 4), np.float32)}}, "outputs", id="another-rank"),
        pytest.param({"answer": {"z": np.zeros((1, 3, 4), np.float32)}}, "outputs", id="another-name"),
        pytest.param({"answer": {"h_n": np.zeros((1, 1, 4), np.float32)}}, "outputs", id="another-width"),
    ],
)
def test_a_state_that_no_server_gave_is_not_taken(begun, order, changes, words):
    """Its checksum is right: anybody can compute one."""
    driver, _ = begun
    record = unpack_record(order(driver, "export", 7).data)

    refused = order(driver, "bring", 8, pack_record(replace(record, **changes)))
    assert isinstance(refused, BadInput)
    assert words in str(refused)


def test_what_is_brought_needs_room_too(make_driver, make_work, make_x, order):
    driver, x = make_driver(max_streams=1), make_x(4)
    driver.ask(make_work(x, StreamRef(id=1, is_start=True)))

    assert isinstance(order(driver, "bring", 2, order(driver, "export", 1).data), StreamsFull)
    order(driver, "close", 1)
    assert isinstance(driver.ask(make_work(x, StreamRef(id=2, is_start=True))), StreamAnswer)


def test_a_brought_stream_is_durable_and_orders_end_with_the_engine(
    make_driver, make_shaky, make_work, make_x, order, begun
):
    inner, found = MemoryStore(9), []
    driver = make_driver(make_shaky(inner, is_durable=True, is_shared=True))
    data = order(begun[0], "export", 7).data
    key = StreamKey("steps", 7)
    driver.engine.order(StreamOrder(kind="bring", model="steps", id=7, data=data), found.append)
    while not found:
        driver.woken.wait(0.01)
        driver.turn()
    assert inner.load(key).step == 1
    cancelled = driver.engine.order(StreamOrder(kind="show", model="steps", id=7), found.append)
    driver.engine.cancel(cancelled)
    driver.engine.order(StreamOrder(kind="show", model="steps", id=7), found.append)
    driver.engine.close()

    assert [type(outcome) for outcome in found[1:]] == [NotReady]
