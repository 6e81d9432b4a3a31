"""What is refused behind other requests: all of them are answered first, and then it is said why it ends."""

import json

import pytest
from tests.both_loops import anyio_backend, the_loop_asked_for  # noqa: F401 - fixtures
from tests.serve.hot_wire import BAD, JSON, Wire, listen, raw, status_of

BROKEN = raw(b"zz\r\n", "Transfer-Encoding: chunked", length=False)


async def answers_of(wire):
    """Return the status of every answer until the server closes, and the last one's object."""
    data, found = await wire.rest(), []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        (size,) = (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length:" in line)
        found.append(status_of(head))
        body, data = data[:size], data[size:]
    return found, json.loads(body)


@pytest.fixture(params=[False, True], ids=["asgi", "hot"])
def serve(request, served_models, make_fake, make_network, make_runtime_port):
    """Serve the network "steps" by either route."""
    port = make_runtime_port({"steps": make_fake(make_network("steps"))})
    return lambda: listen([served_models["steps"]], port, hot_route=request.param)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("plain", [raw(JSON), raw(path="/v2", method="GET", length=False)], ids=["infer", "read"])
async def test_a_body_that_breaks_is_refused_after_all_that_came_before(serve, plain, count):
    async with serve() as served, Wire.open(served) as wire:
        wire.send(plain * count + BROKEN)
        found, last = await answers_of(wire)

    assert found == [200] * count + [400]
    assert last["code"] == "malformed_request"


async def test_what_is_no_request_behind_one_refused_at_once_and_one_at_work_is_refused_after_both(serve):
    async with serve() as served, Wire.open(served) as wire:
        wire.send(raw(BAD) + raw(JSON) + b"{}\r\n\r\n")
        found, last = await answers_of(wire)

    assert found == [400, 200, 400]
    assert last["code"] == "malformed_request"
