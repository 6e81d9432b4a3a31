"""Live connections over an engine that does what the test says, their clients in memory."""

import asyncio
import json
from contextlib import asynccontextmanager

import anyio
import numpy as np
import pytest

from cellgate.serve.errors import EngineLost, QueueFull
from cellgate.serve.gate.admission import Admission, AdmissionRules
from cellgate.serve.models.model_table import ModelTable
from cellgate.serve.observe.counter_layout import CODES, PROTOCOLS, REQUESTS
from cellgate.serve.observe.counter_page import Counters
from cellgate.serve.observe.request_meter import RequestMeters
from cellgate.serve.observe.request_watch import watch_requests
from cellgate.serve.routes import live_connection
from cellgate.serve.routes.live_connection import LiveConnection
from cellgate.serve.serving_state import ServingState
from cellgate.serve.settings import Settings
from cellgate.serve.work_queue import WorkQueue

PATIENCE_S = 30


class Client:
    """The other end of a connection, in memory."""

    def __init__(self):
        self.sent, self.answers = asyncio.Queue(), asyncio.Queue()
        self.is_gone = False

    async def receive(self):
        return await self.sent.get()

    async def send(self, message):
        if self.is_gone:
            raise ConnectionError
        self.answers.put_nowait(message)


def parts_of(models, port):
    """The state of an application, and what reads and counts the requests for "steps"."""
    counters = Counters.alone([model.name for model in models.values()])
    serving = ServingState(
        table=ModelTable(list(models.values())),
        settings=Settings(),
        engine=port,
        admission=Admission(AdmissionRules()),
        counters=counters,
    )
    return serving, lambda: serving.reader_of(models["steps"]), RequestMeters(counters.own, "websocket").of("steps")


def counts_of(counters):
    """Return how many messages for "steps" ended with each status."""
    page, layout = counters.own, counters.own.layout
    number = PROTOCOLS.index("websocket")
    places = {code: layout.place(REQUESTS, layout.model("steps"), number, at) for at, code in enumerate(CODES)}
    return {code: page.cells[place] for code, place in places.items() if page.cells[place]}


@pytest.fixture
def live(served_models, make_manual_port):
    """A connection to the network "steps" that runs; yields its client and the engine behind it."""

    @asynccontextmanager
    async def open_one(refusal=None):
        port = make_manual_port(refusal)
        serving, reader, meter = parts_of(served_models, port)
        serving.queue = WorkQueue(1, 8)
        client = Client()
        client.counters = serving.counters
        connection = LiveConnection(serving, reader, meter, client.receive, client.send, (ConnectionError,))
        client.connection, client.serving = connection, serving
        task = client.task = asyncio.create_task(connection.run())
        with anyio.fail_after(PATIENCE_S):
            yield client, port
            client.sent.put_nowait(None)
            await task

    return open_one


async def test_answers_come_in_the_order_of_the_questions(live, message):
    async with live() as (client, port):
        for name in ("a", "b"):
            client.sent.put_nowait(message(id=name))
        while len(port.waiting) < 2:
            await anyio.wait_all_tasks_blocked()
        for ticket in sorted(port.waiting, reverse=True):
            port.answer(ticket)

        found = [json.loads(await client.answers.get())["id"] for _ in range(2)]

    assert found == ["a", "b"]


async def test_a_bad_message_gets_an_error_in_its_place_and_the_next_one_its_answer(live, message):
    async with live() as (client, port):
        client.sent.put_nowait("{")
        client.sent.put_nowait(message())
        ticket, _ = await port.next_work()
        port.answer(ticket)

        found = [json.loads(await client.answers.get()) for _ in range(2)]

    assert found[0]["code"] == "bad_input"
    assert found[1]["model_name"] == "steps"


@pytest.mark.parametrize("refusal", [QueueFull(3), EngineLost()], ids=lambda refusal: refusal.code)
async def test_what_the_engine_refuses_is_told_as_a_message(live, message, refusal):
    async with live(refusal) as (client, _):
        client.sent.put_nowait(message())

        found = json.loads(await client.answers.get())

    assert found == {"error": str(refusal), "code": refusal.code}


async def test_an_outcome_that_is_no_answer_is_a_fault_without_internals(live, message, caplog):
    async with live() as (client, port):
        client.sent.put_nowait(message())
        ticket, _ = await port.next_work()
        port.answer(ticket, {"y": "secret"})

        found = json.loads(await client.answers.get())

    assert found["code"] == "internal"
    assert "secret" not in found["error"]


async def test_a_fault_before_the_engine_is_told_in_its_place_and_the_connection_goes_on(live, message, caplog):
    async with live(ValueError("secret")) as (client, _):
        found = []
        for _ in range(2):
            client.sent.put_nowait(message())
            found.append(json.loads(await client.answers.get()))

    assert [answer["code"] for answer in found] == ["internal", "internal"]
    assert "secret" not in str(found)
    assert caplog.text.count("ValueError: secret") == 2


async def test_who_goes_away_leaves_no_work_behind(live, message):
    async with live() as (client, port):
        for _ in range(3):
            client.sent.put_nowait(message())
        while len(port.waiting) < 3:
            await anyio.wait_all_tasks_blocked()

    assert sorted(port.cancelled) == [1, 2, 3]


