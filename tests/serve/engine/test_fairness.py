"""No sequence waits for any that arrived after it was due, whoever comes and however many.

Every sequence has a due moment: its arrival, plus eight times what it would cost by itself. Whoever is due first is
the leader, and every run advances the leader by a step at least. So a sequence is answered after as many runs at most
as all sequences due before it have steps, and those have all arrived before it was due.

The arrivals never end here, and an adversary chooses them.
"""

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

PATIENCE = 8.0
LANES = pytest.mark.parametrize("max_lanes", [1, 2, 64])
KINDS = pytest.mark.parametrize("streamable", [True, False], ids=["lanes", "whole sequences"])

ARRIVALS = st.lists(  # after each run: so many new ones, and of what length
    st.tuples(st.integers(0, 3), st.sampled_from([1, 2, 30, 400]) | st.integers(1, 60)), min_size=1, max_size=30
)


class Sight:
    """Follows every sequence by the number that it carries, with what the runtime was given and nothing else."""

    def __init__(self, runtime, clock, unit_s):
        self.runtime, self.clock, self.unit_s = runtime, clock, unit_s
        self.left, self.due_s, self.arrival_s = {}, {}, {}

    def submitted(self, number, steps, priority=0):
        self.left[number] = steps
        self.arrival_s[number] = self.clock.now
        self.due_s[number] = self.clock.now + PATIENCE * steps * self.unit_s - priority * 1.0

    def leaders(self):
        """Whoever is due first; several where they are due together."""
        first_s = min(self.due_s[number] for number in self.left)
        return {number for number in self.left if self.due_s[number] == first_s}

    def ran(self):
        """Take the last run into account; the numbers that were in it."""
        run = self.runtime.seen[-1]
        for number, steps in zip(run.rows, run.lengths, strict=True):
            self.left[number] -= steps
            if self.left[number] == 0:
                del self.left[number]
        return run.rows


@pytest.fixture(scope="session")
def make_sight(make_runtime, make_model, make_engine, make_clock, make_cost):
    def make(max_lanes, *, streamable=True, run_limit_s=4e-3):
        clock = make_clock()
        runtime = make_runtime(clock=clock, cost=make_cost())
        model = make_model(runtime, make_cost(), streamable=streamable)
        engine, _ = make_engine(model, clock=clock, max_lanes=max_lanes, run_limit_s=run_limit_s)
        return engine, Sight(runtime, clock, model.cost.unit_s)

    return make


def turn(engine, sight):
    """One run; its numbers. A held run is waited for."""
    before = sight.runtime.runs
    while sight.runtime.runs == before:
        sight.clock.now += engine.wait_s()
        engine.run_once()
    return sight.ran()


@pytest.mark.slow
@LANES
@KINDS
@settings(max_examples=40, deadline=None)
@given(arrivals=ARRIVALS, run_limit_s=st.sampled_from([1e-6, 2e-4, 4e-3]))
def test_every_run_advances_whoever_is_due_first(make_sight, make_work, max_lanes, streamable, arrivals, run_limit_s):
    engine, sight = make_sight(max_lanes, streamable=streamable, run_limit_s=run_limit_s)
    numbers = count(1)

    for many, steps in [(2, 50), *arrivals, *[(0, 1)] * 200]:
        for _ in range(many):
            number = next(numbers)
            engine.submit(number, make_work(steps, first=number, outputs=("last",)))
            sight.submitted(number, steps)
        if not sight.left:
            break
        leaders = sight.leaders()
        assert leaders.intersection(turn(engine, sight))


