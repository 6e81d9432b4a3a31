"""The comparison: form before values, nothing broadcast, nothing zipped short, and NaN never passes."""

import math

import numpy as np
import pytest

from cellgate.bundle.manifest import TensorSpec
from cellgate.export.proof.compare import form_complaint, largest_difference, measure, same_bits, ulp

_SPECS = (
    TensorSpec(name="y", dtype="float32", shape=("B", 7)),
    TensorSpec(name="h_n", dtype="float32", shape=(1, "B", 3)),
)
_EXPECTED = {"y": np.zeros((4, 7)), "h_n": np.zeros((1, 4, 3))}


def _good() -> dict[str, np.ndarray]:
    return {name: array.astype(np.float32) for name, array in _EXPECTED.items()}


def test_right_form_is_not_complained_about():
    assert form_complaint(_good(), _EXPECTED, _SPECS) is None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        pytest.param({"h_n": None}, "outputs are y, expected y, h_n", id="missing"),
        pytest.param({"more": np.zeros(1)}, "outputs are y, h_n, more, expected y, h_n", id="extra"),
        pytest.param({"y": np.zeros((4, 1), np.float32)}, r"y has shape (4, 1), expected (4, 7)", id="broadcastable"),
        pytest.param({"y": np.zeros((4, 7))}, "y is float64, expected float32", id="dtype"),
    ],
)
def test_wrong_form_is_named(change, complaint):
    found = {name: array for name, array in (_good() | change).items() if array is not None}

    assert form_complaint(found, _EXPECTED, _SPECS) == complaint


def test_no_outputs_and_another_order_are_wrong_forms():
    assert form_complaint({}, _EXPECTED, _SPECS) == "outputs are none, expected y, h_n"
    assert form_complaint(dict(reversed(_good().items())), _EXPECTED, _SPECS) == "outputs are h_n, y, expected y, h_n"


def test_measure_finds_the_worst_place_and_what_stands_there():
    expected = np.array([[1.0, 2.0], [4.0, 8.0]])
    found = (expected + np.array([[0.0, 0.25], [-0.5, 0.125]])).astype(np.float32)

    difference = measure(found, expected, 0.5)

    assert (difference.max_abs, difference.index) == (0.5, (1, 0))
    assert (difference.expected, difference.found) == (4.0, 3.5)
    assert difference.ulps == 0.5 / 2**-21
    assert (difference.p50, difference.p99) == (0.25, 0.5)
    assert difference.passed


@pytest.mark.parametrize(("tolerance", "passed"), [(0.25, True), (0.2499, False)])
def test_a_difference_equal_to_the_tolerance_passes_and_a_larger_one_does_not(tolerance, passed):
    assert measure(np.float32([1.25]), np.array([1.0]), tolerance).passed is passed


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["found", "expected", "both"])
@pytest.mark.parametrize("tolerance", [1.0, math.inf])
def test_what_is_not_finite_never_passes(bad, side, tolerance):
    found = np.float32([0.0, bad if side != "expected" else 0.0])
    expected = np.array([0.0, bad if side != "found" else 0.0])

    difference = measure(found, expected, tolerance)

    assert (difference.max_abs, difference.index, difference.passed) == (math.inf, (1,), False)


def test_a_tolerance_that_is_not_a_number_passes_nothing():
    assert not measure(np.float32([1.0]), np.array([1.0]), math.nan).passed


def test_measure_does_not_broadcast():
    with pytest.raises(ValueError, match=r"found has shape \(4, 1\), expected \(4, 7\)"):
        measure(np.zeros((4, 1), np.float32), np.zeros((4, 7)), 1.0)


def test_ulp_is_the_step_to_the_next_float32():
    assert ulp(1.0) == 2.0**-23
    assert ulp(-0.75) == 2.0**-24
    assert ulp(0.0) == 2.0**-149
    assert ulp(math.inf) == ulp(math.nan) == 2.0**-23
    assert ulp(1e300) == 2.0**104


def test_bits_are_compared_not_values():
    zero, minus = {"y": np.float32([0.0])}, {"y": np.float32([-0.0])}

    assert same_bits(zero, {"y": np.float32([0.0])})
    assert not same_bits(zero, minus)
    assert not same_bits(zero, {"z": zero["y"]})
    assert not same_bits(zero, {"y": np.zeros((1, 1), np.float32)})


def test_largest_difference_is_infinite_where_shapes_differ():
    one = {"y": np.float32([1.0, 2.0]), "h_n": np.float32([0.0])}
    other = {"y": np.float32([1.0, 2.5]), "h_n": np.zeros((1, 1), np.float32)}

    assert largest_difference(one, other) == {"y": 0.5, "h_n": math.inf}
