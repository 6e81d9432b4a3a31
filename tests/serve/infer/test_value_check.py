"""Values against a signature, and the feeds made of them. No runtime, no JSON."""

import re
from dataclasses import replace

import numpy as np
import pytest

from cellgate.bundle.columns import ColumnSpec
from cellgate.bundle.manifest import TensorSpec
from cellgate.serve.errors import BadInput
from cellgate.serve.infer.input_check import BatchSize
from cellgate.serve.infer.value_check import complete_feeds


def test_feeds_hold_every_input_in_its_dtype_and_layout(steps):
    given = np.arange(12, dtype=np.float32).reshape(2, 3, 2).transpose(1, 0, 2)
    arrays = {"x": given, "lengths": np.array([1, 2, 2]), "c0": np.ones((1, 3, 3), np.float32)}

    feeds = complete_feeds(steps, arrays, BatchSize(3, 2))

    assert {name: (array.dtype.name, array.shape) for name, array in feeds.items()} == {
        "x": ("float32", (3, 2, 2)),
        "lengths": ("int32", (3,)),
        "h0": ("float32", (1, 3, 3)),
        "c0": ("float32", (1, 3, 3)),
    }
    assert all(array.flags.c_contiguous for array in feeds.values())
    np.testing.assert_array_equal(feeds["x"], given)
    np.testing.assert_array_equal(feeds["lengths"], [1, 2, 2])
    assert not feeds["h0"].any()


@pytest.mark.parametrize("bad", [0, -1, 3, 2**40, -(2**31)])
def test_length_outside_range_is_refused_with_its_place(steps, bad):
    arrays = {"x": np.zeros((2, 2, 2), np.float32), "lengths": np.array([2, bad])}

    with pytest.raises(BadInput, match=rf"inputs\.lengths: expected values in 1 .. 2, found {bad} at \[1\]"):
        complete_feeds(steps, arrays, BatchSize(2, 2))


@pytest.mark.parametrize("name", ["x", "h0", "c0"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_value_that_is_not_finite_is_refused_with_its_place(steps, name, bad):
    arrays = {"x": np.zeros((1, 2, 2), np.float32), "h0": np.zeros((1, 1, 3), np.float32)}
    arrays["c0"] = arrays["h0"].copy()
    arrays[name][0, 0, 1] = bad

    with pytest.raises(BadInput, match=rf"inputs\.{name}: expected finite values, found {bad} at \[0, 0, 1\]"):
        complete_feeds(steps, arrays, BatchSize(1, 2))


@pytest.mark.parametrize("bad", [-1, 5, 2**62])
def test_token_outside_the_vocabulary_is_refused_with_its_place(tokens, bad):
    with pytest.raises(BadInput, match=rf"inputs\.tokens: expected values in 0 .. 4, found {bad} at \[0, 1\]"):
        complete_feeds(tokens, {"tokens": np.array([[4, bad]])}, BatchSize(1, 2))


def test_network_without_lengths_takes_them_where_all_rows_are_full(tokens):
    arrays = {"tokens": np.zeros((2, 3), np.int64), "lengths": np.array([3, 3])}

    feeds = complete_feeds(tokens, arrays, BatchSize(2, 3))

    assert "lengths" not in feeds


def test_network_without_lengths_refuses_shorter_rows_and_says_why(tokens):
    arrays = {"tokens": np.zeros((2, 3), np.int64), "lengths": np.array([3, 2])}

    with pytest.raises(BadInput, match=r"values in 3 .. 3, found 2 at \[1\]; this network takes no lengths"):
        complete_feeds(tokens, arrays, BatchSize(2, 3))


def test_state_of_integers_is_held_to_its_range(steps):
    count = TensorSpec(name="h0", dtype="int32", shape=("B",))
    signature = replace(steps, inputs=(*steps.inputs[:2], count))
    arrays = {"x": np.zeros((1, 1, 2), np.float32), "h0": np.array([2**31])}

    with pytest.raises(BadInput, match=r"inputs\.h0: expected values in -2147483648 .. 2147483647"):
        complete_feeds(signature, arrays, BatchSize(1, 1))


def test_number_that_a_column_does_not_take_is_refused_with_its_input_and_place(steps):
    columns = (ColumnSpec(name="delta", width=1, values="not negative"), ColumnSpec(name="on", width=1, values="mark"))
    signature = replace(steps, columns=columns)
    good = np.array([[[0.5, 1.0], [0.0, 0.0]]], np.float32)

    assert complete_feeds(signature, {"x": good}, BatchSize(1, 2))["x"] is good
    for place, bad, said in [
        ((0, 1, 0), -0.5, "numbers of 0 or more in the columns of delta, found -0.5 at [0, 1, 0]"),
        ((0, 0, 1), 0.25, "0 or 1 in the columns of on, found 0.25 at [0, 0, 1]"),
    ]:
        x = good.copy()
        x[place] = bad
        with pytest.raises(BadInput, match=re.escape(f"inputs.x: expected {said}")):
            complete_feeds(signature, {"x": x}, BatchSize(1, 2))
