"""The checker can fail: everything that can be wrong with an output is objected to."""

import re
from dataclasses import replace

import numpy as np
import pytest

from cellgate.bundle.golden import GoldenCase
from cellgate.serve.errors import EngineError
from cellgate.serve.runtime.golden_check import check_golden


def spoilt(name, change):
    return lambda found: {**found, name: change(found[name])}


def swap_gates(network):
    """The weights as somebody would load them who takes ONNX's gate order for torch's."""
    network.weights["W"] = (
        network.weights["W"].reshape(1, 4, -1, 2)[:, [0, 2, 1, 3]].reshape(network.weights["W"].shape)
    )
    return network


@pytest.mark.parametrize("kind", ["steps", "last", "tokens"])
def test_the_right_network_passes(bundles, make_fake, make_network, kind):
    result = check_golden(make_fake(make_network(kind)), bundles[kind])

    assert result.passed
    assert (result.cases, result.problems) == (2, ())
    assert [(output.output, output.worst) for output in result.outputs] == [("y", 0.0), ("h_n", 0.0), ("c_n", 0.0)]
    assert result.line() == "2 reproduced, at most 0 off"


def test_the_line_for_people_has_the_largest_difference_of_all_outputs(bundles, make_fake, make_network):
    change = spoilt("h_n", lambda h: h + np.float32(2**-20))
    result = check_golden(make_fake(make_network("steps"), change), bundles["steps"])

    assert result.passed
    assert result.line() == "2 reproduced, at most 9.5e-07 off"


