"""Records that are none, or of another model: who is told, and how a stream goes on from there."""

import pytest

from cellgate.serve.engine.work import StreamOrder, StreamRef
from cellgate.serve.stream_errors import StreamDamaged, StreamEnded
from cellgate.serve.streams.memory_store import MemoryStore
from cellgate.serve.streams.record import StreamKey
from cellgate.serve.streams.record_bytes import RecordError
from cellgate.serve.streams.store import DamagedRecordError, Write


@pytest.fixture
def damaged(make_durable, make_work, make_x):
    """A server that begins with two streams on the disk; the record of stream 1 is damaged there."""
    inner, x = MemoryStore(1000), make_x(4)
    before = make_durable(inner)
    for name in (1, 2):
        before.ask(make_work(x, StreamRef(id=name, is_start=True, step=0)))
    driver, revision = make_durable(inner), inner.load(StreamKey("steps", 1)).revision

    def read(key):
        record = inner.load(key)
        if record is not None and record.revision == revision:
            raise DamagedRecordError(revision, RecordError("checksum", "a", "b"))

    driver.store.reading = read
    return driver


@pytest.mark.parametrize(
    "ref", [StreamRef(id=1), StreamRef(id=1, step=1), StreamRef(id=1, is_start=True, step=0)], ids=str
)
def test_a_damaged_record_is_told_to_who_goes_on_with_its_stream_and_to_nobody_else(
    damaged, make_work, make_x, caplog, ref
):
    found = damaged.ask(make_work(make_x(4), ref))
    assert isinstance(found, StreamDamaged)
    assert str(found) == (
        "store of streams: of 1 expected its record, found it damaged; end the stream with DELETE, or start it again "
        "without sequence_step"
    )
    assert damaged.ask(make_work(make_x(4), StreamRef(id=2, step=1))).step == 1
    assert "a stream of model steps is damaged: record of a stream: checksum" in caplog.text


def give_order(driver, kind):
    found = []
    driver.engine.order(StreamOrder(kind=kind, model="steps", id=1), found.append)
    while not found:
        driver.turn()
        driver.woken.wait(0.001)
    return found[0]


def test_a_damaged_stream_can_be_closed_and_is_shown_to_be_damaged_until_then(damaged, make_work, make_x):
    assert isinstance(give_order(damaged, "show"), StreamDamaged)
    assert isinstance(give_order(damaged, "export"), StreamDamaged)
    assert give_order(damaged, "close").facts["ended"] == "closed"
    assert isinstance(give_order(damaged, "close"), StreamEnded)

    assert isinstance(damaged.ask(make_work(make_x(4), StreamRef(id=1))), StreamEnded)


def test_a_damaged_stream_can_be_started_again(damaged, make_work, make_x):
    assert damaged.ask(make_work(make_x(4), StreamRef(id=1, is_start=True))).step == 0
    assert damaged.ask(make_work(make_x(4), StreamRef(id=1, step=1))).step == 1


def test_states_of_another_model_are_never_fed(make_durable, make_work, make_x, make_record):
    inner, x = MemoryStore(9), make_x(4)
    driver = make_durable(inner)
    digest = driver.engine.models[0].served.digest
    record = make_record(4, rows=1, digest=digest, touched_s=driver.wall.now)
    record = type(record)(**{**{name: getattr(record, name) for name in record.__slots__}, "states": record.states[:1]})
    inner.commit([Write(key=StreamKey("steps", 1), expected=None, record=record, expires_s=1e12, keep_until_s=1e12)])

    assert "expected the states of the model" in str(driver.ask(make_work(x, StreamRef(id=1))))
