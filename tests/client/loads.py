"""A clock that a test moves, and the running of a load."""

import asyncio

NEVER = 1e9


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


async def run(load, **more):
    async with asyncio.timeout(20):
        return await load.run(**more)
