"""The client's side of the connection: an engine by hand at the other end says whatever the test wants."""

import asyncio
import random
from contextlib import asynccontextmanager, suppress

import anyio
import numpy as np
import pytest

from cellgate.serve.engine.port import infer
from cellgate.serve.errors import EngineError, EngineLost, NotReady, QueueFull, QueueTooLong, UnknownModel
from cellgate.serve.processes import engine_link
from cellgate.serve.processes.engine_client import EngineClient
from cellgate.serve.processes.frames import FrameDecoder, Kind, id_of, pack_bare, pack_json
from cellgate.serve.processes.tensor_frames import join
from cellgate.serve.settings import Settings

PATIENCE_S = 30


class HandEngine:
    """One connection as an engine's process would hold it, but every frame is sent by the test."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self._decoder = FrameDecoder(2**26)
        self._frames = []
        self.taken = []

    async def receive(self):
        while not self._frames:
            chunk = await asyncio.wait_for(self.reader.read(2**16), PATIENCE_S)
            if not chunk:
                return None
            for frame in self._decoder.feed(chunk):
                (self.taken if frame[0] == Kind.TAKEN else self._frames).append(frame)
        return self._frames.pop(0)

    def send(self, *data):
        self.writer.write(b"".join(data))

    def close(self):
        self.writer.close()


@pytest.fixture
def models(served_models):
    return [served_models["steps"]]


@pytest.fixture
def hello(models, hello_of):
    return pack_json(Kind.HELLO, 0, hello_of(models))


@pytest.fixture
def answer(codec):
    """Make the ANSWER frame to a WORK frame: y is all `fill`."""

    def make(frame, fill=1.0):
        asked = codec.unpack_work(frame)
        shapes = {"y": (asked.work.rows, asked.work.steps, 4), "h_n": (1, asked.work.rows, 3)}
        full = {name: np.full(shapes[name], fill, np.float32) for name in asked.work.outputs}
        return join(codec.pack_answer(asked, full))

    return make


@pytest.fixture
def meet(models, tmp_path):
    """Open a client, and a queue with the connections that it makes."""

    @asynccontextmanager
    async def open_both(**settings):
        engines = asyncio.Queue()
        path = str(tmp_path / "engine")
        server = await asyncio.start_unix_server(lambda *streams: engines.put_nowait(HandEngine(*streams)), path)
        client = EngineClient(path, Settings(**settings))
        met = []

        async def next_engine(greeting=None):
            engine = await asyncio.wait_for(engines.get(), PATIENCE_S)
            met.append(engine)
            if greeting is not None:
                engine.send(greeting)
                await asyncio.wait_for(client.wait_ready(), PATIENCE_S)
            return engine

        try:
            async with client.running():
                yield client, next_engine
        finally:
            server.close()
            await turns()  # who is being accepted becomes a connection, which is to be closed
            while not engines.empty():
                met.append(engines.get_nowait())
            for engine in met:
                engine.close()
                with suppress(ConnectionError):
                    await engine.writer.wait_closed()

    return open_both


async def until(condition):
    with anyio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - nobody signals what a socket does
            await asyncio.sleep(0)


async def turns(count=10):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_there_is_an_engine_from_its_hello_to_the_connections_end(meet, hello, make_work):
    async with meet() as (client, next_engine):
        engine = await next_engine()
        with pytest.raises(NotReady):
            client.submit(make_work(), print)
        with pytest.raises(NotReady):
            await client.statistics()
        engine.send(hello)
        await asyncio.wait_for(client.wait_ready(), PATIENCE_S)
        was_ready = client.is_ready
        engine.close()
        await next_engine()

        assert was_ready
        assert not client.is_ready
        with pytest.raises(EngineLost):
            client.submit(make_work(), print)
        with pytest.raises(EngineLost):
            await client.statistics()
        client.cancel(1)  # nobody is there to tell


async def test_answers_come_in_any_order_and_with_the_outputs_in_the_order_asked_for(meet, hello, answer, make_work):
    async with meet() as (client, next_engine):
        engine = await next_engine(hello)
        first = asyncio.ensure_future(infer(client, make_work(outputs=("h_n", "y"))))
        second = asyncio.ensure_future(infer(client, make_work(steps=3)))
        frames = [await engine.receive(), await engine.receive()]
        engine.send(answer(frames[1], 2), answer(frames[0], 1))

        assert {name: array.flat[0] for name, array in (await second).items()} == {"y": 2}
        assert list(await first) == ["h_n", "y"]


async def test_errors_come_back_as_their_classes(meet, hello, make_work):
    async with meet() as (client, next_engine):
        engine = await next_engine(hello)
        for code, expected in (("queue_full", QueueFull), ("not_ready", NotReady), ("never heard", EngineError)):
            asked = asyncio.ensure_future(infer(client, make_work()))
            engine.send(pack_json(Kind.ERROR, id_of(await engine.receive()), [code, "the sentence"]))
            with pytest.raises(expected, match=r"^the sentence$"):
                await asked
        with pytest.raises(UnknownModel, match="expected one of steps version 3, found 'other'"):
            client.submit(make_work(model="other"), print)


async def test_more_than_may_wait_is_refused_at_once_in_number_and_in_bytes(meet, hello, answer, make_work):
    async with meet(max_waiting=3, max_waiting_bytes=2**20) as (client, next_engine):
        engine = await next_engine(hello)
        done = []
        client.submit(make_work(steps=2**17), done.append)  # larger than all that may wait, but alone
        with pytest.raises(QueueFull):
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


async def test_cancelled_work_is_told_once_and_its_answer_dropped(meet, hello, answer, make_work):
    async with meet() as (client, next_engine):
        engine = await next_engine(hello)
        done = []
        ticket = client.submit(make_work(), done.append)
        frame = await engine.receive()
        client.cancel(ticket)
        client.cancel(ticket)
        cancel = await engine.receive()
        engine.send(answer(frame), pack_json(Kind.ERROR, ticket, ["queue_full", "too late"]))
        other = asyncio.ensure_future(infer(client, make_work()))
        engine.send(answer(await engine.receive()))
        await other

        assert (cancel[0], id_of(cancel)) == (Kind.CANCEL, ticket)
        assert done == []


async def test_everything_under_way_is_told_once_when_the_engine_is_lost(meet, hello, answer, make_work):
    async with meet() as (client, next_engine):
        engine = await next_engine(hello)
        done = [[] for _ in range(5)]
        tickets = [client.submit(make_work(), outcomes.append) for outcomes in done]
        question = asyncio.ensure_future(client.statistics())
        client.cancel(tickets[0])
        frames = [await engine.receive() for _ in range(5)]
        engine.send(answer(frames[1]))
        while not done[1]:
            await turns(1)
        engine.close()
        with pytest.raises(EngineLost):
            await question
        second = await next_engine(hello)
        asked = asyncio.ensure_future(infer(client, make_work()))
        second.send(answer(await second.receive()))
        await asked

    assert [len(outcomes) for outcomes in done] == [0, 1, 1, 1, 1]
    assert all(isinstance(outcomes[0], EngineLost) for outcomes in done[2:])


async def test_the_end_of_the_client_tells_everybody(meet, hello, make_work):
    done = []
    async with meet() as (client, next_engine):
        await next_engine(hello)
        client.submit(make_work(), done.append)

    assert [type(outcome) for outcome in done] == [EngineLost]
    with pytest.raises(NotReady):
        client.submit(make_work(), done.append)


@pytest.mark.parametrize(
    "noise",
    [
        pytest.param(lambda _frame, _answer: pack_bare(Kind.WORK, 1), id="not-for-a-frontend"),
        pytest.param(lambda _frame, _answer: bytes(8), id="length-of-zero"),
        pytest.param(lambda frame, _answer: pack_bare(Kind.ANSWER, id_of(frame)), id="no-answer"),
        pytest.param(lambda frame, answer: answer[:10] + b"\x09" + answer[11:], id="no-such-model"),
        pytest.param(lambda frame, answer: answer[:24] + b"\x00" + answer[25:-32] + b"", id="other-outputs"),
    ],
)
async def test_an_engine_that_breaks_the_protocol_is_cut_off_and_everybody_told(
    meet, hello, answer, make_work, noise, caplog
):
    async with meet() as (client, next_engine):
        engine = await next_engine(hello)
        asked = asyncio.ensure_future(infer(client, make_work()))
        frame = await engine.receive()
        data = noise(frame, answer(frame))
        engine.send((len(data) - 8).to_bytes(8, "little") + data[8:] if data[0] else data)
        with pytest.raises(EngineLost):
            await asked

        assert "the engine broke the protocol and is cut off: frame: " in caplog.text


async def test_an_engine_of_another_protocol_is_none(meet, caplog):
    async with meet() as (client, next_engine):
        for greeting in ({"protocol": 99}, []):
            engine = await next_engine()
            engine.send(pack_json(Kind.HELLO, 0, greeting))
            assert await engine.receive() is None
            assert not client.is_ready
    assert "frame: hello: expected protocol 3" in caplog.text


async def test_where_nobody_listens_it_is_not_ready_and_keeps_trying(models, hello, tmp_path, caplog):
    client = EngineClient(str(tmp_path / "engine"), Settings())
    async with client.running():
        while "expected to reach the engine" not in caplog.text:
            await turns(1)
        assert not client.is_ready
        met = asyncio.Queue()

        def greet(_reader, writer):
            writer.write(hello)
            met.put_nowait(writer)

        server = await asyncio.start_unix_server(greet, str(tmp_path / "engine"))
        await asyncio.wait_for(client.wait_ready(), PATIENCE_S)
    server.close()
    writer = await met.get()
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def test_a_receiver_that_fails_costs_the_others_nothing(meet, hello, answer, make_work):
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context["exception"]))
    async with meet() as (client, next_engine):
        engine = await next_engine(hello)
        client.submit(make_work(), lambda _outcome: 1 / 0)
        asked = asyncio.ensure_future(infer(client, make_work()))
        engine.send(*[answer(await engine.receive()) for _ in range(2)])
        await asked

    assert [type(err) for err in reported] == [ZeroDivisionError]


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


async def test_ten_thousand_cancellations_and_disconnects_leave_nothing_behind(
    run_loop, make_engine, models, hello_of, make_work
):
    chance, done = random.Random(3), []
    with run_loop(make_engine(), hello_of(models)) as (_, path, _):
        for _ in range(20):
            client = EngineClient(path, Settings())
            async with client.running(PATIENCE_S):
                tickets = []
                for _ in range(500):
                    tickets.append(client.submit(make_work(steps=chance.randint(1, 9)), done.append))
                    if chance.random() < 0.7:
                        client.cancel(tickets.pop(chance.randrange(len(tickets))))
                    if chance.random() < 0.1:
                        await turns(chance.randint(1, 3))
                link = client._link
            assert (link.pending, link.pending_bytes) == (0, 0)
        async with client.running(PATIENCE_S):
            while (found := await client.statistics())["frontends"]["connected"] > 1:
                pass

    assert {"inside": found["inside"], **found["frontends"]} == {"connected": 1, "inside": 0, "unsent_bytes": 0}
    assert 0 < len(done) < 10_000
