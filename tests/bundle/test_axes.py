"""What an axis says of steps: the counts that fronts leave, written as text and read again."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellgate.bundle.axes import AXIS_PATTERN, StepAxis, over_time, sizes_of, step_axis

FRONTS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), min_size=1, max_size=4)  # kernel and stride


def left_of(steps, front):
    """What windows leave, counted one by one, layer after layer."""
    for kernel, stride in front:
        steps = len(range(0, steps - kernel + 1, stride))
    return steps


def axis_of(front):
    add, divide = 0, 1
    for kernel, stride in front:
        add += divide * (stride - kernel)
        divide *= stride
    return StepAxis(add=add, divide=divide)


@given(front=FRONTS, steps=st.integers(0, 2000))
def test_one_floor_says_what_a_front_of_any_depth_leaves(front, steps):
    assert axis_of(front).size(steps) == left_of(steps, front)


@given(add=st.integers(-999_999, 999_999), divide=st.integers(1, 999_999))
def test_axis_comes_back_from_its_text(add, divide):
    axis = StepAxis(add=add, divide=divide)

    assert step_axis(str(axis)) == axis


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("T", StepAxis()),
        ("T-4", StepAxis(add=-4)),
        ("T//3", StepAxis(divide=3)),
        ("(T+1)//2", StepAxis(add=1, divide=2)),
        ("(T-65)//40", StepAxis(add=-65, divide=40)),
    ],
)
def test_texts_of_axes(text, axis):
    assert (step_axis(text), str(axis)) == (axis, text)
    assert re.fullmatch(AXIS_PATTERN, text)


@pytest.mark.parametrize(
    "text",
    ["", "A", "T-0", "T-04", "T+1", "T//0", "T//-2", "(T)//2", "(T-4)", "T-4//2", "(T-4)//2 ", "T" * 9, "T-9999999"],
)
def test_other_texts_are_none_of_a_manifest(text):
    assert re.fullmatch(AXIS_PATTERN, text) is None


@pytest.mark.parametrize("axis", ["B", 7])
def test_rows_and_sizes_are_not_over_time(axis):
    assert step_axis(axis) is None


def test_shape_for_rows_and_steps():
    assert sizes_of(("B", "(T-3)//4", 6), 2, 50) == (2, 11, 6)
    assert sizes_of((1, "B", 5), 2, 50) == (1, 2, 5)
    assert over_time(("B", "T", 4)) == StepAxis()
    assert over_time(("B", 4)) is over_time(("B",)) is over_time((1, "B", 4)) is None
