"""The gRPC frontend as a process: its address, its death, its end; and what it costs to be without it."""

import json
import os
import signal
import socket
import threading
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from cellgate.serve import server
from cellgate.serve.listeners import bind_listener, open_listeners
from cellgate.serve.models.served_model import BundlePlace
from cellgate.serve.processes.supervisor import Supervisor
from cellgate.serve.rpc import inference_pb2 as messages
from cellgate.serve.rpc import port as rpc_port
from cellgate.serve.rpc.port import hold_port, missing_package
from cellgate.serve.server import run_server
from cellgate.serve.settings import Settings
from cellgate.serve.start_errors import PortBusyError

PATIENCE_S = 60
SERVICE = "/inference.GRPCInferenceService"


class Running:
    """A supervisor in a thread, with HTTP and gRPC."""

    def __init__(self, place, **changes):
        settings = Settings(device="cpu", threads=1, shutdown_grace_s=10, **changes)
        self.holder = hold_port(bind_listener("127.0.0.1", 0))
        self.host, self.port = self.holder.getsockname()
        listener = bind_listener("127.0.0.1", 0)
        self.supervisor = Supervisor([BundlePlace(place)], settings, listener, (self.host, self.port))
        self._is_up = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        self.supervisor.run(lambda _hello: self._is_up.set())

    def __enter__(self):
        self._thread.start()
        assert self._is_up.wait(PATIENCE_S)
        return self

    def __exit__(self, *_):
        self.stop()
        self.holder.close()

    def stop(self):
        self.supervisor.stop()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def channel(self):
        return grpc.insecure_channel(f"{self.host}:{self.port}", options=[("grpc.enable_retries", 0)])


def infer(channel, **options):
    message = messages.ModelInferRequest(model_name="steps", raw_input_contents=[bytes(16)])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 2, 2])
    call = channel.unary_unary(f"{SERVICE}/ModelInfer")
    return messages.ModelInferResponse.FromString(call(message.SerializeToString(), timeout=PATIENCE_S, **options))


@pytest.mark.slow
def test_its_access_log_goes_to_stderr_under_its_own_name(bundle_paths, capfd):
    with Running(bundle_paths["steps"], access_log=True) as running, running.channel() as channel:
        infer(channel, metadata=(("x-request-id", "client-7"),))

    (line,) = (json.loads(text) for text in capfd.readouterr().err.splitlines())
    found = tuple(line[name] for name in ("process", "protocol", "method", "model", "grpc_status", "request_id"))
    assert found == ("gRPC frontend", "grpc", "ModelInfer", "steps", "OK", "client-7")


@pytest.mark.slow
def test_a_traced_call_has_the_engine_s_part_too_and_is_sent_before_the_end(bundle_paths, collector):
    endpoint, sent_spans = collector
    with Running(bundle_paths["steps"], otel_endpoint=endpoint) as running, running.channel() as channel:
        infer(channel)

    assert sorted(span.name for span in sent_spans()) == ["accept", "answer", "infer steps", "queue", "runs"]


@pytest.mark.slow
def test_a_killed_frontend_is_started_again_on_the_same_port_and_stops_in_order(bundle_paths):
    with Running(bundle_paths["steps"]) as running:
        with running.channel() as channel:
            before = infer(channel)
        http, first = running.supervisor.frontend_pids
        os.kill(first, signal.SIGKILL)
        while first in running.supervisor.frontend_pids:  # until then its socket still takes connections
            pass
        with running.channel() as channel:
            after = infer(channel, wait_for_ready=True)
        second = running.supervisor.frontend_pids[1]
        listening = listening_addresses(running.port)
        running.stop()

        assert after.raw_output_contents == before.raw_output_contents
        assert second not in (http, first)
        assert listening <= {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, as IPv4 or within IPv6
        assert listening
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((running.host, running.port), PATIENCE_S)


def listening_addresses(port):
    """Local addresses, in the system's writing, on which somebody listens at this port."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
            words = line.split()
            address, _, number = words[1].partition(":")
            if int(number, 16) == port and words[3] == "0A":
                found.add(address)
    return found


def test_a_port_that_is_held_is_nobody_elses_and_may_be_shared_with_the_server():
    with closing(hold_port(bind_listener("127.0.0.1", 0))) as holder:
        address = holder.getsockname()
        with pytest.raises(PortBusyError, match="give --grpc-port"):
            bind_listener(*address, "--grpc-port")
        with socket.socket() as sharing:
            sharing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sharing.bind(address)
            sharing.listen()
            with pytest.raises(PortBusyError):
                bind_listener(*address)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, PATIENCE_S)


def test_a_busy_port_of_grpc_is_told_before_any_bundle_is_opened(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        with pytest.raises(PortBusyError, match=rf"127\.0\.0\.1 port {port}, found .* in use.* or give --grpc-port"):
            run_server([BundlePlace(tmp_path / "no-such")], Settings(port=0, grpc_port=port), print)


def test_without_grpc_no_port_is_taken_and_a_line_says_so():
    settings = Settings(port=0, grpc=False)

    with open_listeners(settings) as held:
        assert held.rpc is None
    assert server._rpc_words(settings, None) == "off"


@pytest.mark.parametrize(
    ("missing", "package"), [("grpc", "grpcio"), ("google.protobuf", "protobuf"), ("google", None)]
)
def test_a_missing_package_leaves_http_alone_and_names_the_extra(monkeypatch, missing, package):
    find = rpc_port.find_spec

    def find_less(name):
        if missing == "google" and name.startswith("google."):
            raise ModuleNotFoundError(name)
        return None if name == missing else find(name)

    monkeypatch.setattr(rpc_port, "find_spec", find_less)
    package = package or "protobuf"

    assert missing_package() == package
    with open_listeners(Settings(port=0, control=True, control_port=0)) as held:
        assert (held.rpc, held.control_rpc) == (None, None)
    words = server._rpc_words(Settings(), None)
    assert words == f"off, for {package} is not installed: pip install 'cellgate[grpc]'"


def test_the_address_of_grpc_is_shown():
    with closing(hold_port(bind_listener("127.0.0.1", 0))) as holder:
        port = holder.getsockname()[1]

        assert server._rpc_words(Settings(), holder) == f"127.0.0.1:{port}, 1 process"
