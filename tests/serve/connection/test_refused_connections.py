"""Who waits after a refusal, and when what they send is read again."""

import asyncio

import numpy as np
import pytest

from cellgate.serve.connection import refused_connections
from cellgate.serve.connection.refused_connections import RefusedConnections, age
from cellgate.serve.engine.work import Work
from cellgate.serve.errors import QueueTooLong

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


class Room:
    """Room for so many; each that is asked for takes one."""

    def __init__(self, places):
        self.places = places

    def __call__(self):
        return self.places > 0


async def test_where_there_is_room_those_who_have_waited_longest_go_on_some_at_a_time(monkeypatch):
    monkeypatch.setattr(refused_connections, "PAUSE_S", PATIENCE_S)
    monkeypatch.setattr(refused_connections, "_AT_ONCE", 2)
    room, loop = Room(0), asyncio.get_running_loop()
    refused = RefusedConnections(room)
    connections = [Connection() for _ in range(3)]
    for connection in connections:
        refused.add(connection, loop)
    room.places = 1
    await asyncio.wait_for(connections[1].resumed.wait(), PATIENCE_S)

    assert [connection.is_read for connection in connections] == [True, True, False]
    refused.resume_all()
    assert (connections[2].is_read, len(refused)) == (True, 0)


async def test_without_room_nobody_waits_for_ever(monkeypatch):
    monkeypatch.setattr(refused_connections, "PAUSE_S", 0.001)
    refused, loop = RefusedConnections(Room(0)), asyncio.get_running_loop()
    for _ in range(3):
        connection = Connection()
        refused.add(connection, loop)
        await asyncio.wait_for(connection.resumed.wait(), PATIENCE_S)

    assert len(refused) == 0


def work_until(deadline_s):
    x, lengths = np.zeros((1, 1, 1), np.float32), np.ones(1, np.int32)
    return Work(model="m", sequence=x, lengths=lengths, states=(), outputs=("y",), deadline_s=deadline_s)


def test_what_a_request_waited_unread_is_taken_off_its_timeout():
    work = work_until(10.0)

    age(work, 0.75, 9.0)

    assert work.deadline_s == 9.25


def test_a_request_whose_timeout_may_have_passed_unread_is_refused():
    with pytest.raises(QueueTooLong, match=r"expected about 1 s or more, .*, found 1 s"):
        age(work_until(10.0), 1.0, 9.0)


def test_without_a_timeout_nothing_is_taken_off():
    work = work_until(None)

    age(work, 1.0, 9.0)

    assert work.deadline_s is None
