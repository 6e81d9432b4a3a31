"""The cost model finds what a machine costs, is not misled by noise, and follows a machine that changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellgate.serve.engine.cost_model import CostModel, Measurement, fit

ROWS = (1, 2, 4, 8, 16, 32)
COSTS = st.floats(1e-7, 1e-3)


def timed(seconds, rows=ROWS, steps=(2, 32)):
    return [Measurement(B, K, seconds(B, K)) for B in rows for K in steps]


def refined(cost, rows, steps, seconds, runs):
    for _ in range(runs):
        cost.refine(Measurement(rows, steps, seconds))


@given(run_s=st.floats(1e-6, 1e-3), row_s=COSTS, row_step_s=COSTS)
def test_fit_finds_the_costs_of_a_linear_machine(run_s, row_s, row_step_s):
    cost = fit(timed(lambda B, K: run_s + row_s * B + row_step_s * B * K), 64)

    # The costs are differences of sums: float64 leaves 1e-16 of the largest term, 32 * 32 times the smallest.
    assert cost.run_s == pytest.approx(run_s, rel=1e-6, abs=1e-9)
    assert cost.row_s == pytest.approx(row_s, rel=1e-6, abs=1e-9)
    assert cost.step_s[1:] == pytest.approx(row_step_s * np.arange(1, 65), rel=1e-6)
    assert cost.seconds(5, 7) == pytest.approx(run_s + 5 * row_s + 35 * row_step_s, rel=1e-6)
    assert cost.unit_s == pytest.approx(row_step_s, rel=1e-6)
    assert cost.max_rows == 64


def test_rows_become_cheap_where_another_saves_less_than_a_tenth():
    cost = fit(timed(lambda B, K: (9e-6 + 1e-6 * B) * K, rows=range(1, 65)), 64)

    # (9 + B) / B <= 1.1 * (9 + 64) / 64 from B = 36 on
    assert cost.cheap_rows == 36
    assert cost.unit_s == pytest.approx((9 + 64) / 64 * 1e-6)


def test_rows_beyond_the_measured_ones_cost_in_proportion():
    cost = fit(timed(lambda B, K: 1e-6 * B * K, rows=(1, 2, 4)), 16)

    assert cost.step_s[16] == pytest.approx(4 * cost.step_s[4])


def test_measured_rows_beyond_the_table_do_no_harm():
    cost = fit(timed(lambda B, K: 1e-6 * B * K), 4)

    assert cost.max_rows == 4
    assert cost.step_s[4] == pytest.approx(4e-6)


def test_fastest_of_equal_runs_counts():
    slow = timed(lambda B, K: 1.0)
    fast = timed(lambda B, K: 1e-5 + 1e-6 * B * K)

    cost = fit([*slow, *fast, *slow], 32)

    assert cost.seconds(8, 10) == pytest.approx(9e-5)


def test_one_number_of_rows_is_enough():
    cost = fit([Measurement(1, 2, 5e-5), Measurement(1, 32, 35e-5)], 8)

    assert (cost.run_s, cost.row_s) == (pytest.approx(3e-5), 0.0)
    assert cost.seconds(8, 1) == pytest.approx(3e-5 + 8e-5)


def test_fewer_than_two_numbers_of_steps_are_refused():
    with pytest.raises(ValueError, match=r"two numbers of steps for each number of rows, found \{2: 1\.0\}"):
        fit([Measurement(1, 2, 1.0), Measurement(1, 2, 2.0)], 8)


@given(st.data())
def test_whatever_noise_says_costs_are_positive_and_more_rows_never_cheaper(data):
    seconds = st.floats(0.0, 10.0)
    found = [Measurement(B, K, data.draw(seconds)) for B in ROWS for K in (2, 32)]

    cost = fit(found, 48)

    assert cost.run_s > 0
    assert cost.row_s >= 0
    assert (cost.step_s[1:] > 0).all()
    assert (np.diff(cost.step_s[1:]) >= 0).all()


def test_one_number_of_rows_that_was_measured_too_fast_is_not_believed():
    honest = timed(lambda B, K: 1e-6 * B * K, rows=(1, 2, 4, 8, 16, 24, 32))
    lucky = [Measurement(16, 32, 16e-6 * 2 + 1e-9) if (one.rows, one.steps) == (16, 32) else one for one in honest]

    cost = fit(lucky, 32)

    each = cost.step_s[1:] / np.arange(1, 33)
    assert each.min() >= 0.8e-6 * 0.999


def machine(max_rows=16):
    return CostModel(run_s=1e-5, row_s=1e-6, step_s=2e-6 * np.arange(max_rows + 1.0))


@pytest.mark.parametrize(("factor", "sign"), [(1.5, 1), (0.7, -1)], ids=["slower", "faster"])
def test_refining_moves_towards_what_was_measured(factor, sign):
    cost = machine()
    before = cost.step_s.copy()

    refined(cost, 8, 20, factor * cost.seconds(8, 20), runs=4)

    change = sign * (cost.step_s - before)
    assert change[8] > 0
    assert 0 < change[7] < change[8]
    assert 0 < change[9] < change[8]
    assert (np.delete(change, [7, 8, 9]) == 0).all()


def test_refining_ends_at_what_is_measured():
    cost = machine()
    truth = 1.6 * cost.seconds(8, 50)

    refined(cost, 8, 50, truth, runs=2000)

    assert cost.seconds(8, 50) == pytest.approx(truth, rel=0.01)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-12, 3600.0, float("inf")])
def test_single_outlier_moves_a_cost_by_a_twentieth_at_most(seconds):
    cost = machine()
    before = cost.step_s.copy()

    refined(cost, 8, 20, seconds, runs=4)

    assert np.abs(cost.step_s[1:] / before[1:] - 1).max() <= 0.05 + 1e-12


@pytest.mark.parametrize("rows", [1, 16], ids=["first", "last"])
def test_a_run_at_the_edge_of_the_table_moves_a_cost_no_further_than_any_other(rows):
    cost = machine()
    before = cost.step_s.copy()

    refined(cost, rows, 20, 3600.0, runs=4)

    assert np.abs(cost.step_s[1:] / before[1:] - 1).max() <= 0.05 + 1e-12


def test_fixed_costs_that_were_overestimated_leave_every_step_a_positive_cost():
    cost = machine()

    refined(cost, 8, 20, 1e-9, runs=40_000)

    assert (cost.step_s[1:] > 0).all()
    assert np.isfinite(cost.step_s).all()


def test_readers_of_the_model_are_told_now_and_then_that_it_changed():
    cost = machine()

    refined(cost, 4, 4, cost.seconds(4, 4), runs=5000)

    assert 1 <= cost.version <= 50
