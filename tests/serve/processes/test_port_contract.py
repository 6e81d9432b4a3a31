"""The same promises, kept by the engine in this process and by the engine in a child: both are real."""

import asyncio
import random
import time

import numpy as np
import pytest

from cellgate.serve.engine.port import infer
from cellgate.serve.engine.work import Work
from cellgate.serve.errors import DeadlineExceeded, QueueFull, UnknownModel

PATIENCE_S = 30
SHAPES = [(1, 1), (1, 7), (3, 5), (5, 40)]


def work_of(network, B, T, seed=0, states=True, outputs=("y",), **more):
    """A random work for one of the three networks, and the feeds that an oracle needs."""
    values = np.random.default_rng(seed)
    lengths = values.integers(1, T + 1, size=B).astype(np.int32)
    lengths[0] = T
    if network.kind == "tokens":
        lengths[:] = T
    feeds = network.feeds(B, T, lengths, seed) if network.kind != "tokens" else network.feeds(B, T, seed=seed)
    if not states:
        feeds |= {name: np.zeros_like(feeds[name]) for name in ("h0", "c0")}
    given = (feeds["h0"], feeds["c0"]) if states else (None, None)
    work = Work(
        model=network.kind,
        sequence=feeds[network.signature.sequence],
        lengths=lengths,
        states=given,
        outputs=outputs,
        **more,
    )
    return work, feeds


async def gather(*coroutines):
    return await asyncio.wait_for(asyncio.gather(*coroutines, return_exceptions=True), PATIENCE_S)


@pytest.mark.parametrize("kind", ["steps", "last", "tokens"])
async def test_answers_are_those_of_the_equations(open_port, make_network, kind):
    network = make_network(kind)
    asked = [
        work_of(network, B, T, seed, states=seed % 2 == 0, outputs=outputs)
        for seed, (B, T) in enumerate(SHAPES)
        for outputs in (("y",), ("c_n", "y", "h_n"))
    ]
    async with open_port() as held:
        answers = await gather(*(infer(held.port, work) for work, _ in asked))

    for (work, feeds), answer in zip(asked, answers, strict=True):
        expected = network.compute(feeds)
        assert tuple(answer) == work.outputs
        for name in work.outputs:
            assert (answer[name].dtype, answer[name].shape) == (np.float32, expected[name].shape)
            np.testing.assert_allclose(answer[name], expected[name], atol=1e-5)


async def test_an_unknown_model_is_refused(open_port, make_work):
    async with open_port() as held:
        assert held.port.is_ready
        with pytest.raises(UnknownModel, match="found 'nobody'"):
            await asyncio.wait_for(infer(held.port, make_work(model="nobody")), PATIENCE_S)


async def test_of_more_than_may_wait_some_are_refused_and_all_are_told(open_port, make_work):
    outcomes = []
    async with open_port(max_waiting=4) as held:
        held.hold()
        told = [asyncio.ensure_future(infer(held.port, make_work(steps=5))) for _ in range(12)]
        await asyncio.sleep(0)
        held.release()
        outcomes = await gather(*told)

    kinds = [type(outcome) for outcome in outcomes]
    assert set(kinds) == {dict, QueueFull}
    assert kinds.count(dict) >= 4


async def test_work_that_is_late_is_dropped_and_other_work_is_not(open_port, make_work):
    async with open_port() as held:
        late, early = time.monotonic() - 1, time.monotonic() + PATIENCE_S
        outcomes = await gather(*(infer(held.port, make_work(deadline_s=moment)) for moment in (late, early, None)))

    assert [type(outcome) for outcome in outcomes] == [DeadlineExceeded, dict, dict]


async def test_cancelled_work_is_never_answered_and_its_ticket_is_harmless(open_port, make_work):
    done = []
    async with open_port() as held:
        held.hold()
        ticket = held.port.submit(make_work(), done.append)
        held.port.cancel(ticket)
        held.port.cancel(ticket)
        other = asyncio.ensure_future(infer(held.port, make_work()))
        await asyncio.sleep(0)
        held.release()
        await asyncio.wait_for(other, PATIENCE_S)
        found = await asyncio.wait_for(held.port.statistics(), PATIENCE_S)

    assert done == []
    assert found["requests"]["inside"] == 0


async def test_nothing_is_answered_within_the_call(open_port, make_work):
    async with open_port() as held:
        done, answered = [], asyncio.Event()
        held.port.submit(make_work(), lambda outcome: (done.append(outcome), answered.set()))
        at_once = list(done)
        await asyncio.wait_for(answered.wait(), PATIENCE_S)

    assert at_once == []
    assert len(done) == 1


async def test_a_cancelled_caller_cancels_its_work(open_port, make_work):
    async with open_port() as held:
        held.hold()
        callers = [asyncio.ensure_future(infer(held.port, make_work())) for _ in range(3)]
        await asyncio.sleep(0)
        for caller in callers:
            caller.cancel()
        held.release()
        outcomes = await gather(*callers)
        found = await asyncio.wait_for(held.port.statistics(), PATIENCE_S)

    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 3
    assert (found["requests"]["inside"], found["requests"]["inside_bytes"]) == (0, 0)


async def test_everything_is_answered_once_or_cancelled_and_nothing_stays_behind(open_port, make_network):
    chance, networks = random.Random(1), [make_network(kind) for kind in ("steps", "last", "tokens")]
    outcomes, cancelled = [[] for _ in range(600)], set()
    async with open_port(max_waiting=10_000) as held:
        for number, received in enumerate(outcomes):
            work, _ = work_of(chance.choice(networks), chance.randint(1, 3), chance.randint(1, 20), number)
            ticket = held.port.submit(work, received.append)
            if chance.random() < 0.5:
                await asyncio.sleep(0)
            if chance.random() < 0.3 and not received:
                held.port.cancel(ticket)
                cancelled.add(number)
        # Answers come before the statistics that count them as gone.
        while (found := await asyncio.wait_for(held.port.statistics(), PATIENCE_S))["requests"]["inside"]:
            pass

    assert {number for number, received in enumerate(outcomes) if not received} == cancelled
    assert {len(received) for number, received in enumerate(outcomes) if number not in cancelled} == {1}
    assert found["requests"]["inside_bytes"] == 0
