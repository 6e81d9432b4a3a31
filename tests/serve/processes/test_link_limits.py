"""What may be on its way to an engine, and what is refused at once: how many, how large, how late."""

import asyncio

import pytest

from cellgate.serve.engine.work import StreamOrder
from cellgate.serve.errors import QueueFull, QueueTooLong
from cellgate.serve.processes import engine_link
from cellgate.serve.processes.frames import FrameDecoder, Kind, id_of, pack_json, pack_mixed

from .hand_engine import turns, until


async def test_more_than_may_wait_is_refused_at_once_in_number_and_in_bytes(meet, hello, answer, make_work):
    async with meet(max_waiting=3, max_waiting_bytes=2**20) as (client, next_engine):
        engine = await next_engine(hello)
        done = []
        client.submit(make_work(steps=2**17), done.append)  # larger than all that may wait, but alone
        with pytest.raises(QueueFull, match="at most 1048576 bytes in the tensors of waiting requests"):
            client.submit(make_work(), done.append)
        engine.send(answer(await engine.receive()))
        while not done:
            await turns(1)
        tickets = [client.submit(make_work(), done.append) for _ in range(3)]
        with pytest.raises(QueueFull):
            client.submit(make_work(), done.append)
        client.cancel(tickets[0])
        client.submit(make_work(), done.append)

        assert len(done) == 1


async def test_what_is_no_answer_may_be_longer_than_the_longest_answer(meet, hello):
    async with meet(max_answer_elements=1) as (client, next_engine):
        engine = await next_engine(hello)
        asked = asyncio.ensure_future(client.order(StreamOrder(kind="export", model="steps", id=7)))
        engine.send(pack_mixed(Kind.REPORT, id_of(await engine.receive()), {}, bytes(2**20)))

        assert len((await asked).data) == 2**20


async def test_an_engine_that_does_not_read_gets_no_more(meet, hello, make_work):
    async with meet(max_waiting_bytes=2**20) as (client, next_engine):
        engine = await next_engine(hello)
        engine.writer.transport.pause_reading()
        for _ in range(100):
            client.cancel(client.submit(make_work(steps=2**16), print))
            try:
                await turns(2)
                client.submit(make_work(), print)
            except QueueFull:
                break
        else:
            pytest.fail("it was never full")
        engine.writer.transport.resume_reading()
        while await engine.receive():
            try:
                client.submit(make_work(), print)
                break
            except QueueFull:
                pass
        else:
            pytest.fail("it stayed full")


async def test_frames_of_one_turn_go_out_in_one_write(meet, hello, make_work, monkeypatch):
    async with meet() as (client, next_engine):
        await next_engine(hello)
        writes = []
        outbox = client._link._writer._outbox
        sock = outbox._socket
        spy = type("Spy", (), {"send": staticmethod(lambda data: writes.append(bytes(data)) or len(data))})
        monkeypatch.setattr(outbox, "_socket", spy)
        for _ in range(5):
            client.submit(make_work(), print)
        await turns(2)
        monkeypatch.setattr(outbox, "_socket", sock)

        assert len(FrameDecoder(2**20).feed(b"".join(writes))) == 5
        assert len(writes) == 1


async def test_work_that_the_queue_would_make_late_is_refused_at_once(meet, hello, answer, make_work, monkeypatch):
    now = 0.0
    monkeypatch.setattr(engine_link, "monotonic", lambda: float(now))
    async with meet(max_lanes=1) as (client, next_engine):
        engine = await next_engine(hello)
        for _ in range(3):
            client.submit(make_work(), print)
        frames = [await engine.receive() for _ in range(3)]
        now = 2.0  # one that left in two seconds, and two that are there, of whom one is in its lane
        engine.send(answer(frames[0]))
        await until(lambda: client._link.pending == 2)
        with pytest.raises(QueueTooLong, match="expected about 2 s or more, for so long is the queue, found 1 s"):
            client.submit(make_work(deadline_s=3.0), print)
        client.submit(make_work(deadline_s=4.5), print)  # in time
        client.submit(make_work(deadline_s=3.0, priority=1), print)  # goes ahead of others
        client.submit(make_work(deadline_s=1.0), print)  # late already, which the engine says

        assert client._link.pending == 5
        assert QueueTooLong(2, 1).code == QueueFull(1).code == "queue_full"


async def test_a_refusal_sends_on_what_waits_to_be_sent(meet, hello, make_work):
    async with meet(max_waiting=2) as (client, next_engine):
        engine = await next_engine(hello)
        for _ in range(2):
            client.submit(make_work(), print)
        assert not client.has_room()  # in the same turn of the loop

        assert client._link._writer._out == []
        assert client._link._writer.unsent_bytes == 0
        assert [(await engine.receive())[0] for _ in range(2)] == [Kind.WORK] * 2


async def test_while_others_fill_the_engine_no_more_is_sent_to_it_than_leaves_it(
    meet, hello, answer, make_work, monkeypatch
):
    now = 0.0
    monkeypatch.setattr(engine_link, "monotonic", lambda: float(now))
    async with meet(max_waiting=4) as (client, next_engine):
        engine, done = await next_engine(hello), []
        for _ in range(3):
            client.submit(make_work(), done.append)
        frames = [await engine.receive() for _ in range(3)]
        engine.send(pack_json(Kind.ERROR, id_of(frames[2]), ["queue_full", "the sentence"]))
        await until(lambda: len(done) == 1)
        found = [client.has_room()]
        with pytest.raises(QueueFull):
            client.submit(make_work(), done.append)
        engine.send(answer(frames[0]))
        await until(lambda: len(done) == 2)
        found.append(client.has_room())
        client.submit(make_work(), done.append)
        found.append(client.has_room())
        now = 1.0
        found.append(client.has_room())

    assert found == [False, True, False, True]
