"""What is another matter where a connection is encrypted: what lies unread lies in the loop; it ends in two halves."""

import asyncio
import shutil
import ssl
import subprocess
from contextlib import asynccontextmanager

import pytest
from tests.both_loops import anyio_backend, the_loop_asked_for  # noqa: F401 - fixtures
from tests.serve.hot_wire import JSON, PATIENCE_S, Wire, body_of, has_all_its_time, listen, raw, status_of, timed, until

from cellgate.serve.connection import connection_end, refused_connections

SOCKET_BYTES = 2**24  # more than the sockets take


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    """The server's and the client's."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    folder = tmp_path_factory.mktemp("certificate")
    cert, key = folder / "cert.pem", folder / "cert.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-days", "2", "-subj", "/CN=test", "-noenc"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(cert, key)
    return ours, ssl.create_default_context(cafile=str(cert))


@asynccontextmanager
async def refused(served_models, port, contexts, monkeypatch):
    """Have a request refused over TLS; yield its client, and its connection, which is not read from."""
    monkeypatch.setattr(refused_connections, "PAUSE_S", PATIENCE_S)
    ours, theirs = contexts
    async with listen([served_models["steps"]], port, tls=ours) as served, Wire.open(served, tls=theirs) as wire:
        port.is_full = True
        wire.send(raw(JSON))
        assert status_of(await wire.response()) == 503
        (connection,) = served.state.connections
        yield wire, connection


@asynccontextmanager
async def stored(served_models, port, contexts, monkeypatch):
    """Yield a client that was answered and does not look at its connection any more, its connection, and the server."""
    monkeypatch.setattr(connection_end, "LINGER_S", 0.001)
    ours, theirs = contexts
    async with listen([served_models["steps"]], port, tls=ours) as served, Wire.open(served, tls=theirs) as wire:
        wire.send(raw(method="GET", path="/v2", length=False))
        assert status_of(await wire.response()) == 200
        wire.writer.transport.pause_reading()
        (connection,) = served.state.connections
        await until(lambda: not connection._has_unsent())  # the client's kernel may take its time to say that it has it
        yield wire, connection, served


async def test_a_timeout_counts_from_the_pause(served_models, make_manual_port, contexts, monkeypatch):
    port = make_manual_port()
    async with refused(served_models, port, contexts, monkeypatch) as (wire, connection):
        wire.send(timed(PATIENCE_S / 2))
        for _ in range(10):  # turns, in which the loop takes it
            await asyncio.sleep(0)
        connection._paused_s -= PATIENCE_S
        port.is_full = False
        found = await wire.response()

    assert status_of(found) == 503
    assert b"timeout: expected about " in body_of(found)
    assert port.waiting == {}


async def test_a_request_that_is_sent_after_the_pause_has_all_its_time(
    served_models, make_manual_port, contexts, monkeypatch
):
    port = make_manual_port()
    async with refused(served_models, port, contexts, monkeypatch) as (wire, connection):
        connection._paused_s -= PATIENCE_S
        port.is_full = False
        await until(lambda: not connection.flow.read_paused)
        is_whole = await has_all_its_time(wire, port)

    assert is_whole


async def test_a_client_that_does_not_look_at_its_connection_does_not_hold_up_a_stop(
    served_models, make_manual_port, contexts, monkeypatch
):
    async with stored(served_models, make_manual_port(), contexts, monkeypatch) as (_, connection, served):
        connection.shutdown()
        await until(lambda: not served.state.connections)


@pytest.mark.parametrize("who", ["timer", "sweep"])
async def test_a_client_that_does_not_look_at_its_connection_does_not_keep_an_idle_one(
    served_models, make_manual_port, contexts, monkeypatch, who
):
    async with stored(served_models, make_manual_port(), contexts, monkeypatch) as (_, connection, served):
        await until(lambda: connection.awaited() is not None)
        if who == "timer":
            connection.timeout_keep_alive_handler()
        else:
            connection.give_up(connection.awaited())
        await until(lambda: not served.state.connections)


async def test_an_answer_that_is_not_read_yet_is_not_cut_off_by_a_stop(
    served_models, make_manual_port, contexts, monkeypatch
):
    async with stored(served_models, make_manual_port(), contexts, monkeypatch) as (slow, connection, _):
        connection.transport.write(bytes(SOCKET_BYTES))
        connection.shutdown()
        await until(connection.transport.is_closing)
        slow.writer.transport.resume_reading()
        found = await slow.reader.readexactly(SOCKET_BYTES)

    assert found == bytes(SOCKET_BYTES)


async def test_a_timer_that_ends_after_its_connection_does_nothing(served_models, make_manual_port, contexts):
    ours, theirs = contexts
    async with listen([served_models["steps"]], make_manual_port(), tls=ours) as served:
        async with Wire.open(served, tls=theirs) as wire:
            wire.send(raw(method="GET", path="/v2", length=False))
            await wire.response()
            (connection,) = served.state.connections
            connection.transport.abort()
            await until(lambda: not served.state.connections)
            connection.timeout_keep_alive_handler()

        assert connection.transport.is_closing()
