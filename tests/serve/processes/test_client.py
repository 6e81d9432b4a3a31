"""The package's own client against a real server whose engine dies: nothing is lost, nothing is applied twice."""

import os
import signal
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from cellgate.client import Client, RetryPolicy
from cellgate.serve.listeners import base_url, bind_listener
from cellgate.serve.models.served_model import BundlePlace
from cellgate.serve.processes.supervisor import Supervisor
from cellgate.serve.settings import Settings

PATIENCE_S = 60
RETRY = RetryPolicy(attempts=100, first_pause_s=0.02, longest_pause_s=0.2)


@contextmanager
def serving(bundle, **changes):
    """A server of this bundle, in processes of its own; yields its supervisor and its URL."""
    listener = bind_listener("127.0.0.1", 0)
    settings = Settings(device="cpu", threads=1, shutdown_grace_s=10, **changes)
    supervisor, up = Supervisor([BundlePlace(bundle)], settings, listener), threading.Event()
    url = base_url(listener)
    thread = threading.Thread(target=supervisor.run, args=(lambda _hello: up.set(),))
    thread.start()
    try:
        assert up.wait(PATIENCE_S)
        yield supervisor, url
    finally:
        supervisor.stop()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@pytest.fixture
def x(make_network):
    return make_network("steps").feeds(1, 12, seed=3)["x"]


def test_rows_of_unequal_length_and_torch_are_answered_as_the_equations_say(bundle_paths, make_network):
    torch = pytest.importorskip("torch")
    network = make_network("steps")
    rows = [torch.from_numpy(network.feeds(1, T, seed=T)["x"][0]) for T in (5, 2)]
    zero = np.zeros((1, 1, 3), np.float32)
    expected = [network.compute({"x": row[None].numpy(), "h0": zero, "c0": zero})["y"][0] for row in rows]

    with serving(bundle_paths["steps"]) as (_, url), Client(url) as client:
        found = client.model("steps").infer(rows)

    for row, wanted in zip(found.rows("y"), expected, strict=True):
        assert isinstance(row, torch.Tensor)
        np.testing.assert_allclose(row.numpy(), wanted, rtol=0, atol=1e-5)


def test_a_stream_outlives_its_engine_bit_for_bit(bundle_paths, tmp_path, x):
    store = f"sqlite:{tmp_path / 'streams'}"
    with (
        serving(bundle_paths["steps"], stream_store=store) as (supervisor, url),
        Client(url, retry=RETRY) as client,
    ):
        model = client.model("steps")
        whole = model.infer(x)["y"]
        stream, parts = model.stream(), []
        for t in range(0, 12, 3):
            parts.append(stream.send(x[:, t : t + 3], end=t == 9)["y"])
            os.kill(supervisor.engine_pid, signal.SIGKILL)

    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    assert stream.step == 4


def test_a_stream_goes_on_in_another_server_after_this_one_has_stopped(bundle_paths, tmp_path, x):
    store = f"sqlite:{tmp_path / 'streams'}"
    with serving(bundle_paths["steps"], stream_store=store) as (_, url), Client(url, retry=RETRY) as client:
        whole = client.model("steps").infer(x)["y"]
        stream = client.model("steps").stream("mine")
        first = stream.send(x[:, :5])["y"]
    with serving(bundle_paths["steps"], stream_store=store) as (_, url), Client(url, retry=RETRY) as client:
        second = client.model("steps").stream("mine", step=stream.step).send(x[:, 5:], end=True)["y"]

    np.testing.assert_array_equal(np.concatenate([first, second], axis=1), whole)
