"""A run is held for company only where that pays, once at most, and not again where nobody came."""

import numpy as np
import pytest

from cellgate.serve.engine.company import Company
from cellgate.serve.engine.plan import hold_s

LONG = np.array([100])  # a run of 424 us under the linear cost: a hold is at most 42 us
GAP_S = 1e-5
LONGEST_S = 0.1 * (2e-5 + 1e-6 + 5e-6 * 100)


def decided(company, now, cost, remaining=LONG):
    return company.wait_s(now, cost, lambda: remaining)


def busy(cost, gap_s=GAP_S, now=0.0, runs=200):
    """Company that knows arrivals at this distance; the time of the last run."""
    company = Company()
    for _ in range(runs):
        now += gap_s
        company.arrived()
        company.started(now)
    return company, now


@pytest.mark.parametrize(
    ("remaining", "gap_s", "success", "expected"),
    [
        pytest.param([100], 1e-5, 1.0, 2e-5, id="the next is near: twice its distance"),
        pytest.param([100], 4e-5, 1.0, LONGEST_S, id="the next is near the limit: a tenth of the run"),
        pytest.param([100], 6e-5, 1.0, 0.0, id="the next comes too late"),
        pytest.param([100], 1e-5, 0.49, 0.0, id="nobody came lately"),
        pytest.param([], 1e-5, 1.0, 0.0, id="idle"),
        pytest.param([100] * 24, 1e-5, 1.0, 0.0, id="rows are cheap already"),
    ],
)
def test_holding_is_decided_by_what_it_costs_and_brings(make_cost, remaining, gap_s, success, expected):
    cost = make_cost()
    assert cost.cheap_rows == 24  # (4 + B) / B <= 1.1 * (4 + 64) / 64 from B = 24 on

    assert hold_s(cost, np.array(remaining, np.int64), gap_s, success) == pytest.approx(expected)


def test_first_run_after_a_quiet_time_is_not_held(make_cost):
    assert decided(Company(), 50.0, make_cost()) == 0.0


def test_run_is_held_until_its_moment_and_no_longer(make_cost):
    cost = make_cost()
    company, now = busy(cost)

    hold = decided(company, now, cost)

    assert hold == pytest.approx(2 * GAP_S, rel=0.05)
    assert decided(company, now + hold / 2, cost) == pytest.approx(hold / 2)
    assert decided(company, now + hold, cost) == pytest.approx(0.0, abs=1e-15)
    assert company.holds == 1


def test_run_is_held_once_even_where_more_arrive(make_cost):
    cost = make_cost()
    company, now = busy(cost)
    hold = decided(company, now, cost)

    for part in (0.25, 0.5, 0.75, 1.0, 5.0):
        company.arrived()
        assert decided(company, now + part * hold, cost) <= max(0.0, (1 - part) * hold) + 1e-15
    assert company.holds == 1


def test_decision_asks_for_what_waits_once_a_run(make_cost):
    cost = make_cost()
    company, now = busy(cost)
    asked = []

    for _ in range(5):
        company.wait_s(now, cost, lambda: asked.append(1) or LONG)

    assert asked == [1]


def hold_in_vain(company, now, cost):
    """One run; whether it was held."""
    held = decided(company, now, cost) > 0
    company.started(now + 1e-6)
    return held


def test_holding_in_vain_stops_by_itself(make_cost):
    cost = make_cost()
    company, now = busy(cost)

    held = [hold_in_vain(company, now, cost) for _ in range(1000)]

    assert held[0]
    assert sum(held) <= 120  # now and then it is tried again
    assert not all(held[:8])


def test_holding_comes_back_when_it_pays_again(make_cost):
    cost = make_cost()
    company, now = busy(cost)
    for _ in range(1000):
        hold_in_vain(company, now, cost)

    held = 0
    for _ in range(200):
        now += GAP_S
        held += decided(company, now, cost) > 0
        company.arrived()
        now += GAP_S
        company.started(now)

    assert held >= 150


def test_runs_without_arrivals_teach_nothing_about_arrivals(make_cost):
    cost = make_cost()
    company, now = busy(cost)

    for _ in range(3):
        company.started(now + 100.0)

    assert decided(company, now + 100.0, cost) == pytest.approx(2 * GAP_S, rel=0.05)
