"""What stands behind a body that comes in chunks, and round these."""

import pytest
from tests.both_loops import anyio_backend, the_loop_asked_for  # noqa: F401 - fixtures
from tests.serve.hot_wire import JSON, Wire, chunked, connect_fake, listen, raw, status_of

LAST = b"Connection: close\r\n\r\n"


@pytest.fixture(params=[False, True], ids=["asgi", "hot"])
def serve(request, served_models, make_fake, make_network, make_runtime_port):
    """Serve the network "steps" by either route."""
    port = make_runtime_port({"steps": make_fake(make_network("steps"))})
    return lambda **changes: listen([served_models["steps"]], port, hot_route=request.param, **changes)


async def test_a_trailer_that_says_close_is_kept_to_and_the_answer_says_so(serve):
    async with serve() as served, Wire.open(served) as wire:
        wire.send(chunked(JSON)[:-2] + LAST + raw(JSON))
        found, rest = await wire.response(), await wire.rest()

    assert status_of(found) == 200
    assert b"\r\nconnection: close\r\n" in found
    assert rest == b""


async def test_a_trailer_that_says_close_after_the_answer_closes_at_once(serve):
    async with serve() as served, Wire.open(served) as wire:
        wire.send(raw(b"2\r\n{}\r\n0\r\n", "Transfer-Encoding: chunked", path="/v2", length=False))
        found = await wire.response()
        wire.send(LAST)
        rest = await wire.rest()

    assert status_of(found) == 405
    assert b"connection: close" not in found
    assert rest == b""


@pytest.mark.parametrize("trailer", [b"Content-Length: 2", b"Transfer-Encoding: chunked"])
async def test_a_trailer_that_would_frame_a_body_is_refused(serve, trailer):
    async with serve() as served, Wire.open(served) as wire:
        wire.send(chunked(JSON)[:-2] + trailer + b"\r\n\r\n" + raw(JSON))
        found, rest = await wire.response(), await wire.rest()

    assert (status_of(found), rest) == (400, b"")


@pytest.mark.parametrize("cut", [0, 20], ids=["whole", "in-two"])
@pytest.mark.parametrize("start", [b"0\r\nX: ", b"2;a="], ids=["trailer", "extension"])
async def test_a_body_beside_its_head_is_no_credit_for_what_stands_round_the_chunks(serve, start, cut):
    data = raw(b"%x\r\n%s\r\n" % (50_000, b" " * 50_000), "Transfer-Encoding: chunked", length=False)
    async with serve(max_head_bytes=4096) as served:
        protocol, transport = connect_fake(served)
        for piece in (data[:cut], data[cut:], start, *[b"a" * 1000] * 6):
            protocol.data_received(piece)
        found = list(transport.writes)

    assert [status_of(one) for one in found] == [431]
