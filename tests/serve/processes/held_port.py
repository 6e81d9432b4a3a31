"""Ports over a real engine whose runs can be held up: in this process, or in a child."""

import asyncio
import os
import signal
import threading
from contextlib import asynccontextmanager

from cellgate.serve.engine.engine import Engine
from cellgate.serve.engine.engine_limits import EngineLimits
from cellgate.serve.engine.threaded import ThreadedEngine
from cellgate.serve.processes.engine_client import EngineClient

PATIENCE_S = 30


class Gate:
    """A runtime that waits while it is held."""

    def __init__(self, runtime):
        self._runtime = runtime
        self.open = threading.Event()
        self.open.set()

    def __getattr__(self, name):
        return getattr(self._runtime, name)

    def run(self, feeds):
        assert self.open.wait(PATIENCE_S)
        return self._runtime.run(feeds)

    def close(self):
        """The runtime is another's."""


class HeldPort:
    """A port, and how to hold up whatever runs behind it."""

    def __init__(self, port, hold, release):
        self.port, self.hold, self.release = port, hold, release


@asynccontextmanager
async def held_thread(engine_models, settings):
    """Over an engine in a thread of this process."""
    gates = [Gate(model.runtime) for model in engine_models]
    models = [type(model)(model.served, gate, model.cost) for model, gate in zip(engine_models, gates, strict=True)]
    engine = ThreadedEngine(Engine(models, EngineLimits.of(settings)))
    engine.start(asyncio.get_running_loop())

    def hold():
        for gate in gates:
            gate.open.clear()

    def release():
        for gate in gates:
            gate.open.set()

    try:
        yield HeldPort(engine, hold, release)
    finally:
        release()
        engine.close()


@asynccontextmanager
async def held_child(child, path, settings):
    """Over an engine in a process of its own, which listens at the path."""
    client = EngineClient(path, settings)
    async with client.running(PATIENCE_S):
        try:
            yield HeldPort(
                client, lambda: os.kill(child.pid, signal.SIGSTOP), lambda: os.kill(child.pid, signal.SIGCONT)
            )
        finally:
            os.kill(child.pid, signal.SIGCONT)
