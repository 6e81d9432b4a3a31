"""The plain client and the async one behind one face, so that tests ask the same of both."""

import asyncio
from contextlib import contextmanager

import numpy as np

from cellgate.client import AsyncClient, Client, RetryPolicy

X = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
QUICK = RetryPolicy(attempts=4, first_pause_s=0.0, longest_pause_s=0.0)


class Plain:
    """The async client with the plain one's face: every coroutine is run to its end."""

    def __init__(self, found, runner):
        self._found, self._runner = found, runner

    def __getattr__(self, name):
        value = getattr(self._found, name)
        if not callable(value):
            return value

        def call(*args, **named):
            result = value(*args, **named)
            result = self._runner.run(result) if asyncio.iscoroutine(result) else result
            return Plain(result, self._runner) if type(result).__name__ in ("AsyncModel", "AsyncStream") else result

        return call


@contextmanager
def opened(kind, url, **options):
    options = {"retry": QUICK, "timeout_s": 10.0, **options}
    if kind == "plain":
        with Client(url, **options) as client:
            yield client
        return
    with asyncio.Runner() as runner:
        client = AsyncClient(url, **options)
        assert runner.run(client.__aenter__()) is client
        try:
            yield Plain(client, runner)
        finally:
            runner.run(client.__aexit__(None, None, None))
