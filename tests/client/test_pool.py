"""Connections that are kept for the next request."""

import asyncio

from cellgate.client.address import parse_address
from cellgate.client.pool import Pool

from .loads import Clock


async def test_an_idle_connection_is_used_again_unless_the_server_may_be_closing_it(serve_here):
    clock, told = Clock(), asyncio.Queue()

    class Owner:
        def on_open(self, connection):
            pool.live.add(connection)
            pool.keep(connection)

        def on_closed(self, connection):
            pool.forget(connection)
            told.put_nowait(connection)

    async with serve_here() as server, asyncio.timeout(20):
        pool = Pool(parse_address(server.url), Owner(), 2, clock)
        await pool.open_first(2)
        assert not pool.open_one()
        clock.now += 1.0
        used = pool.take_idle()
        pool.keep(used)
        assert pool.take_idle() is used
        clock.now += 3.0
        assert pool.take_idle() is None
        assert await told.get() is not used
        pool.close()
        assert await told.get() is used
        assert not pool.open_one()
