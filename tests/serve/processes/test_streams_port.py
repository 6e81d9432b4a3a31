"""Streams through the child's socket: steps, replays, errors with facts, and orders; frames that are none."""

import asyncio

import pytest

from cellgate.serve.engine.work import StreamAnswer, StreamOrder, StreamRef
from cellgate.serve.errors import EngineLost, NotReady
from cellgate.serve.processes import engine_child as child
from cellgate.serve.processes import engine_client
from cellgate.serve.processes.engine_client import EngineClient
from cellgate.serve.processes.frames import FrameError, Kind, id_of, json_of, mixed_of, pack_bare, pack_json, pack_mixed
from cellgate.serve.settings import Settings
from cellgate.serve.stream_errors import StepGap, StreamExists, UnknownStream
from cellgate.serve.streams.limits import StreamLimits

PATIENCE_S = 30


async def ask(port, work):
    done = asyncio.get_running_loop().create_future()
    port.submit(work, done.set_result)
    return await asyncio.wait_for(done, PATIENCE_S)


@pytest.fixture
def client_of(engine_child, engine_models):
    _, path = engine_child
    return EngineClient(path, Settings())


async def test_a_stream_through_the_child_has_steps_replays_and_facts(client_of, make_work):
    async with client_of.running(PATIENCE_S) as client:
        works = [
            make_work(fill=fill, stream=StreamRef(id="a ü", is_start=fill == 0, step=fill), outputs=("h_n", "y"))
            for fill in range(3)
        ]
        found = [await ask(client, work) for work in (works[0], works[0], works[1], works[2])]
        refused = await ask(client, works[0])
        early = await ask(client, make_work(stream=StreamRef(id="a ü", step=9)))

        assert [(answer.step, answer.is_replayed) for answer in found] == [
            (0, False),
            (0, True),
            (1, False),
            (2, False),
        ]
        assert list(found[0].outputs) == ["h_n", "y"]
        assert found[1].outputs["y"].tobytes() == found[0].outputs["y"].tobytes()
        assert (type(refused), refused.facts) == (StreamExists, {"expected_step": 3})
        assert (type(early), early.facts) == (StepGap, {"expected_step": 3})
        statistics = await client.statistics()
        assert statistics["streams"]["steps"]["live"] >= 1


async def test_orders_go_through_the_child(client_of, make_work):
    async with client_of.running(PATIENCE_S) as client:
        assert isinstance(await ask(client, make_work(stream=StreamRef(id=77, is_start=True))), StreamAnswer)
        shown = await client.order(StreamOrder(kind="show", model="steps", id=77))
        taken = await client.order(StreamOrder(kind="export", model="steps", id=77))
        brought = await client.order(StreamOrder(kind="bring", model="steps", id="77", data=taken.data))
        rest = [await ask(client, make_work(fill=2.0, stream=StreamRef(id=name))) for name in (77, "77")]

        assert shown.facts["sequence_step"] == brought.facts["sequence_step"] == 0
        assert rest[0].outputs["y"].tobytes() == rest[1].outputs["y"].tobytes()
        with pytest.raises(UnknownStream):
            await client.order(StreamOrder(kind="show", model="steps", id=78))
        assert (await client.order(StreamOrder(kind="close", model="steps", id=77))).facts["ended"] == "closed"
    with pytest.raises(NotReady):
        await client.order(StreamOrder(kind="show", model="steps", id=77))


class Ordered:
    """Takes orders and answers none."""

    def __init__(self):
        self.orders, self.cancelled = [], []

    def order(self, order, on_done):
        self.orders.append((order, on_done))
        return order


@pytest.fixture
def ordered(make_engine):
    engine, found = make_engine(), Ordered()
    engine.cancel = found.cancelled.append
    return engine, found


