"""Calibration finds out what runs cost, in a short time however slow the network, and leaves nothing behind."""

import numpy as np
import pytest

from cellgate.serve.engine.calibrate import calibrate
from cellgate.serve.errors import EngineError


class Machine:
    """Costs by a formula."""

    def __init__(self, seconds):
        self.seconds = seconds


@pytest.fixture
def measured(make_runtime, make_clock):
    """Calibrate over a machine on a clock that only runs move."""

    def measure(seconds, max_rows=64, *, on_device=False, **options):
        clock = make_clock(now=0.0)
        runtime = make_runtime(clock=clock, cost=Machine(seconds), **options)
        return calibrate(runtime, max_rows, clock, on_device=on_device), runtime, clock.now

    return measure


def test_costs_of_a_machine_are_found(measured):
    def seconds(B, T):
        return 3e-5 + 2e-6 * B + (4e-6 + 5e-7 * B) * T

    cost, runtime, _ = measured(seconds)

    for B in range(1, 65):
        for T in (1, 7, 100):
            assert cost.seconds(B, T) == pytest.approx(seconds(B, T), rel=1e-3)
    assert cost.max_rows == 64
    assert runtime.closed == 0


@pytest.mark.parametrize("max_rows", [1, 3, 64])
@pytest.mark.parametrize(
    ("ragged", "stateful"), [(True, True), (False, True), (False, False)], ids=["usual", "no lengths", "no state"]
)
def test_every_kind_of_network_can_be_measured(measured, max_rows, ragged, stateful):
    cost, runtime, _ = measured(lambda B, T: 1e-5 + 1e-6 * B * T, max_rows, ragged=ragged, stateful=stateful)

    assert cost.max_rows == max_rows
    assert cost.unit_s == pytest.approx(1e-6, rel=1e-3)
    assert max(len(run.rows) for run in runtime.seen) == max_rows


def test_device_that_computes_many_rows_in_the_time_of_one_is_believed_though_it_is_slow(measured):
    def seconds(B, T):
        return 4e-4 + 2e-5 * T + 1e-8 * B

    cost, _, _ = measured(seconds, on_device=True)

    assert cost.seconds(64, 50) == pytest.approx(seconds(64, 50), rel=0.01)
    assert cost.seconds(1, 50) == pytest.approx(seconds(1, 50), rel=0.01)
    assert cost.seconds(30, 200) == pytest.approx(seconds(30, 200), rel=0.01)


def test_runs_larger_than_the_caches_are_not_aimed_at(measured):
    cost, _, _ = measured(lambda B, T: 1e-5 + B * T * (1e-6 if B * T <= 1000 else 2e-6))

    assert 192 <= cost.best_row_steps <= 1000


def test_without_caches_to_leave_long_runs_are_best_for_they_share_the_fixed_cost(measured):
    cost, _, _ = measured(lambda B, T: 1e-3 + B * T * 1e-7)

    assert cost.best_row_steps >= 3000


@pytest.mark.parametrize("step_s", [1e-5, 1e-3, 1e-2, 0.2])
def test_slow_network_is_measured_less_and_not_for_long(measured, step_s):
    cost, _, took_s = measured(lambda B, T: step_s * B * T)

    assert cost.unit_s == pytest.approx(step_s, rel=1e-3)
    # Half a second for each of two parts, and what is begun then: five runs of a size for the rows that it has.
    assert took_s <= 1.0 + 5 * (2 + 32) * step_s + 5 * 96 * step_s + 5 * (2 + 32) * 64 * min(step_s, 1e-3)


def test_noise_that_only_adds_is_left_out(make_runtime, make_clock):
    values = np.random.default_rng(2)
    clock = make_clock(now=0.0)
    noisy = Machine(lambda B, T: (1e-5 + 1e-6 * B * T) * (1 + 3 * (values.random() < 0.3)))

    cost = calibrate(make_runtime(clock=clock, cost=noisy), 16, clock)

    assert cost.seconds(8, 16) == pytest.approx(1e-5 + 128e-6, rel=0.1)


def test_network_that_does_not_run_is_an_error(make_runtime, make_clock):
    def refuse(feeds):
        raise EngineError("no")

    with pytest.raises(EngineError):
        calibrate(make_runtime(fault=refuse), 4, make_clock())


@pytest.mark.parametrize(("share", "expected"), [(1.0, True), (0.5, True), (0.3, False), (0.0, False)])
def test_who_seldom_had_a_cpu_says_so(make_runtime, make_clock, share, expected):
    clock = make_clock(now=0.0)
    runtime = make_runtime(clock=clock, cost=Machine(lambda B, T: 1e-5 + 1e-6 * B * T))

    assert calibrate(runtime, 4, clock, own_clock=lambda: share * clock.now).had_cpu is expected