def watched_connection(served_models, port, client):
    """Return a connection whose messages are counted and logged, and the state that counts."""
    serving, reader, meter = parts_of(served_models, port)
    serving.settings, serving.queue = Settings(access_log=True), WorkQueue(1, 8)
    watch = watch_requests(
        serving, protocol="websocket", method="GET", path="/", headers=[], model=served_models["steps"], request_id="c"
    )
    return LiveConnection(serving, reader, meter, client.receive, client.send, watch=watch), serving


async def test_what_a_client_leaves_behind_is_counted_and_logged_as_left(
    served_models, make_manual_port, message, caplog
):
    """One is answered, one refused, two are left; what was answered is not told of twice."""
    port, client = make_manual_port(), Client()
    connection, serving = watched_connection(served_models, port, client)
    task = asyncio.create_task(connection.run())
    with anyio.fail_after(PATIENCE_S), caplog.at_level("INFO"):
        for text in (message(), "{", message(), message()):
            client.sent.put_nowait(text)
        while len(port.waiting) < 3:
            await anyio.wait_all_tasks_blocked()
        port.answer(min(port.waiting))
        for _ in range(2):
            await client.answers.get()
        client.sent.put_nowait(None)
        await task

    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "cellgate.access"]
    logged = [(line["request_id"], line["status"]) for line in lines]
    assert counts_of(serving.counters) == {"200": 1, "400": 1, "499": 2}
    assert (logged[:2], sorted(logged[2:])) == ([("c/1", 200), ("c/2", 400)], [("c/3", 499), ("c/4", 499)])


async def test_who_is_gone_when_the_answer_is_sent_ends_the_connection(live, message):
    async with live() as (client, port):
        client.is_gone = True
        client.sent.put_nowait(message())
        ticket, _ = await port.next_work()
        port.answer(ticket)
        await anyio.wait_all_tasks_blocked()

        assert client.answers.empty()


async def test_a_fault_of_the_connection_is_not_swallowed(served_models, make_manual_port):
    async def receive():
        raise KeyError

    with pytest.raises(KeyError):
        await LiveConnection(*parts_of(served_models, make_manual_port()), receive, receive).run()


async def test_every_message_is_counted_under_the_status_that_http_would_give(live, message):
    async with live() as (client, port):
        for text in ("{", message()):
            client.sent.put_nowait(text)
        ticket, _ = await port.next_work()
        port.answer(ticket)
        for _ in range(2):
            await client.answers.get()
        found = counts_of(client.counters)

    assert found == {"200": 1, "400": 1}


async def test_a_stop_answers_what_was_read_and_reads_no_more(live, message):
    async with live() as (client, port):
        for _ in range(2):
            client.sent.put_nowait(message())
        while len(port.waiting) < 2:
            await anyio.wait_all_tasks_blocked()
        for connection in client.serving.live:
            connection.stop()
        await anyio.wait_all_tasks_blocked()
        client.sent.put_nowait(message())
        for ticket in list(port.waiting):
            port.answer(ticket)
        await client.task

        assert client.answers.qsize() == 2
        assert client.sent.qsize() == 1
        assert client.serving.live == set()
        assert port.cancelled == []


async def test_a_connection_that_comes_while_the_server_stops_ends(live):
    async with live() as (client, _):
        client.serving.draining = True
        parts = client.serving, client.connection._find_reader, client.connection._meter
        await LiveConnection(*parts, client.receive, client.send).run()

        assert client.answers.empty()


async def test_a_client_that_goes_away_during_a_stop_ends_it(live, message):
    async with live() as (client, port):
        client.sent.put_nowait(message())
        ticket, _ = await port.next_work()
        client.connection.stop()
        client.is_gone = True
        port.answer(ticket)
        await client.task

        assert client.answers.empty()


async def test_only_so_many_are_under_way(live, message, monkeypatch):
    monkeypatch.setattr(live_connection, "MOST_UNDER_WAY", 2)
    async with live() as (client, port):
        for _ in range(5):
            client.sent.put_nowait(message())
        await anyio.wait_all_tasks_blocked()
        first = len(port.waiting)
        port.answer(min(port.waiting))
        await anyio.wait_all_tasks_blocked()

        assert (first, len(port.waiting), client.sent.qsize()) == (2, 2, 1)
        while port.waiting:
            port.answer(min(port.waiting))
            await anyio.wait_all_tasks_blocked()


async def test_a_long_message_is_read_and_answered_in_a_thread(live, make_request):
    x = np.random.default_rng(0).standard_normal((1, 20_000, 2)).astype(np.float32)
    async with live() as (client, port):
        client.sent.put_nowait(json.dumps(make_request({"x": x})))
        ticket, work = await port.next_work()
        port.answer(ticket)

        found = json.loads(await client.answers.get())

    assert work.steps == 20_000
    assert found["outputs"][0]["shape"] == [1, 20_000, 4]


async def test_a_fault_is_logged_under_the_message_s_own_name(served_models, make_manual_port, message, caplog):
    port, client = make_manual_port(), Client()
    connection, _ = watched_connection(served_models, port, client)
    task = asyncio.create_task(connection.run())
    with anyio.fail_after(PATIENCE_S):
        client.sent.put_nowait(message())
        ticket, _ = await port.next_work()
        port.answer(ticket, {"y": "secret"})
        found = json.loads(await client.answers.get())
        client.sent.put_nowait(None)
        await task

    assert found["request_id"] == "c/1"
    assert "request c/1 failed" in caplog.text
