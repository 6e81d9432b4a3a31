"""Heads that may look odd and are right: the same answer as to the plain ones, by either route."""

import pytest
from tests.both_loops import anyio_backend, the_loop_asked_for  # noqa: F401 - fixtures
from tests.serve.gate.keys_file import write_keys
from tests.serve.hot_wire import JSON, Wire, binary, chunked, listen, raw, status_of

KEY = "a-key-of-the-tests-0001"


@pytest.fixture(params=[False, True], ids=["asgi", "hot"])
def serve(request, served_models, make_fake, make_network, make_runtime_port):
    """Serve the network "steps" by either route."""
    port = make_runtime_port({"steps": make_fake(make_network("steps"))})
    return lambda **changes: listen([served_models["steps"]], port, hot_route=request.param, **changes)


@pytest.fixture
def keys_file(tmp_path):
    return write_keys(tmp_path, f"robot:{KEY}\n")


@pytest.mark.parametrize("space", [b" ", b"\t", b" \t  "], ids=["space", "tab", "several"])
@pytest.mark.parametrize(
    "data", [raw(JSON, f"X-API-Key: {KEY}"), binary(), chunked(JSON)], ids=["json", "binary", "chunks"]
)
async def test_white_space_behind_a_header_is_no_part_of_it(serve, keys_file, data, space):
    head, end, body = data.partition(b"\r\n\r\n")
    if KEY.encode() not in head:
        head += f"\r\nAuthorization: Bearer {KEY}".encode()
    lines = [line if line.startswith((b"POST", b"Transfer")) else line + space for line in head.split(b"\r\n")]
    async with serve(api_keys_file=keys_file) as served, Wire.open(served) as wire:
        wire.send(b"\r\n".join(lines) + end + body)
        found = await wire.response()

    assert status_of(found) == 200


@pytest.mark.parametrize("coding", ["chunked ", "chunked\t", " chunked \t"])
async def test_white_space_behind_a_transfer_coding_is_refused(serve, coding):
    async with serve() as served, Wire.open(served) as wire:
        wire.send(raw(b"0\r\n\r\n", f"Transfer-Encoding: {coding}", length=False))
        found, rest = await wire.response(), await wire.rest()

    assert (status_of(found), rest) == (400, b"")


@pytest.mark.parametrize(("version", "is_told"), [("1.0", False), ("1.1", True)])
async def test_only_who_speaks_http_1_1_is_told_to_go_on(serve, version, is_told):
    async with serve() as served, Wire.open(served) as wire:
        wire.send(raw(JSON, "Expect: 100-continue", "Connection: close", version=version))
        found = await wire.rest()

    assert found.startswith(b"HTTP/1.1 100 Continue\r\n\r\n") is is_told
    assert b"HTTP/1.1 200 OK\r\n" in found
