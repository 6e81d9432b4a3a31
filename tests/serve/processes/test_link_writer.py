"""The sending side of the link over a real pair of sockets: what goes out when, and that nothing is lost or crossed."""

import asyncio
import socket

import pytest
from tests.both_loops import anyio_backend, the_loop_asked_for  # noqa: F401 - fixtures

from cellgate.serve.processes.link_writer import LinkWriter

PATIENCE_S = 30


@pytest.fixture
async def pair():
    """A writer, and the socket at the other end."""
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    writer = LinkWriter(near, asyncio.get_running_loop())
    yield writer, far
    writer.close()
    near.close()
    far.close()


async def received(far, size):
    found = b""
    while len(found) < size:
        found += await asyncio.wait_for(asyncio.get_running_loop().sock_recv(far, 2**20), PATIENCE_S)
    return found


async def test_what_is_written_in_one_turn_goes_out_at_its_end(pair):
    writer, far = pair
    writer.write([b"a", b"b"])
    writer.write([b"c"])
    with pytest.raises(BlockingIOError):
        far.recv(10)

    assert await received(far, 3) == b"abc"
    assert writer.unsent_bytes == 0


async def test_a_push_does_not_wait_for_the_end_of_the_turn(pair):
    writer, far = pair
    writer.push()  # nothing to send is fine
    writer.write([b"abc"])
    writer.push()

    assert far.recv(10) == b"abc"


async def test_what_the_other_side_does_not_take_is_sent_when_it_does(pair):
    writer, far = pair
    data = bytes(range(256)) * 2**15  # 8 MiB, more than any buffer
    writer.write([data])
    writer.push()
    left = writer.unsent_bytes
    writer.write([b"end"])

    assert 0 < left < len(data)
    assert await received(far, len(data) + 3) == data + b"end"
    assert writer.unsent_bytes == 0


async def test_a_push_in_the_middle_of_a_turn_goes_on_where_the_last_one_stopped(pair):
    writer, far = pair
    data = bytes(range(256)) * 2**13
    writer.write([data])
    writer.push()
    begun = b""
    while writer.unsent_bytes:
        begun += far.recv(2**16)
        writer.push()

    assert begun + await received(far, len(data) - len(begun)) == data


async def test_a_connection_that_is_gone_takes_nothing_and_raises_nothing(pair):
    writer, far = pair
    far.close()
    for _ in range(3):
        writer.write([b"abc"])
        writer.push()
    writer.close()

    assert writer.unsent_bytes == 0


async def test_the_end_of_both_copies_is_the_end_of_the_connection():
    near, far = socket.socketpair()
    far.settimeout(PATIENCE_S)
    writer = LinkWriter(near, asyncio.get_running_loop())
    near.close()
    writer.close()
    writer.close()

    assert far.recv(1) == b""
    far.close()
