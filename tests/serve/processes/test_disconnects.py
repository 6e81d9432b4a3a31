"""Ten thousand clients go away at random moments, from a real server, and nothing of them is left."""

import asyncio
import json
import random
import threading

import anyio
import pytest

from cellgate.serve.listeners import bind_listener
from cellgate.serve.models.served_model import BundlePlace
from cellgate.serve.processes.engine_client import EngineClient
from cellgate.serve.processes.supervisor import Supervisor

pytestmark = [pytest.mark.long, pytest.mark.no_cover]

WAIT_S = 60.0
CLIENTS = 10_000
AT_ONCE = 50


async def go_away(port, request, moment):
    """Send a request, or a part of it, and leave before the answer, in it, or after it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request[: moment.choice([10, len(request) // 2, len(request) - 1, len(request), len(request)])])
        for _ in range(moment.choice([0, 0, 1, 3, 30])):
            await asyncio.sleep(0)  # a turn of the loop, not a time
        if moment.random() < 0.05:
            with anyio.move_on_after(0.001):
                await reader.read(moment.choice([1, 100, 10_000]))
        writer.transport.abort()
    finally:
        writer.close()


async def leave_all(port, request):
    moment = random.Random(0)
    for _ in range(CLIENTS // AT_ONCE):
        await asyncio.gather(*(go_away(port, request, moment) for _ in range(AT_ONCE)), return_exceptions=True)


async def nothing_is_left(path, models, settings):
    """The engine's counts once they are zero; the last clients may still be noticed to be gone."""
    client = EngineClient(path, settings)
    async with client.running(WAIT_S):
        with anyio.fail_after(WAIT_S):
            while (found := await client.statistics())["requests"]["inside"]:
                await anyio.lowlevel.checkpoint()
    return found


@pytest.mark.slow
def test_ten_thousand_clients_that_go_away_leave_nothing(bundle_paths, engine_models, child_settings):
    place = BundlePlace(bundle_paths["steps"])
    model = next(model.served for model in engine_models if model.served.name == "steps")
    listener = bind_listener("127.0.0.1", 0)
    supervisor = Supervisor([place], child_settings, listener)
    is_up = threading.Event()
    thread = threading.Thread(target=lambda: supervisor.run(lambda _hello: is_up.set()))
    thread.start()
    try:
        assert is_up.wait(WAIT_S)
        body = json.dumps(model.example).encode()
        head = f"POST /v2/models/{model.name}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        asyncio.run(leave_all(listener.getsockname()[1], head.encode() + body))

        found = asyncio.run(nothing_is_left(supervisor.engine_path, [model], child_settings))
    finally:
        supervisor.stop()
        thread.join(WAIT_S)

    assert found["requests"]["inside_bytes"] == 0
    assert found["requests"]["accepted"] > CLIENTS // 10
    assert found["frontends"]["inside"] == found["frontends"]["unsent_bytes"] == 0
    (queue,) = found["models"].values()
    assert (queue["lanes"], queue["slots"], queue["waiting_rows"]) == (0, 0, 0)
