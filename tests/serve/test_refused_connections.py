"""Who waits after a refusal, and who has them read on."""

import asyncio

import pytest

from cellgate.serve import refused_connections
from cellgate.serve.refused_connections import RefusedConnections

PATIENCE_S = 30


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Connection:
    def __init__(self):
        self.is_read = True
        self.resumed = asyncio.Event()

    def pause_refused(self):
        self.is_read = False

    def resume_refused(self):
        self.is_read = True
        self.resumed.set()


async def test_room_lets_the_one_go_on_that_has_waited_longest():
    refused, loop = RefusedConnections(), asyncio.get_running_loop()
    first, second = Connection(), Connection()
    refused.add(first, loop)
    refused.add(second, loop)
    refused.resume_one()

    assert (first.is_read, second.is_read, len(refused)) == (True, False, 1)
    refused.resume_all()
    assert (second.is_read, len(refused)) == (True, 0)


async def test_without_room_nobody_waits_for_ever(monkeypatch):
    monkeypatch.setattr(refused_connections, "PAUSE_S", 0.001)
    refused, loop = RefusedConnections(), asyncio.get_running_loop()
    for _ in range(3):
        connection = Connection()
        refused.add(connection, loop)
        await asyncio.wait_for(connection.resumed.wait(), PATIENCE_S)

    assert len(refused) == 0
