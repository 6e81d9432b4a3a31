"""What the tests of the clients and of the load start from: a toy server, on the loop or beside it, and clients."""

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import pytest

from cellgate.client.address import parse_address
from cellgate.client.jobs import JobPlan, make_jobs
from cellgate.client.lengths import parse_lengths
from cellgate.client.load import Load
from cellgate.client.load_plan import LoadPlan
from cellgate.client.model_facts import facts_from_metadata

from .both_clients import opened
from .toy_model import Asked, metadata, read_infer, render, toy_model
from .toy_server import Server, respond


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="session")
def answer_bytes():
    return respond


@pytest.fixture(scope="session")
def toy_metadata():
    return metadata


@pytest.fixture(scope="session")
def parse_infer():
    """Take the raw bytes of a whole HTTP request apart."""

    def parse(raw):
        head, _, body = raw.partition(b"\r\n\r\n")
        start, *lines = head.decode().split("\r\n")
        method, path, version = start.split(" ")
        assert version == "HTTP/1.1"
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        assert int(headers["content-length"]) == len(body)
        return read_infer(Asked(method, path, headers, body))

    return parse


@pytest.fixture(scope="session")
def toy():
    """Compute and render the toy model's answer."""
    return lambda asked: (200, render(asked, toy_model(asked)))


@pytest.fixture(scope="session")
def serve_here():
    """A server on the running event loop."""

    @asynccontextmanager
    async def serve(infer=None, **changes):
        server = Server(infer, **changes)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()

    return serve


@pytest.fixture(scope="session")
def serve_aside():
    """A server in a thread, for what blocks."""

    @contextmanager
    def serve(infer=None, **changes):
        server, ready, loop = Server(infer, **changes), threading.Event(), asyncio.new_event_loop()

        def run():
            asyncio.set_event_loop(loop)
            loop.run_until_complete(server.start())
            ready.set()
            loop.run_forever()
            loop.run_until_complete(server.stop())
            loop.run_until_complete(loop.shutdown_asyncgens())
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()

        thread = threading.Thread(target=run)
        thread.start()
        assert ready.wait(10)
        try:
            yield server
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            assert not thread.is_alive()

    return serve


@pytest.fixture(params=["plain", "async"])
def open_client(request):
    """Open the plain client, or the async one with the plain one's face."""
    return partial(opened, request.param)


@pytest.fixture
def make_load(toy_metadata):
    def make(server, *, lengths="fixed:4", arrivals=None, clock=None, job=None, **plan):
        address = parse_address(server.url)
        facts = facts_from_metadata(toy_metadata(), [])
        jobs = make_jobs(address, facts, JobPlan(lengths=parse_lengths(lengths), **(job or {})))
        plan = {"connections": 4, "warm_up_s": 0.0, "seconds": 60.0, **plan}
        loop_clock = asyncio.get_running_loop().time
        return Load(address, jobs, LoadPlan(**plan), None if arrivals is None else iter(arrivals), clock or loop_clock)

    return make