@pytest.mark.slow
@LANES
@KINDS
@settings(max_examples=25, deadline=None)
@given(steps=st.sampled_from([1, 20, 300]), arrivals=ARRIVALS, before=ARRIVALS)
def test_sequence_waits_for_none_that_arrived_after_it_was_due(
    make_sight, make_work, max_lanes, streamable, steps, arrivals, before
):
    engine, sight = make_sight(max_lanes, streamable=streamable)
    numbers = count(1)

    def submit(length):
        number = next(numbers)
        engine.submit(number, make_work(length, first=number, outputs=("last",)))
        sight.submitted(number, length)
        return number

    for many, length in before:
        for _ in range(many):
            submit(length)
    victim = submit(steps)
    runs = due_before = sum(sight.left[other] for other in sight.left if sight.due_s[other] <= sight.due_s[victim])
    while victim in sight.left:
        turn(engine, sight)
        runs -= 1
        for many, length in arrivals[:3]:
            for _ in range(many):
                number = submit(length)
                if sight.due_s[number] < sight.due_s[victim]:
                    assert sight.arrival_s[number] < sight.due_s[victim]
                    runs += length
        arrivals = [*arrivals[3:], *arrivals[:3]]
        if len(sight.left) > 200:  # the engine need not be able to keep up
            for other in [number for number in sight.left if number != victim][100:]:
                engine.cancel(other)
                del sight.left[other]
    assert runs >= 0
    assert due_before >= steps


def test_short_sequence_does_not_wait_for_a_request_that_fills_every_lane(make_sight, make_work):
    """Sixty-four long rows are on their way; a short sequence is due before them and is in the next run."""
    engine, sight = make_sight(64)
    engine.submit("long", make_work(*[4000] * 64, first=1, outputs=("last",)))
    for _ in range(3):
        sight.clock.now += engine.wait_s()
        assert engine.run_once() == []

    engine.submit("short", make_work(3, first=2, outputs=("last",)))
    answered = []
    for _ in range(3):  # to its end alone, or a few steps a run with others
        sight.clock.now += engine.wait_s()
        answered += [ticket for ticket, _ in engine.run_once()]

    assert answered == ["short"]


def test_short_sequences_do_not_wait_for_a_request_of_many_rows(make_sight, make_work):
    """It is due when all its rows could have been computed eight times, not one of them: it costs them all.

    While its 600 rows are on their way short ones keep arriving; each is answered in three runs, the first to the last.
    """
    engine, sight = make_sight(64)
    engine.submit("big", make_work(*[400] * 600, first=1, outputs=("last",)))
    one_row_s = PATIENCE * 400 * sight.unit_s
    start_s, runs, waited = sight.clock.now, {}, []

    while sight.clock.now < start_s + 50 * one_row_s:
        ticket = len(waited) + len(runs)
        engine.submit(ticket, make_work(5, first=2, outputs=("last",)))
        runs[ticket] = 0
        for _ in range(3):
            sight.clock.now += engine.wait_s()
            runs = {number: count + 1 for number, count in runs.items()}
            for number, _ in engine.run_once():
                assert number != "big"
                waited.append(runs.pop(number))

    assert len(waited) > 10
    assert max([*waited, *runs.values()]) <= 3


def test_sequence_that_stood_aside_ends_with_its_own_answer(make_sight, make_work, expected_of, is_same, drain):
    engine, sight = make_sight(2, run_limit_s=2e-4)
    works = {0: make_work(300, 400, states=True, seed=1)}
    engine.submit(0, works[0])
    results = []
    for number in range(1, 40):
        results += engine.run_once()
        works[number] = make_work(1 + number % 7, seed=number, states=bool(number % 2))
        engine.submit(number, works[number])
    results += drain(engine, sight.clock)

    assert len(results) == len(dict(results)) == 40
    for number, answer in results:
        assert is_same(answer, expected_of(works[number])), number
    assert engine.statistics()["models"]["sum"]["slots"] == 0


@LANES
def test_higher_priority_passes_by_a_second_a_level_and_no_more(make_sight, make_work, max_lanes):
    """A stream of the highest priority never ends: the usual one waits four seconds for it, and then leads."""
    engine, sight = make_sight(max_lanes)
    engine.submit(1, make_work(20, first=1, outputs=("last",)))
    sight.submitted(1, 20)
    arrival_s = sight.clock.now

    for number in count(2):
        engine.submit(number, make_work(5, first=number, outputs=("last",), priority=4))
        sight.submitted(number, 5, priority=4)
        sight.clock.now += 0.05
        turn(engine, sight)
        if 1 not in sight.left:
            break
        assert sight.clock.now - arrival_s < 4.2

    assert sight.clock.now - arrival_s < 4.2
