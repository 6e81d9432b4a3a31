"""Who waits for an engine in a thread, and a gate that holds up its runs."""

import asyncio
import threading

import anyio

WAIT_S = 5.0  # far more than anything here takes; only a failing test waits so long


class Gate:
    """Lets the engine's thread into a run only when told."""

    def __init__(self):
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, feeds):
        self.entered.set()
        assert self.opened.wait(WAIT_S)


class Breakable:
    """An engine of which methods can be replaced: those of a compiled one cannot."""

    def __init__(self, engine):
        self._engine = engine

    def __getattr__(self, name):
        return getattr(self._engine, name)


class Done:
    """What a waiter was told, and in which thread; can be awaited."""

    def __init__(self):
        self.outcomes = []
        self.threads = []
        self._event = asyncio.Event()

    def __call__(self, outcome):
        self.outcomes.append(outcome)
        self.threads.append(threading.get_ident())
        self._event.set()

    async def outcome(self):
        with anyio.fail_after(WAIT_S):
            await self._event.wait()
        return self.outcomes[0]


async def in_a_run(gate):
    await asyncio.get_running_loop().run_in_executor(None, gate.entered.wait, WAIT_S)


async def settle():
    """Let everything happen that is already on its way to the loop."""
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
