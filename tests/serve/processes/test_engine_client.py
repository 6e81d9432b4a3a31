"""The client's side of the connection to an engine: who is told what, from its hello to the connection's end."""

import asyncio
import random
from contextlib import suppress

import pytest

from cellgate.serve.engine.port import infer
from cellgate.serve.errors import EngineError, EngineLost, NotReady, QueueFull, UnknownModel
from cellgate.serve.processes.engine_client import EngineClient
from cellgate.serve.processes.frames import Kind, id_of, pack_bare, pack_json
from cellgate.serve.settings import Settings

from .hand_engine import PATIENCE_S, turns


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
            assert (link.pending, link._pending_bytes) == (0, 0)
        async with client.running(PATIENCE_S):
            while (found := await client.statistics())["frontends"]["connected"] > 1:
                pass

    assert {"inside": found["inside"], **found["frontends"]} == {"connected": 1, "inside": 0, "unsent_bytes": 0}
    assert 0 < len(done) < 10_000
