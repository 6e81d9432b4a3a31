"""ModelStreamInfer: answers as they come, errors in the stream, nothing left behind."""

import asyncio
import json
import logging

import grpc
import numpy as np
import pytest
from anyio import wait_all_tasks_blocked

from cellgate.serve.errors import EngineLost
from cellgate.serve.observe.counter_layout import PROTOCOLS, REQUESTS, STATUSES
from cellgate.serve.rpc import infer_stream
from cellgate.serve.rpc import inference_pb2 as messages
from cellgate.serve.rpc.server import stop

END = grpc.aio.EOF


async def read(stream):
    found = await stream.read()
    return found if found is END else messages.ModelStreamInferResponse.FromString(found)


async def test_answers_come_in_the_order_in_which_the_work_is_done(open_asker, make_message, make_manual_port):
    port = make_manual_port()
    async with open_asker(port) as asker:
        stream = asker.stream()
        for name in ("first", "second"):
            await stream.write(make_message(id=name).SerializeToString())
        first, _ = await port.next_work()
        while len(port.waiting) < 2:
            await asker.call(b"", "ServerLive")
        port.answer(first + 1)
        answers = [await read(stream)]
        port.answer(first)
        answers.append(await read(stream))
        await stream.done_writing()

        assert [answer.infer_response.id for answer in answers] == ["second", "first"]
        assert all(answer.infer_response.parameters["triton_final_response"].bool_param for answer in answers)
        assert await read(stream) is END
        assert await stream.code() is grpc.StatusCode.OK


async def test_work_is_handed_over_in_the_order_of_the_requests(open_asker, make_message, make_manual_port):
    port = make_manual_port()
    async with open_asker(port) as asker:
        stream = asker.stream()
        for rows in (3, 1, 2):
            message = make_message({"x": np.ones((rows, 2, 2), np.float32)})
            await stream.write(message.SerializeToString())
        while len(port.waiting) < 3:
            await asker.call(b"", "ServerLive")
        rows = [work.rows for work, _ in port.waiting.values()]
        stream.cancel()

    assert rows == [3, 1, 2]


async def test_an_error_of_the_engine_stands_in_the_stream_with_its_facts(open_asker, make_message, make_manual_port):
    port = make_manual_port()
    async with open_asker(port) as asker:
        stream = asker.stream()
        await stream.write(make_message(id="lost").SerializeToString())
        ticket, _ = await port.next_work()
        port.answer(ticket, EngineLost())
        failed = await read(stream)
        await stream.write(make_message(id="again").SerializeToString())
        ticket, _ = await port.next_work()
        port.answer(ticket)
        again = await read(stream)
        stream.cancel()

    facts = failed.infer_response.parameters
    assert failed.error_message == str(EngineLost())
    assert failed.infer_response.id == "lost"
    assert facts["grpc_status"].string_param == "UNAVAILABLE"
    assert facts["error_code"].string_param == "engine_lost"
    assert facts["retry_after"].string_param == "1"
    assert again.infer_response.id == "again"


async def test_an_answer_that_is_not_finite_is_a_fault_in_the_stream(
    open_asker, make_message, make_manual_port, caplog
):
    port = make_manual_port()
    async with open_asker(port) as asker:
        stream = asker.stream()
        await stream.write(make_message().SerializeToString())
        ticket, _ = await port.next_work()
        port.answer(ticket, {"y": np.full((1, 2, 4), np.nan, np.float32)})
        failed = await read(stream)
        stream.cancel()

    assert failed.infer_response.parameters["grpc_status"].string_param == "INTERNAL"
    assert failed.infer_response.parameters["request_id"].string_param in caplog.text


async def test_a_cancelled_stream_leaves_no_work_behind(open_asker, make_message, make_manual_port):
    port = make_manual_port()
    async with open_asker(port) as asker:
        stream = asker.stream()
        for _ in range(3):
            await stream.write(make_message().SerializeToString())
        while len(port.waiting) < 3:
            await asker.call(b"", "ServerLive")
        tickets = set(port.waiting)
        stream.cancel()
        async with asyncio.timeout(30):
            while port.waiting:
                await asker.call(b"", "ServerLive")
        assert not asker.service._streams

    assert set(port.cancelled) == tickets


async def test_what_a_client_leaves_behind_is_counted_and_told_as_left(
    open_asker, make_message, make_manual_port, caplog
):
    caplog.set_level(logging.INFO, logger="cellgate.access")
    port = make_manual_port()
    async with open_asker(port, access_log=True) as asker:
        stream = asker.stream()
        for _ in range(3):
            await stream.write(make_message().SerializeToString())
        while len(port.waiting) < 3:
            await asker.call(b"", "ServerLive")
        port.answer(next(iter(port.waiting)))
        await read(stream)
        stream.cancel()
        async with asyncio.timeout(30):
            while asker.service._streams:
                await asker.call(b"", "ServerLive")
        page, layout = asker.serving.counters.own, asker.serving.counters.own.layout
        at = layout.place(REQUESTS, 1, PROTOCOLS.index("grpc"), STATUSES.index(499))

    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "cellgate.access"]
    told = [(line["status"], line["grpc_status"]) for line in lines if line["method"] == "ModelStreamInfer"]
    assert sorted(told) == [(200, "OK"), (499, "CANCELLED"), (499, "CANCELLED")]
    assert page.cells[at] == 2


