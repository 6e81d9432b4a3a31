"""Which server is asked, and by which wires: `pytest tests/protocol --url http://… --grpc host:port`.

Without `--url` the tests start a server of their own, with four small networks, on free ports.
"""

import os
import subprocess
import sys
from contextlib import contextmanager

import grpc
import httpx
import pytest

from .breach import give_up
from .model_facts import ModelFacts
from .rest_wire import RestWire
from .rpc_wire import RpcWire

PATIENCE_S = 60
WIRES = ("nested", "flat", "binary", "raw", "typed", "stream")
RPC_WIRES = ("raw", "typed", "stream")
OPTIONS = {
    "--url": "base address of the server to ask over HTTP, such as http://127.0.0.1:8000",
    "--grpc": "host:port of the same server for gRPC; left out with --url: no gRPC",
    "--models": "names of its models, with commas between; default: those of GET /v2/models",
}
# Kinds of the small networks: a value a step, a value a sequence, tokens instead of numbers, three steps at least.
KINDS = ("steps", "last", "tokens", "windows")


def pytest_addoption(parser):
    """Only where this folder is named on the command line: elsewhere the options are not known, and not given."""
    group = parser.getgroup("protocol", "the server that tests/protocol asks")
    for name, words in OPTIONS.items():
        group.addoption(name, help=words)


def option(config, name):
    return config.getoption(name, default=None)


@pytest.fixture(scope="session")
def target(request, tmp_path_factory):
    """Addresses of the server for HTTP and gRPC."""
    url = option(request.config, "--url")
    if url:
        yield url.rstrip("/"), option(request.config, "--grpc")
        return
    with own_server(tmp_path_factory.mktemp("protocol")) as found:
        yield found


@contextmanager
def own_server(folder):
    from tests.serve.small_network import Network  # needs onnx, which whoever asks another server may not have

    places = [str(Network(kind).write(folder / kind)) for kind in KINDS]
    words = ["serve", *places, "--port", "0", "--device", "cpu", "--threads", "1"]
    with subprocess.Popen(
        [sys.executable, "-m", "cellgate", *words], stdout=subprocess.PIPE, text=True, env={**os.environ}
    ) as process:
        try:
            found = {}
            for line in process.stdout:
                name, _, words = line.partition(":")
                found[name] = words.strip()
                if line.startswith("stop with"):
                    break
            assert "gRPC" in found, "the server did not start"
            yield found["OpenAPI page"].removesuffix("/docs"), found["gRPC"].split(",")[0]
        finally:
            process.terminate()
            assert process.wait(PATIENCE_S) == 0


@pytest.fixture(scope="session")
def http(target):
    with httpx.Client(base_url=target[0], timeout=PATIENCE_S) as client:
        reach(client)
        yield client


def reach(client):
    """End the run where nobody answers."""
    try:
        client.get("/v2/health/live")
    except httpx.HTTPError as err:
        give_up(f"--url {client.base_url}", "a server", str(err), "start it, or name another")


@pytest.fixture(scope="session")
def channel(target):
    if target[1] is None:
        pytest.skip("--grpc: no address was given")
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(target[1], options=options) as channel:
        try:
            grpc.channel_ready_future(channel).result(PATIENCE_S)
        except grpc.FutureTimeoutError:
            give_up(f"--grpc {target[1]}", "a server", f"none in {PATIENCE_S} s", "start it, or leave the option out")
        yield channel


@pytest.fixture(scope="session")
def models(request, http):
    """Facts of every model."""
    given = option(request.config, "--models")
    return [facts_of(http, name) for name in (given.split(",") if given else names_of(http))]


def names_of(http):
    """Return the names of the server's models, or end the run: the protocol itself has no list of them."""
    response = http.get("/v2/models")
    try:
        return response.json()["models"]
    except (ValueError, KeyError, TypeError):
        found = f"{response.status_code} {response.text}"
        return give_up("GET /v2/models", "a list of models", found, "name them with --models a,b")


def facts_of(http, name):
    """Return what a model says of itself, or end the run: nothing can be asked without it."""
    response = http.get(f"/v2/models/{name}")
    try:
        return ModelFacts.of(response.json())
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as err:
        found = f"{type(err).__name__} {err} in {response.status_code} {response.text}"
        expected = "name, inputs and outputs, each with name, datatype and shape"
        return give_up(f"GET /v2/models/{name}", expected, found, "name another with --models")


@pytest.fixture(params=WIRES)
def wire(request, http):
    """Each way in which a request can be written down."""
    if request.param in RPC_WIRES:
        return RpcWire(request.getfixturevalue("channel"), request.param)
    return RestWire(http, request.param)


@pytest.fixture
def is_rpc(wire):
    return isinstance(wire, RpcWire)
