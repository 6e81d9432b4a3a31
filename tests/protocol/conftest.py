"""Which server is asked, and by which wires: `pytest tests/protocol --url http://… --grpc host:port`.

Without `--url` the tests start a server of their own, with three small networks, on free ports.
"""

import os
import subprocess
import sys
from contextlib import contextmanager

import grpc
import httpx
import pytest

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
# Kinds of the small networks: a value a step, a value a sequence, tokens instead of numbers.
KINDS = ("steps", "last", "tokens")


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
        yield client


@pytest.fixture(scope="session")
def channel(target):
    if target[1] is None:
        pytest.skip("--grpc: no address was given")
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(target[1], options=options) as channel:
        yield channel


@pytest.fixture(scope="session")
def models(request, http):
    """Facts of every model."""
    given = option(request.config, "--models")
    names = given.split(",") if given else http.get("/v2/models").json()["models"]
    return [ModelFacts.of(http.get(f"/v2/models/{name}").json()) for name in names]


@pytest.fixture(params=WIRES)
def wire(request, http):
    """Each way in which a request can be written down."""
    if request.param in RPC_WIRES:
        return RpcWire(request.getfixturevalue("channel"), request.param)
    return RestWire(http, request.param)


@pytest.fixture
def is_rpc(wire):
    return isinstance(wire, RpcWire)