async def test_who_does_not_read_is_not_read_from(open_asker, make_message, make_manual_port, monkeypatch):
    monkeypatch.setattr(infer_stream, "_UNDER_WAY", 4)
    port = make_manual_port()
    async with open_asker(port) as asker:
        stream = asker.stream()
        for _ in range(10):
            await stream.write(make_message().SerializeToString())
        while len(port.waiting) < 4:
            await asker.call(b"", "ServerLive")
        await asker.call(b"", "ServerLive")
        most = len(port.waiting)
        for _ in range(10):
            ticket, _ = await port.next_work()
            most = max(most, len(port.waiting))
            port.answer(ticket)
            assert not (await read(stream)).error_message
        stream.cancel()

    assert most == 4


async def test_a_stopping_server_answers_what_it_has_read_and_ends_the_stream(
    open_asker, make_message, make_manual_port
):
    port = make_manual_port()
    async with open_asker(port) as asker:
        stream = asker.stream()
        await stream.write(make_message(id="accepted").SerializeToString())
        alone = asker.call(make_message(id="alone"))
        while len(port.waiting) < 2:
            await asker.call(b"", "ServerLive")
        stopping = asyncio.ensure_future(stop(asker.server, asker.service, asker.serving))
        late = await asker.refusal(make_message())
        late_stream = asker.stream()
        still_live = await asker.call(b"", "ServerLive")
        for ticket in list(port.waiting):
            port.answer(ticket)
        answer = await read(stream)

        assert late.code() is await late_stream.code() is grpc.StatusCode.UNAVAILABLE
        assert dict(late.trailing_metadata())["retry-after"] == "1"
        assert still_live
        assert messages.ModelInferResponse.FromString(await alone).id == "alone"
        assert answer.infer_response.id == "accepted"
        assert await stream.code() is grpc.StatusCode.UNAVAILABLE
        assert "expected it ready" in await stream.details()
        await stopping


async def test_who_asks_on_and_on_while_a_server_stops_is_never_told_that_a_call_was_cancelled(
    open_asker, make_message
):
    async with open_asker() as asker:
        answered = asyncio.Semaphore(0)

        async def ask_on():
            while True:
                try:
                    await asker.call(make_message())
                    answered.release()
                except grpc.aio.AioRpcError as err:
                    if "error-code" not in dict(err.trailing_metadata() or ()):
                        return err.code()

        clients = [asyncio.ensure_future(ask_on()) for _ in range(8)]
        for _ in range(50):
            await answered.acquire()
        await stop(asker.server, asker.service, asker.serving)

        assert await asyncio.gather(*clients) == [grpc.StatusCode.UNAVAILABLE] * 8


async def test_a_stopping_server_does_not_wait_for_ever(open_asker, make_message, make_manual_port):
    port = make_manual_port()
    async with open_asker(port, shutdown_grace_s=0.0) as asker:
        call = asker.call(make_message())
        await port.next_work()
        await stop(asker.server, asker.service, asker.serving)
        with pytest.raises(grpc.aio.AioRpcError):
            await call
        await wait_all_tasks_blocked()

    assert len(port.cancelled) == 1


async def test_chunks_of_a_sequence_give_what_the_whole_gives(open_asker, make_message, read_message, make_network):
    network = make_network("steps")
    feeds = network.feeds(1, 6, seed=3)
    expected = network.compute(feeds)["y"]
    async with open_asker() as asker:
        stream, state, found = asker.stream(), {"h0": feeds["h0"], "c0": feeds["c0"]}, []
        for start in (0, 2, 4):
            part = {"x": np.ascontiguousarray(feeds["x"][:, start : start + 2]), **state}
            await stream.write(make_message(part, outputs=("y", "h_n", "c_n")).SerializeToString())
            outputs = read_message((await read(stream)).infer_response)
            state = {"h0": outputs["h_n"], "c0": outputs["c_n"]}
            found.append(outputs["y"])
        await stream.done_writing()
        assert await read(stream) is END

    np.testing.assert_allclose(np.concatenate(found, axis=1), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("body", [b"\xff", b""])
async def test_a_request_that_cannot_be_read_is_answered(open_asker, body):
    async with open_asker() as asker:
        stream = asker.stream()
        await stream.write(body)
        failed = await read(stream)
        await stream.done_writing()
        assert await read(stream) is END

    assert failed.error_message
