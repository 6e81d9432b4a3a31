"""Who may call: the same decision as over HTTP. And what a call leaves in the counters."""

import shutil
import socket
import subprocess

import grpc
import grpc.aio
import numpy as np
import pytest
from tests.serve.gate.keys_file import write_keys

from cellgate.serve.gate.tls import listener_tls
from cellgate.serve.observe.counter_layout import CODES, PROTOCOLS, REQUESTS
from cellgate.serve.rpc import inference_pb2 as messages
from cellgate.serve.rpc.calls import HEALTH, SERVICE
from cellgate.serve.rpc.server import listen, make_server
from cellgate.serve.settings import Settings

KEY, OTHER_KEY = "k" * 32, "o" * 32
OPEN = [f"/{SERVICE}/ServerLive", f"/{SERVICE}/ServerReady", f"/{HEALTH}/Check"]


@pytest.fixture
def keys_file(tmp_path):
    return write_keys(tmp_path, f"robot:{KEY}\n")


@pytest.fixture
def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def message(make_message):
    return make_message({"x": np.zeros((1, 2, 2), np.float32)}, "steps", ("y",))


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ((), grpc.StatusCode.UNAUTHENTICATED),
        ((("x-api-key", OTHER_KEY),), grpc.StatusCode.PERMISSION_DENIED),
        ((("authorization", f"Bearer {OTHER_KEY}"),), grpc.StatusCode.PERMISSION_DENIED),
        ((("x-api-key", KEY), ("authorization", f"Bearer {KEY}")), grpc.StatusCode.PERMISSION_DENIED),
        ((("authorization", f"Basic {KEY}"),), grpc.StatusCode.UNAUTHENTICATED),
        ((("origin", "http://evil.example"), ("x-api-key", KEY)), grpc.StatusCode.PERMISSION_DENIED),
    ],
    ids=["none", "wrong", "wrong-bearer", "two", "another-kind", "a-foreign-page"],
)
async def test_a_call_without_its_key_is_refused(open_asker, keys_file, message, metadata, code):
    async with open_asker(api_keys_file=keys_file) as asker:
        refused = await asker.refusal(message, metadata=metadata)

    assert refused.code() is code


async def test_a_call_that_names_another_host_is_refused_and_no_fault_of_ours(open_asker, message):
    async with open_asker(allowed_hosts="good.example") as asker:
        refused = await asker.refusal(message, metadata=(("host", "evil.example"),))
        answer = await asker.infer(message, metadata=(("host", "good.example"),))

    assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "evil.example" in refused.details()
    assert answer.outputs[0].name == "y"


@pytest.mark.parametrize("metadata", [(("x-api-key", KEY),), (("authorization", f"Bearer {KEY}"),)])
async def test_a_call_with_its_key_is_answered(open_asker, keys_file, message, metadata):
    async with open_asker(api_keys_file=keys_file) as asker:
        answer = await asker.infer(message, metadata=metadata)

    assert answer.outputs[0].name == "y"


async def test_every_call_but_health_needs_a_key(open_asker, keys_file):
    async with open_asker(api_keys_file=keys_file) as asker:
        for path in [*asker.service._calls, f"/{SERVICE}/ModelStreamInfer", f"/{SERVICE}/Unknown", "/a/b"]:
            if path in OPEN:
                await asker.channel.unary_unary(path)(b"")
                continue
            with pytest.raises(grpc.aio.AioRpcError) as found:
                await asker.channel.unary_unary(path)(b"")
            assert found.value.code() is grpc.StatusCode.UNAUTHENTICATED, path


async def test_a_stream_needs_a_key(open_asker, keys_file, message):
    async with open_asker(api_keys_file=keys_file) as asker:
        call = asker.stream()
        with pytest.raises(grpc.aio.AioRpcError) as found:
            await call.read()

    assert found.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_keys_are_exchanged_while_serving(open_asker, keys_file, message, tmp_path):
    async with open_asker(api_keys_file=keys_file) as asker:
        (tmp_path / "keys").write_text(f"phone:{OTHER_KEY}\n")
        asker.serving.read_keys()
        refused = await asker.refusal(message, metadata=(("x-api-key", KEY),))
        (tmp_path / "keys").write_text("nobody\n")
        asker.serving.read_keys()
        answer = await asker.infer(message, metadata=(("x-api-key", OTHER_KEY),))

    assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
    assert answer.outputs[0].name == "y"


def counts_of(counters, model):
    page, layout = counters.own, counters.own.layout
    number, protocol = layout.model(model) if model else 0, PROTOCOLS.index("grpc")
    places = {code: layout.place(REQUESTS, number, protocol, at) for at, code in enumerate(CODES)}
    return {code: page.cells[place] for code, place in places.items() if page.cells[place]}


async def test_calls_are_counted_by_model_and_by_the_status_that_http_would_give(open_asker, message):
    unknown = messages.ModelInferRequest(model_name="other")
    async with open_asker() as asker:
        await asker.infer(message)
        await asker.refusal(unknown)
        stream = asker.stream()
        for body in (message, unknown):
            await stream.write(body.SerializeToString())
            await stream.read()
        await stream.done_writing()
        await stream.read()
        counters = asker.serving.counters

    assert counts_of(counters, "steps") == {"200": 2}
    assert counts_of(counters, None) == {"404": 2}


@pytest.fixture
def certificate(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-days", "2", "-nodes", "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(["openssl", *words], check=True, capture_output=True)
    return cert, key


async def test_a_server_with_a_certificate_speaks_tls_only(open_asker, certificate, free_port):
    cert, key = certificate
    async with open_asker() as asker:
        settings = Settings(tls_cert=str(cert), tls_key=str(key))
        server = make_server(asker.service, settings)
        listen(server, "127.0.0.1", free_port, listener_tls(settings))
        await server.start()
        trusted = grpc.ssl_channel_credentials(cert.read_bytes())
        async with grpc.aio.secure_channel(f"localhost:{free_port}", trusted) as channel:
            body = await channel.unary_unary(f"/{SERVICE}/ServerReady")(b"", timeout=30)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{free_port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as found:
                await channel.unary_unary(f"/{SERVICE}/ServerReady")(b"", timeout=30)
        await server.stop(0)

    assert messages.ServerReadyResponse.FromString(body).ready
    assert found.value.code() is grpc.StatusCode.UNAVAILABLE
