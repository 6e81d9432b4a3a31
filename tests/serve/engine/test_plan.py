"""The planner: whatever waits, its decision is possible, allowed, and the best of those it looks at."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellgate.serve.engine.cost_model import CostModel, Measurement
from cellgate.serve.engine.plan import FINISH_BONUS, PATIENCE, POOL_ROWS, PRIORITY_CREDIT_S, Planner, RunRules, due_s

UNLIMITED = {"run_limit_s": 1e9, "step_budget": 2**50}


@st.composite
def costs(draw, max_rows=64):
    """Any machine: fixed costs, and steps that cost no less for more rows."""
    run_s, row_s = draw(st.floats(1e-6, 1e-2)), draw(st.floats(0.0, 1e-4))
    first, more = draw(st.floats(1e-7, 1e-4)), draw(st.lists(st.floats(0.0, 1e-4), min_size=8, max_size=8))
    step_s = first + np.concatenate(([0.0, 0.0], np.cumsum(np.resize(more, max_rows - 1))))
    return CostModel(run_s=run_s, row_s=row_s, step_s=step_s, best_row_steps=2**50)


@st.composite
def situations(draw, most=24, longest=2000):
    """What is left of each sequence, ascending, and the place of the leader."""
    few = st.integers(1, 6)  # many equal ones, too
    found = draw(st.lists(few | st.integers(1, longest), min_size=1, max_size=most))
    return np.array(sorted(found)), draw(st.integers(0, len(found) - 1))


def rules(stoppable=True, ragged=True, **changes):
    return RunRules(stoppable=stoppable, ragged=ragged, **{**UNLIMITED, **changes})


KINDS = pytest.mark.parametrize(
    ("stoppable", "ragged"),
    list(itertools.product((True, False), repeat=2)),
    ids=["lanes", "lanes of equal length", "whole sequences", "whole sequences of equal length"],
)


def score(cost, remaining, first, stop, steps):
    """Useful steps in seconds of the best machine, and a bonus for each that ends, for each predicted second."""
    unit_s = min(cost.step_s[rows] / rows for rows in range(1, cost.max_rows + 1))
    worth = 0.0
    for left in remaining[first:stop]:
        worth += unit_s * min(int(left), steps)
        worth += FINISH_BONUS * (cost.run_s + cost.row_s) if left <= steps else 0.0
    rows = stop - first
    return worth / (cost.run_s + cost.row_s * rows + cost.step_s[rows] * steps)


def useful_rate(cost, remaining, run):
    useful = sum(min(int(left), run.steps) for left in remaining[run.first : run.stop])
    return useful / cost.seconds(run.stop - run.first, run.steps)


def possible_runs(remaining, leader, rules):
    """Every run of the two kinds that the rules allow: (first, stop, steps)."""
    count = len(remaining)
    for i in range(leader + 1):
        for k in range(leader, count):
            rows, steps = k + 1 - i, int(remaining[k])
            fits = rules.stoppable or rows * steps <= rules.step_budget or rows == 1
            if fits and (rules.ragged or remaining[i] == remaining[k]):
                yield i, k + 1, steps
        for k in range(i, count):
            steps = int(remaining[k])
            if rules.stoppable and (rules.ragged or remaining[i] >= steps):
                yield i, count, steps


@KINDS
@given(cost=costs(), situation=situations(most=POOL_ROWS, longest=100_000), data=st.data())
def test_every_decision_is_possible_and_keeps_the_rules(stoppable, ragged, cost, situation, data):
    remaining, leader = situation
    cost.best_row_steps = data.draw(st.integers(1, 2**20))
    limit = rules(
        stoppable, ragged, run_limit_s=data.draw(st.floats(1e-6, 1.0)), step_budget=data.draw(st.integers(1, 2**20))
    )
    before = remaining.copy()

    run = Planner(cost, limit, POOL_ROWS).choose_run(remaining, leader)

    rows = remaining[run.first : run.stop]
    assert 0 <= run.first <= leader < run.stop <= len(remaining)
    assert 1 <= run.steps <= rows[-1]
    assert (remaining == before).all()
    if stoppable:
        assert run.steps == 1 or cost.step_s[len(rows)] * run.steps <= limit.run_limit_s
        assert run.steps == 1 or len(rows) * run.steps <= min(limit.step_budget, cost.best_row_steps)
    else:
        assert run.steps == rows[-1]  # all of them to their end
        assert len(rows) == 1 or len(rows) * run.steps <= limit.step_budget
    if not ragged:
        assert rows[0] >= run.steps  # nobody is shorter than the run


@KINDS
@settings(max_examples=150)
@given(cost=costs(), situation=situations(), budget=st.sampled_from([2**50, 500, 3]))
def test_decision_is_the_best_of_all_runs_that_are_possible(stoppable, ragged, cost, situation, budget):
    remaining, leader = situation
    limit = rules(stoppable, ragged, step_budget=2**50 if stoppable else budget)

    run = Planner(cost, limit, POOL_ROWS).choose_run(remaining, leader)

    found = {one: score(cost, remaining, *one) for one in possible_runs(remaining, leader, limit)}
    # Sums in another order: 64 additions of float64 differ by 1e-14 at most, relative to the sum before a difference
    # of two of them; the rest of a cumulated sum may be 1e5 times larger than the difference.
    assert (run.first, run.stop, run.steps) in found
    assert found[run.first, run.stop, run.steps] == pytest.approx(max(found.values()), rel=1e-8)


@KINDS
@settings(max_examples=150)
@given(cost=costs(), situation=situations())
def test_company_never_makes_a_run_worth_less_than_the_leader_alone(stoppable, ragged, cost, situation):
    remaining, leader = situation

    run = Planner(cost, rules(stoppable, ragged), POOL_ROWS).choose_run(remaining, leader)

    alone = score(cost, remaining, leader, leader + 1, int(remaining[leader]))
    assert score(cost, remaining, run.first, run.stop, run.steps) >= alone * (1 - 1e-8)


def test_company_is_useful_where_rows_are_nearly_free(make_cost):
    planner = Planner(make_cost(row_s=0.0, row_step_s=1e-9), rules(), POOL_ROWS)

    run = planner.choose_run(np.full(20, 30), 11)

    assert (run.first, run.stop, run.steps) == (0, 20, 30)


def test_short_one_does_not_run_padded_to_a_long_one(make_cost):
    planner = Planner(make_cost(), rules(), POOL_ROWS)

    run = planner.choose_run(np.array([3, 4, 4, 900]), 0)

    assert run.steps <= 4


def test_whole_sequences_run_with_those_of_similar_length(make_cost):
    planner = Planner(make_cost(step_s=4e-6), rules(stoppable=False), POOL_ROWS)

    run = planner.choose_run(np.array([10, 11, 12, 500, 510, 520]), 4)

    assert (run.first, run.stop, run.steps) == (3, 6, 520)


def test_most_rows_are_those_of_the_lanes_the_cost_model_and_the_pool(make_cost):
    assert Planner(make_cost(), rules(), 7).max_rows == 7
    assert Planner(make_cost(max_rows=5), rules(), 7).max_rows == 5
    assert Planner(make_cost(max_rows=500), rules(), 500).max_rows == POOL_ROWS


def test_planner_follows_the_cost_model_when_it_is_told_of_a_change():
    """A machine where company paid and then costs dearly: the leader ends up alone."""
    cost = CostModel(run_s=1e-6, row_s=0.0, step_s=np.full(3, 1e-5))
    planner = Planner(cost, rules(), 2)
    assert planner.choose_run(np.array([50, 50]), 0).stop == 2

    for _ in range(6000):
        cost.refine(Measurement(2, 50, 1.0))
    run = planner.choose_run(np.array([50, 50]), 0)

    assert run.stop - run.first == 1


@given(steps=st.integers(1, 10**6), shorter=st.integers(1, 10**6), arrival_s=st.floats(0, 1e6))
def test_of_two_that_arrive_together_the_shorter_is_due_first(steps, shorter, arrival_s):
    due = due_s(arrival_s, steps, 0, 1e-3)

    assert due == pytest.approx(arrival_s + PATIENCE * steps * 1e-3)
    assert (due_s(arrival_s, shorter, 0, 1e-3) <= due) == (shorter <= steps)


@given(level=st.integers(-9, 9), steps=st.integers(1, 10**4), later_s=st.floats(0, 100))
def test_a_level_of_priority_is_worth_a_bounded_time_and_no_more(level, steps, later_s):
    usual, other = due_s(5.0, steps, 0, 1e-6), due_s(5.0 + later_s, steps, level, 1e-6)

    assert other - usual == pytest.approx(later_s - level * PRIORITY_CREDIT_S, abs=1e-9)
