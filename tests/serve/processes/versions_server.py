"""A server whose models come and go, in real processes, and what it answers with."""

import threading
from contextlib import contextmanager
from dataclasses import replace

import httpx
import numpy as np

from cellgate.serve.listeners import base_url, open_listeners
from cellgate.serve.processes.supervisor import Supervisor
from cellgate.serve.settings import Settings

PATIENCE_S = 60
X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 4, 2)
INFER = "/v2/models/steps/infer"
LOAD = "/v2/repository/models/steps/load"
UNLOAD = "/v2/repository/models/steps/unload"


def body_of(x, **parameters):
    tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
    return {"parameters": parameters, "inputs": [tensor]}


def y_of(answer):
    """Return the output and the version of an answer."""
    found = answer.json()
    (y,) = found["outputs"]
    return np.array(y["data"], np.float32).tobytes(), found["model_version"]


class Running:
    """A server: its supervisor, a client of its frontends and one of its control listener."""

    def __init__(self, supervisor, held):
        self.supervisor, self.held, self.url = supervisor, held, base_url(held.http)
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE_S)
        self.control = httpx.Client(base_url=base_url(held.control), timeout=PATIENCE_S)

    def load(self, version=None):
        body = {} if version is None else {"parameters": {"version": version}}
        return self.control.post(LOAD, json=body)

    def infer(self, x=X, path=INFER, **parameters):
        return self.client.post(path, json=body_of(x, **parameters))

    def index(self):
        return {(entry["version"], entry["state"]) for entry in self.client.post("/v2/repository/index").json()}

    def infer_of_the_next(self):
        """Return the first answer of the next engine, which may take a moment to be missed and to be there."""
        while (answer := self.infer()).status_code == 503:
            pass
        return answer


@contextmanager
def serving(places, **settings):
    settings = Settings(**{"device": "cpu", "threads": 1, "port": 0, "control_port": 0, "grpc": False, **settings})
    with open_listeners(replace(settings, control=True)) as held, running_at(places, settings, held) as running:
        yield running


@contextmanager
def running_at(places, settings, held):
    supervisor = Supervisor(places, settings, held.http, held.rpc_address, held.orders)
    up, failures = threading.Event(), []

    def run():
        try:
            supervisor.run(lambda _hello: up.set())
        except Exception as err:  # noqa: BLE001 - the test looks at it
            failures.append(err)
        up.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert up.wait(PATIENCE_S)
        assert failures == []
        running = Running(supervisor, held)
        with running.client, running.control:
            yield running
    finally:
        supervisor.stop()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