def test_swapped_gates_fail(bundles, make_fake, make_network):
    result = check_golden(make_fake(swap_gates(make_network("steps"))), bundles["steps"])

    assert not result.passed
    assert "off by" in result.summary()
    assert result.summary().endswith("(allowed 1e-05)")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param(
            lambda found: {"y": found["y"]}, "expected the outputs .'c_n', 'h_n', 'y'., found .'y'.", id="dropped"
        ),
        pytest.param(lambda found: {**found, "z": found["y"]}, "expected the outputs", id="added"),
        pytest.param(
            spoilt("y", lambda y: y.astype(np.float64)), r"y: expected float32 \(1, 1, 4\), found float64", id="dtype"
        ),
        pytest.param(
            spoilt("y", lambda y: y[..., :1]), r"y: expected float32 .*, found float32 \(1, 1, 1\)", id="broadcast"
        ),
        pytest.param(spoilt("h_n", lambda h: h[0]), r"h_n: expected float32 \(1, 1, 3\)", id="rank"),
    ],
)
def test_wrong_names_dtypes_and_shapes_are_problems(bundles, make_fake, make_network, change, problem):
    result = check_golden(make_fake(make_network("steps"), change), bundles["steps"])

    assert not result.passed
    assert len(result.problems) == 2
    assert result.summary() == result.problems[0]
    assert re.search(problem, result.problems[0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_value_that_is_not_finite_never_passes(bundles, make_fake, make_network, value):
    def spoil(found):
        found["h_n"][0, -1, 2] = value
        return found

    result = check_golden(make_fake(make_network("steps"), spoil), bundles["steps"])

    error = result.outputs[1]
    assert (error.output, error.passed, error.worst) == ("h_n", False, np.inf)
    assert not result.passed


def test_infinity_where_infinity_is_expected_does_not_pass_either(bundles, make_fake, make_network):
    network = make_network("steps")
    case = bundles["steps"].golden[0]
    outputs = {**case.outputs, "y": np.full_like(case.outputs["y"], np.inf)}
    bundle = replace(bundles["steps"], golden=(GoldenCase(id="a", inputs=case.inputs, outputs=outputs),))

    result = check_golden(make_fake(network, spoilt("y", lambda y: np.full_like(y, np.inf))), bundle)

    assert not result.passed


@pytest.mark.parametrize(("error", "passed"), [(1e-5, True), (1.0001e-5, False)])
def test_worst_place_is_found_and_the_tolerance_itself_still_passes(bundles, make_fake, make_network, error, passed):
    bundle = bundles["steps"]
    shift = np.float32(2.0**-10)
    tolerances = {**bundle.manifest.tolerances, "h_n": float(shift) * 1e-5 / error}
    zeros = {name: np.zeros_like(array) for name, array in bundle.golden[1].outputs.items()}
    case = GoldenCase(id="zeros", inputs=bundle.golden[1].inputs, outputs=zeros)
    bundle = replace(bundle, golden=(case,), manifest=replace(bundle.manifest, tolerances=tolerances))

    def answer(_found):
        found = {name: array.copy() for name, array in zeros.items()}
        found["h_n"][0, 2, 1] = -shift
        return found

    result = check_golden(make_fake(make_network("steps"), answer), bundle)

    worst = result.outputs[1]
    assert (worst.worst, worst.case_id, worst.index, worst.passed) == (float(shift), "zeros", (0, 2, 1), passed)
    assert result.passed is passed


def test_worst_of_several_cases_is_kept(bundles, make_fake, make_network):
    network = make_network("steps")

    def answer(found):
        return {**found, "y": found["y"] + np.float32(0.5 if len(found["y"]) == 1 else 0.25)}

    result = check_golden(make_fake(network, answer), bundles["steps"])

    assert result.outputs[0].case_id == "one"
    assert result.summary().startswith("y off by 0.5 at [0, 0, ")


def test_runtime_that_fails_is_a_problem_and_not_an_exception(bundles, make_fake, make_network):
    def fail(_found):
        raise EngineError("broken")

    result = check_golden(make_fake(make_network("steps"), fail), bundles["steps"])

    assert result.problems == (
        "case one: expected it to run, found broken",
        "case ragged: expected it to run, found broken",
    )
    assert all(output.case_id is None and not output.passed for output in result.outputs)


def test_what_the_runtime_says_of_a_case_that_it_refuses_is_said_too(bundles, make_fake, make_network):
    def fail(_found):
        raise EngineError("refused") from RuntimeError("no kernel\nfor LSTM")

    result = check_golden(make_fake(make_network("steps"), fail), bundles["steps"])

    assert result.summary() == "case one: expected it to run, found refused: no kernel for LSTM"


def test_output_without_a_tolerance_is_a_problem(bundles, make_fake, make_network):
    manifest = replace(bundles["steps"].manifest, tolerances={"y": 1.0, "h_n": 1.0})

    result = check_golden(make_fake(make_network("steps")), replace(bundles["steps"], manifest=manifest))

    assert not result.passed
    assert result.problems[0] == "manifest.json: tolerances: expected one for c_n, found none"


def test_no_case_proves_nothing(bundles, make_fake, make_network):
    result = check_golden(make_fake(make_network("steps")), replace(bundles["steps"], golden=()))

    assert not result.passed
    assert result.summary() == "no golden case"


def test_tolerance_of_zero_asks_for_equal_bits(bundles, make_fake, make_network):
    manifest = replace(bundles["steps"].manifest, tolerances=dict.fromkeys(("y", "h_n", "c_n"), 0.0))

    result = check_golden(make_fake(make_network("steps")), replace(bundles["steps"], manifest=manifest))

    assert result.passed
    assert result.summary().endswith("(allowed 0)")


@pytest.mark.parametrize(("precision", "passed"), [("float32", False), ("tf32", True), ("float16", False)])
def test_only_tf32_that_was_asked_for_widens_the_tolerance(bundles, make_fake, make_network, precision, passed):
    network = make_network("steps")
    fake = make_fake(network, lambda found: {name: array + np.float32(1e-3) for name, array in found.items()})
    fake.facts = replace(fake.facts, precision=precision)

    assert check_golden(fake, bundles["steps"]).passed is passed


def test_tf32_does_not_hide_what_is_wrong(bundles, make_fake, make_network):
    fake = make_fake(make_network("steps"), lambda found: {name: array + 1 for name, array in found.items()})
    fake.facts = replace(fake.facts, precision="tf32")

    assert not check_golden(fake, bundles["steps"]).passed
