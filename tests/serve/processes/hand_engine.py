"""An engine by hand at the other end of a client's connection: it says whatever the test wants."""

import asyncio
from contextlib import asynccontextmanager, suppress

import anyio

from cellgate.serve.processes.engine_client import EngineClient
from cellgate.serve.processes.frames import FrameDecoder, Kind
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


async def until(condition):
    with anyio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - nobody signals what a socket does
            await asyncio.sleep(0)


async def turns(count=10):
    for _ in range(count):
        await asyncio.sleep(0)


@asynccontextmanager
async def meeting(path, **settings):
    """Open a client whose engine listens at the path; yield it, and what waits for its next connection."""
    engines = asyncio.Queue()
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