def test_an_order_that_is_cancelled_or_left_behind_is_cancelled_in_the_engine(run_loop, connect_wire, ordered):
    engine, found = ordered
    with run_loop(engine, order=found.order) as (loop, path, thread):
        with connect_wire(path) as wire:
            assert wire.receive()[0] == Kind.HELLO
            for number in (1, 2):
                wire.send(pack_mixed(Kind.ORDER, number, ["show", "steps", number], b"x"))
            wire.send(pack_bare(Kind.CANCEL, 1))
            wire.ask()
            assert [order.id for order, _ in found.orders] == [1, 2]
            assert found.cancelled == [found.orders[0][0]]
            loop.stop()
            assert thread.is_alive()  # one is not answered
        thread.join(PATIENCE_S)
    assert found.cancelled == [order for order, _ in found.orders]


@pytest.mark.parametrize(
    "frame",
    [
        pack_mixed(Kind.ORDER, 1, ["odd", "steps", 1], b""),
        pack_mixed(Kind.ORDER, 1, ["show", "steps"], b""),
        pack_mixed(Kind.ORDER, 1, 5, b""),
        pack_mixed(Kind.ORDER, 1, ["show", 5, 1], b""),
        pack_mixed(Kind.ORDER, 1, ["show", "steps", 1.5], b""),
        pack_bare(Kind.ORDER, 1),
        pack_mixed(Kind.ORDER, 1, ["show", "steps", 1], b"") * 2,
    ],
    ids=["kind", "short", "number", "model", "id", "bare", "twice"],
)
def test_an_order_that_is_none_costs_its_connection(run_loop, connect_wire, ordered, frame):
    engine, found = ordered
    with run_loop(engine, order=found.order) as (_, path, _), connect_wire(path) as wire:
        wire.receive()
        wire.send(frame)
        assert wire.receive() is None


def test_an_engine_without_streams_and_one_that_stops_refuse_orders(
    run_loop, connect_wire, make_engine, make_work, codec
):
    engine = make_engine()
    engine.is_held = True
    with run_loop(engine) as (loop, path, _), connect_wire(path) as wire:
        wire.receive()
        wire.send(pack_mixed(Kind.ORDER, 1, ["show", "steps", 1], b""))
        assert json_of(wire.receive())[0] == "bad_input"
        wire.send(*codec.pack_work(2, make_work())[0])
        wire.ask()
        loop.stop()
        while (answer := ask_again(wire))[0] != "not_ready":
            assert answer[0] == "bad_input"  # the word to stop is still on its way
        engine.is_held = False


def ask_again(wire):
    wire.send(pack_mixed(Kind.ORDER, 3, ["show", "steps", 1], b""))
    return json_of(wire.receive())


def test_a_mixed_frame_survives_the_way_and_others_are_refused():
    frame = pack_mixed(Kind.REPORT, 9, {"a": 1}, b"data")[8:]

    assert (id_of(frame), mixed_of(frame)) == (9, ({"a": 1}, b"data"))
    for wrong, words in ((frame[:20], "head"), (frame[:28], "text: expected at most"), (frame[:24] + b"x" * 8, "JSON")):
        with pytest.raises(FrameError, match=words):
            mixed_of(wrong)


async def test_an_order_whose_engine_dies_is_told(tmp_path, served_models, hello_of):
    models = [served_models["steps"]]
    path = str(tmp_path / "engine")

    async def greet(reader, writer):
        server.close()  # the next one finds nobody
        writer.write(pack_json(Kind.HELLO, 0, hello_of(models)))
        await reader.read(1)
        writer.transport.abort()

    server = await asyncio.start_unix_server(greet, path)
    async with EngineClient(path, Settings()).running(PATIENCE_S) as client:
        with pytest.raises(EngineLost):
            await asyncio.wait_for(client.order(StreamOrder(kind="show", model="steps", id=1)), PATIENCE_S)


@pytest.mark.parametrize("changes", [{}, {"max_answer_elements": 1000}, {"max_waiting_bytes": 2**20}])
def test_a_record_of_a_stream_that_is_given_out_fits_into_a_frame_each_way(changes):
    settings = Settings(**changes)
    answer_bytes = engine_client._ELEMENT_BYTES * settings.max_answer_elements
    request_bytes = max(settings.max_waiting_bytes, child._GROWTH * settings.max_body_bytes)

    assert StreamLimits.of(settings).max_record_bytes == min(answer_bytes, request_bytes)
