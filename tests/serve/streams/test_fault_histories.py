"""Any history of faults: clients that retry, repeat and hurry, commits that fail, crashes at any turn."""

import random

import numpy as np
import pytest

from cellgate.serve.engine.work import StreamAnswer
from cellgate.serve.stream_errors import StepGap, StoreUnavailable, StreamExists
from cellgate.serve.streams.memory_store import MemoryStore
from cellgate.serve.streams.store import StoreError


class Clients:
    """Clients of several streams, each of which sends its next chunk until it is answered; some repeat and some hurry.

    None has two chunks of its own on the way: only the last answer of a stream is kept for a repetition.
    """

    def __init__(self, works, dice):
        self.works, self.dice = works, dice
        self.got = {name: [] for name in works}
        self.waiting = {}

    @property
    def are_done(self):
        return all(len(self.got[name]) == len(mine) for name, mine in self.works.items())

    def send(self, post):
        for name, mine in self.works.items():
            place = len(self.got[name])
            if place == len(mine) or (name in self.waiting.values() and self.dice.random() > 0.1):
                continue
            self.waiting[post(mine[place])] = name
            if place and self.dice.random() < 0.2:
                post(mine[self.dice.randrange(place)])  # an old one, late
            if place + 2 < len(mine) and self.dice.random() < 0.2:
                post(mine[self.dice.randrange(place + 2, len(mine))])  # one too early

    def take(self, outcomes):
        for ticket in self.waiting.keys() & outcomes.keys():
            name, outcome = self.waiting.pop(ticket), outcomes[ticket]
            got = self.got[name]
            if not isinstance(outcome, StreamAnswer):
                assert isinstance(outcome, StoreUnavailable | StepGap | StreamExists), outcome
            elif outcome.step == len(got):
                got.append(outcome)
            else:  # a second answer to what was sent twice
                assert got[outcome.step].outputs["y"].tobytes() == outcome.outputs["y"].tobytes()


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("seed", range(10))
def test_any_history_of_faults_gives_every_stream_the_bits_of_the_whole(
    make_durable, make_work, make_x, cut, whole_of, seed
):
    """Clients that retry, repeat and hurry; commits that fail before or after they are done; crashes at any turn."""
    dice, inner = random.Random(seed), MemoryStore(1000)
    xs = {name: make_x(30, rows=1 + name % 2, seed=100 * seed + name) for name in range(1, 9)}
    works = {name: [make_work(*part) for part in cut(x, name, seed + name, chunks=6)] for name, x in xs.items()}
    clients, driver = Clients(works, dice), make_durable(inner)

    def maybe_fail(_writes):
        if dice.random() < 0.15:
            raise StoreError("gone")

    while not clients.are_done:
        driver.store.before = driver.store.after = maybe_fail
        clients.send(driver.post)
        for _ in range(dice.randrange(1, 6)):
            driver.turn()
            if driver.engine.wait_s() != 0.0:
                driver.woken.wait(0.001)
                driver.clock.now += 1e-3
        clients.take(driver.outcomes)
        if dice.random() < 0.1:
            driver.engine._port.close()  # what is on its way to the disk may get there; nobody is answered
            driver = make_durable(inner)
            clients.waiting.clear()

    for name, x in xs.items():
        ys = np.concatenate([answer.outputs["y"] for answer in clients.got[name]], axis=1)
        assert ys.tobytes() == whole_of(x)["y"].tobytes()
