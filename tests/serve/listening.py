"""A server that listens, in a thread of the test's own process: for clients that need a real socket."""

import threading
from contextlib import contextmanager

import uvicorn

from cellgate.serve.app import create_app
from cellgate.serve.processes.frontend import uvicorn_config
from cellgate.serve.settings import Settings

PATIENCE_S = 30


class Server(uvicorn.Server):
    """Says when it has started."""

    def __init__(self, config):
        super().__init__(config)
        self.has_started = threading.Event()

    async def startup(self, sockets=None):
        await super().startup(sockets)
        self.has_started.set()


@contextmanager
def listening(models, engine, tracer=None, **changes):
    """Serve in another thread as `cellgate serve` does, with these settings changed; yield "host:port"."""
    settings = Settings(port=0, **changes)
    config = uvicorn_config(create_app(models, settings, engine, tracer=tracer), settings)
    config.port = 0
    server = Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert server.has_started.wait(PATIENCE_S)
        yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
