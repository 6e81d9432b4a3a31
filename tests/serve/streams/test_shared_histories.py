"""Any history of several servers over one store: chunks here and there, clients that leave, reads that come late."""

import random
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from cellgate.serve.engine.work import StreamAnswer
from cellgate.serve.errors import DeadlineExceeded
from cellgate.serve.stream_errors import StepGap, StoreUnavailable, StreamEnded, StreamExists, UnknownStream
from cellgate.serve.streams.memory_store import MemoryStore
from cellgate.serve.streams.store import StoreError

from .hand_port import HandPort

MOST_EVENTS = 5000  # far more than any seed needs
NOT_DUE = StepGap | StreamExists | UnknownStream | StoreUnavailable | DeadlineExceeded


class Client:
    """Sends the chunks of one stream, to any server, until each is answered; leaves, repeats and hurries.

    Attributes:
        waiting: what was sent and is not answered: the server and the ticket, and the chunk's place.
        got: the answers, in order.
    """

    def __init__(self, works, dice):
        self.works, self.dice = works, dice
        self.waiting, self.got = {}, []

    @property
    def is_done(self):
        return len(self.got) == len(self.works)

    def act(self, servers):
        server, due = self.dice.choice(servers), len(self.got)
        wrong = [place for place in range(len(self.works)) if place < due or place > due + 1]
        if self.waiting and self.dice.random() < 0.3:
            (left, ticket), _ = self.dice.choice(list(self.waiting.items()))
            left.engine.cancel(ticket)
            del self.waiting[left, ticket]
        elif self.dice.random() < 0.15:
            self.send(server, self.dice.choice(wrong))
        elif not self.is_done and not any(place > due for place, _ in self.waiting.values()):
            self.send(server, due)  # or one that was early might be due next, and the answer to this one is not kept

    def send(self, server, place):
        work = self.works[place]
        if self.dice.random() < 0.2:
            work = replace(work, deadline_s=server.clock.now + self.dice.random())
        with suppress(StoreUnavailable):  # told at once, where the store is late
            self.waiting[server, server.post(work)] = place, len(self.got)

    def hear(self, server):
        for (asked, ticket), (place, due) in list(self.waiting.items()):
            if asked is server and ticket in server.outcomes:
                del self.waiting[asked, ticket]
                self.take(server.outcomes.pop(ticket), place, due)

    def take(self, outcome, place, due):
        """Hear of a chunk; `due` was the next one that was not answered yet when this one was sent."""
        if isinstance(outcome, StreamAnswer):
            assert outcome.step == place <= len(self.got)
            if place == len(self.got):
                self.got.append(outcome.outputs["y"])
            assert outcome.outputs["y"].tobytes() == self.got[place].tobytes()
        elif place == due == len(self.got):
            assert isinstance(outcome, StoreUnavailable | DeadlineExceeded), outcome
        else:  # it was too early, or is long applied
            assert isinstance(outcome, NOT_DUE) or (isinstance(outcome, StreamEnded) and self.is_done_but_for_one)

    @property
    def is_done_but_for_one(self):
        """Whether the last chunk may be applied: it was sent, and its answer may be lost."""
        return len(self.got) >= len(self.works) - 1

    def forget(self, server):
        self.waiting = {key: what for key, what in self.waiting.items() if key[0] is not server}


class Servers:
    """Servers over one store, which fails now and then; each goes on by a little at a time."""

    def __init__(self, start, dice):
        self.dice = dice
        self.start = start
        self.slow = []
        self.running = [self.started() for _ in range(3)]

    def started(self):
        server = self.start()
        server.store.before = server.store.after = server.store.reading = self.fail_now_and_then
        return server

    def fail_now_and_then(self, _asked):
        if self.dice.random() < 0.1:
            raise StoreError("gone")

    def go_on(self):
        """Let one of them do something; return one that died of it, or None."""
        if self.dice.random() < 0.02:  # from now on the store's answers to these stay on their way
            self.slow = self.dice.sample(self.running, self.dice.randrange(len(self.running)))
        server, kind = self.dice.choice(self.running), self.dice.randrange(200)
        if kind < 50:
            server.engine._port.carry_out()
        elif kind < 100:
            if server not in self.slow:
                server.engine._port.tell()
        elif kind < 120:
            server.clock.now += 0.3 * self.dice.random()
        elif kind > 0:
            server.turn()
        if kind < 199:
            return None
        server.engine._port.carry_out()  # what is on its way to the store gets there; nobody is answered
        self.running[self.running.index(server)] = self.started()
        return server


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(20))
def test_any_history_of_servers_over_one_store_refuses_no_chunk_that_is_due(
    make_durable, make_work, make_x, cut, whole_of, monkeypatch, seed
):
    monkeypatch.setattr("cellgate.serve.streams.store_client.StoreThread", HandPort)
    dice, inner = random.Random(seed), MemoryStore(1000)
    xs = [make_x(12, seed=100 * seed + name) for name in range(3)]
    works = [[make_work(*part) for part in cut(x, name + 1, seed, chunks=6)] for name, x in enumerate(xs)]
    clients = [Client(mine, dice) for mine in works]
    servers = Servers(lambda: make_durable(inner, is_shared=True), dice)
    for _ in range(MOST_EVENTS):
        dice.choice(clients).act(servers.running)
        for _ in range(dice.randrange(12)):
            died = servers.go_on()
            for client in clients:
                client.forget(died)
        for server in servers.running:
            for client in clients:
                client.hear(server)
        if all(client.is_done for client in clients):
            break

    for client, x in zip(clients, xs, strict=True):
        assert np.concatenate(client.got, axis=1).tobytes() == whole_of(x)["y"].tobytes()
