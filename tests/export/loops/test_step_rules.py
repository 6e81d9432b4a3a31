"""What rule numbers of steps follow."""

import math

import pytest

from cellgate.export.loops.step_rules import rule_of


@pytest.mark.parametrize(
    ("number", "form"),
    [
        (lambda t: t, "even"),
        (lambda t: 3 - 2 * t, "even"),
        (lambda t: 0.1 * t - 7, "even"),
        (lambda t: 1 / (t + 1), "under-one"),
        (lambda t: 1 / (0.5 * t + 3), "under-one"),
        (lambda t: 0.9**t, "power"),
        (lambda t: -3 * 2.0 ** (t + 1), "power"),
    ],
)
def test_a_rule_foretells_the_numbers_of_all_steps_from_a_few(number, form):
    rule = rule_of([number(t) for t in (1, 2, 3)], (1, 2, 3))

    assert rule.form == form
    for t in (0, 4, 19, 100):
        assert math.isclose(rule.at(t), number(t), rel_tol=1e-9)


def test_whole_numbers_stay_whole():
    rule = rule_of([4, 3, 2], (1, 2, 3))

    assert (rule.first, rule.by) == (5.0, -1.0)


@pytest.mark.parametrize("number", [math.sin, lambda t: t**2, lambda t: t % 2, lambda t: 1 - 0.9**t, lambda t: t > 1])
def test_other_numbers_follow_none(number):
    assert rule_of([number(t) for t in (1, 2, 3, 4)], (1, 2, 3, 4)) is None


def test_two_numbers_tell_nothing():
    assert rule_of([1, 2], (1, 2)) is None
