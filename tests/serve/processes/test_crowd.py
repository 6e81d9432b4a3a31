"""Many who connect at once, one listener, and how many turns of the loop it takes until all of them are connected."""

import asyncio
import socket
from contextlib import ExitStack, asynccontextmanager
from functools import wraps

import pytest
import uvloop

from cellgate.serve.processes.crowd import Crowd

PATIENCE_S = 20
CLIENTS = 100


def on_uvloop(test):
    """Run a test on a loop of its own: the plugin's may be one that others began, and asyncio's takes whole crowds."""

    @wraps(test)
    def run(**fixtures):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(test(**fixtures))

    return run


class Connection(asyncio.Protocol):
    made = 0

    def __init__(self, greeting):
        self.greeting = greeting

    def connection_made(self, transport):
        type(self).made += 1
        transport.write(self.greeting)
        transport.close()


@asynccontextmanager
async def listening(listener, make):
    """Listen as uvicorn does."""
    server = await asyncio.get_running_loop().create_server(lambda: make(greeting=b"hello"), sock=listener)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()


async def turns_until(count):
    async with asyncio.timeout(PATIENCE_S):
        turns = 0
        while Connection.made < count:
            await asyncio.sleep(0)
            turns += 1
        return turns


async def turns_of(make, listener):
    """Connect a crowd before the loop looks; return the turns until all are connected, and what they were sent."""
    Connection.made = 0
    with ExitStack() as opened:
        listener.listen(2 * CLIENTS)
        clients = [opened.enter_context(socket.create_connection(listener.getsockname())) for _ in range(CLIENTS)]
        async with listening(listener, make):
            turns = await turns_until(CLIENTS)
            for client in clients:
                client.setblocking(False)
            said = [await asyncio.get_running_loop().sock_recv(client, 100) for client in clients]
    return turns, said


@pytest.fixture
def listeners():
    with ExitStack() as opened:

        def make():
            listener = opened.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            return listener

        yield make


@on_uvloop
async def test_a_crowd_is_connected_in_a_fraction_of_the_turns_that_it_takes_one_by_one(listeners):
    alone, said_alone = await turns_of(Connection, listeners())
    listener = listeners()
    together, said = await turns_of(Crowd(listener, Connection, None), listener)

    assert said == said_alone == [b"hello"] * CLIENTS
    assert together < alone / 4


@on_uvloop
async def test_who_comes_after_the_crowd_is_connected_too(listeners):
    listener = listeners()
    crowd = Crowd(listener, Connection, None)
    await turns_of(crowd, listener.dup())
    Connection.made = 0
    async with listening(listener, crowd):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        said = await reader.read()
        writer.close()

    assert (said, Connection.made) == (b"hello", 1)


@on_uvloop
async def test_a_connection_that_cannot_be_made_is_told_to_the_loop_and_costs_the_others_nothing(listeners):
    listener, told, made = listeners(), [], []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["exception"]))

    def make(greeting):
        made.append(greeting)
        if len(made) == 2:
            raise ArithmeticError
        return Connection(greeting)

    Connection.made = 0
    with ExitStack() as opened:
        listener.listen(2 * CLIENTS)
        for _ in range(3):
            opened.enter_context(socket.create_connection(listener.getsockname()))
        async with listening(listener, Crowd(listener, make, None)):
            await turns_until(2)

    assert [type(err) for err in told] == [ArithmeticError]


@on_uvloop
async def test_of_two_who_listen_neither_has_a_crowd_to_itself(listeners):
    listener, made = listeners(), {"one": 0, "other": 0}

    def counting(name):
        def make(greeting):
            made[name] += 1
            return Connection(greeting)

        return make

    Connection.made = 0
    with ExitStack() as opened:
        listener.listen(2 * CLIENTS)
        for _ in range(CLIENTS // 2):
            opened.enter_context(socket.create_connection(listener.getsockname()))
        sides = [opened.enter_context(listener.dup()) for _ in made]
        one, other = (Crowd(side, counting(name), None, len(made)) for side, name in zip(sides, made, strict=True))
        async with listening(sides[0], one), listening(sides[1], other):
            await turns_until(CLIENTS // 2)

    assert min(made.values()) > CLIENTS // 8
