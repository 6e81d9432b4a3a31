"""Arrays end to end on a runtime: what comes out is what the equations say."""

import numpy as np
import pytest

from cellgate.serve.errors import BadInput, EngineError
from cellgate.serve.infer.inference import infer_arrays
from cellgate.serve.runtime.device_choice import open_runtime


@pytest.fixture(scope="module", params=["steps", "last", "tokens"])
def opened(request, bundles, make_network):
    runtime = open_runtime(bundles[request.param], device="cpu", threads=1)
    yield make_network(request.param), runtime
    runtime.close()


@pytest.mark.parametrize(
    ("B", "T", "lengths"), [(1, 1, None), (2, 7, None), (4, 6, [1, 6, 3, 5])], ids=["B1-T1", "B2-T7", "ragged"]
)
def test_outputs_are_those_of_the_equations(opened, limits, B, T, lengths):
    network, runtime = opened
    feeds = network.feeds(B, T, lengths, seed=9)

    found = infer_arrays(runtime, feeds, limits, ["c_n", "y", "h_n"])

    assert list(found) == ["c_n", "y", "h_n"]
    expected = network.compute(feeds)
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-5)


def test_states_left_out_are_zero_and_lengths_left_out_are_all_steps(opened, limits):
    network, runtime = opened
    feeds = network.feeds(2, 4)
    feeds["h0"], feeds["c0"] = np.zeros_like(feeds["h0"]), np.zeros_like(feeds["c0"])

    found = infer_arrays(runtime, {network.signature.sequence: feeds[network.signature.sequence]}, limits)

    assert list(found) == ["y"]
    np.testing.assert_allclose(found["y"], network.compute(feeds)["y"], rtol=0, atol=1e-5)


def test_two_chunks_with_carried_state_equal_one_pass(opened, limits):
    network, runtime = opened
    name = network.signature.sequence
    sequence = network.feeds(2, 6)[name]
    whole = infer_arrays(runtime, {name: sequence}, limits, ["y", "h_n", "c_n"])
    first = infer_arrays(runtime, {name: sequence[:, :2]}, limits, ["h_n", "c_n"])

    carried = {"h0": first["h_n"], "c0": first["c_n"]}
    second = infer_arrays(runtime, {name: sequence[:, 2:], **carried}, limits, ["y", "h_n", "c_n"])

    for output in ("h_n", "c_n"):
        np.testing.assert_array_equal(second[output], whole[output])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_output_that_is_not_finite_is_a_fault_naming_the_output(make_fake, make_network, limits, value):
    def spoil(found):
        found["y"][0, 0, 1] = value
        return found

    network = make_network("steps")
    runtime = make_fake(network, spoil)

    with pytest.raises(EngineError, match=r"outputs\.y: expected finite values"):
        infer_arrays(runtime, {"x": network.feeds(1, 2)["x"]}, limits)


def test_output_that_nobody_asked_for_may_be_anything(make_fake, make_network, limits):
    network = make_network("steps")
    runtime = make_fake(network, lambda found: {**found, "c_n": found["c_n"] * np.nan})

    assert list(infer_arrays(runtime, {"x": network.feeds(1, 2)["x"]}, limits, ["y"])) == ["y"]


@pytest.mark.parametrize(
    "arrays",
    [
        pytest.param({"x": np.zeros((0, 3, 2), np.float32)}, id="no-rows"),
        pytest.param({"x": np.zeros((2, 0, 2), np.float32)}, id="no-steps"),
        pytest.param({"x": np.zeros((2, 3, 0), np.float32)}, id="no-features"),
        pytest.param({"x": np.full((1, 2, 2), np.nan, np.float32)}, id="nan"),
        pytest.param({"x": np.zeros((1, 2, 2), np.float32), "h0": np.full((1, 1, 3), np.inf, np.float32)}, id="inf"),
        pytest.param({"x": np.zeros((1, 2, 2), np.float32), "lengths": np.zeros(1, np.int32)}, id="length-0"),
        pytest.param({"x": np.zeros((1, 2, 2), np.float32), "lengths": np.full(1, 3, np.int32)}, id="length-T+1"),
        pytest.param({"x": np.zeros((1, 2, 2), np.float64)}, id="float64"),
        pytest.param({"x": np.zeros((1, 2, 2), object)}, id="objects"),
    ],
)
def test_what_the_runtime_must_not_see_never_reaches_it(make_fake, make_network, limits, arrays):
    runtime = make_fake(make_network("steps"))

    with pytest.raises(BadInput):
        infer_arrays(runtime, arrays, limits)

    assert runtime.runs == []
