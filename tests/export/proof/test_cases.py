"""The grid: what it holds for each kind of signature, and that a case is the same wherever it is made."""

from dataclasses import replace

import numpy as np
import pytest

from cellgate.bundle.manifest import GraphSignature, StatePair, TensorSpec
from cellgate.export.proof.cases import Case, golden_cases, grid, make_inputs


def _signature(*, lengths: bool = True, state: bool = True, tokens: bool = False) -> GraphSignature:
    sequence = (
        TensorSpec(name="tokens", dtype="int64", shape=("B", "T"))
        if tokens
        else TensorSpec(name="x", dtype="float32", shape=("B", "T", 3))
    )
    inputs, outputs = [sequence], [TensorSpec(name="y", dtype="float32", shape=("B", "T", 2))]
    if lengths:
        inputs.append(TensorSpec(name="lengths", dtype="int32", shape=("B",)))
    pairs = []
    for name in ("h", "count") if state else ():
        inputs.append(TensorSpec(name=f"{name}0", dtype="float32", shape=(1, "B", 4)))
        outputs.append(TensorSpec(name=f"{name}_n", dtype="float32", shape=(1, "B", 4)))
        pairs.append(StatePair(input=f"{name}0", output=f"{name}_n"))
    return GraphSignature(
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        sequence=sequence.name,
        lengths="lengths" if lengths else None,
        state=tuple(pairs),
        vocabulary_size=50 if tokens else None,
    )


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("lengths", [False, True])
def test_every_grid_has_unique_names_and_more_than_a_thousand_sequences(lengths, state, tokens):
    cases = grid(_signature(lengths=lengths, state=state, tokens=tokens))

    assert len({case.id for case in cases}) == len(cases)
    assert sum(case.rows for case in cases) > 1000


def test_grid_covers_the_shapes_states_and_magnitudes_that_have_broken_others():
    cases = grid(_signature())

    assert {1, 2, 7} <= {case.rows for case in cases}
    assert {1, 2, 17, 10_000} <= {case.steps for case in cases}
    assert {case.state for case in cases} == {"zero", "random", "large"}
    assert {case.magnitude for case in cases} == {"normal", "zeros", "denormal", "saturated"}
    assert {case.ragged for case in cases} == {False, True}


def test_grid_without_lengths_and_states_has_neither_ragged_nor_stateful_cases():
    cases = grid(_signature(lengths=False, state=False))

    assert not any(case.ragged for case in cases)
    assert {case.state for case in cases} == {"zero"}


def test_grid_of_tokens_has_no_magnitudes():
    assert {case.magnitude for case in grid(_signature(tokens=True))} == {"normal"}


def test_drift_is_as_long_as_asked():
    assert grid(_signature(), drift_steps=50)[-1] == Case(id="B1-T50", rows=1, steps=50)


def test_inputs_are_the_same_each_time_and_differ_between_cases():
    signature = _signature()
    first, second = grid(signature)[5:7]

    once, again, other = make_inputs(first, signature), make_inputs(first, signature), make_inputs(second, signature)

    assert all(once[name].tobytes() == again[name].tobytes() for name in once)
    assert once["x"].tobytes() != other["x"].tobytes()


@pytest.mark.parametrize("case", grid(_signature(), drift_steps=50), ids=lambda case: case.id)
def test_inputs_have_the_names_order_shapes_and_dtypes_of_the_signature(case):
    signature = _signature()

    inputs = make_inputs(case, signature)

    assert list(inputs) == [spec.name for spec in signature.inputs]
    for spec in signature.inputs:
        sizes = {"B": case.rows, "T": case.steps}
        assert inputs[spec.name].shape == tuple(sizes.get(axis, axis) for axis in spec.shape)
        assert inputs[spec.name].dtype == spec.dtype
        assert np.isfinite(inputs[spec.name]).all()


def test_ragged_lengths_reach_from_one_to_all_steps():
    lengths = make_inputs(Case(id="r", rows=7, steps=9, ragged=True), _signature())["lengths"]

    assert (lengths[0], lengths[-1]) == (9, 1)
    assert ((lengths >= 1) & (lengths <= 9)).all()


def test_lengths_are_all_steps_where_the_case_is_not_ragged():
    assert make_inputs(Case(id="r", rows=3, steps=9), _signature())["lengths"].tolist() == [9, 9, 9]


def test_tokens_stay_in_the_vocabulary():
    tokens = make_inputs(Case(id="t", rows=20, steps=30), _signature(tokens=True))["tokens"]

    assert tokens.min() >= 0
    assert tokens.max() < 50


def test_magnitudes_are_what_they_say():
    def largest(magnitude: str) -> float:
        case = Case(id="m", rows=4, steps=8, magnitude=magnitude)
        return float(np.abs(make_inputs(case, _signature())["x"]).max())

    assert largest("zeros") == 0.0
    assert 0.0 < largest("denormal") < np.finfo(np.float32).tiny
    assert largest("saturated") > 1e4


def test_states_are_zero_normal_or_large_and_a_count_is_whole():
    def state(kind: str) -> dict[str, np.ndarray]:
        return make_inputs(Case(id="s", rows=50, steps=1, state=kind), _signature())

    assert not state("zero")["h0"].any()
    assert not state("zero")["count0"].any()
    assert np.array_equal(state("large")["h0"], 16 * state("random")["h0"])
    assert set(state("random")["count0"].ravel().tolist()) == {3.0}


def test_golden_cases_are_few_small_and_unlike_each_other():
    chosen = golden_cases(grid(_signature()))

    assert [case.id for case in chosen] == [
        "B1-T1", "B3-T7-random", "B3-T7-ragged-random", "B5-T17", "B5-T17-ragged", "B2-T24-zeros"
    ]  # fmt: skip


def test_a_grid_without_the_usual_golden_cases_gives_its_first_ones():
    cases = tuple(case for case in grid(_signature()) if case.rows > 5)

    assert golden_cases(cases) == cases[:3]


def test_cases_of_a_network_that_needs_several_steps_have_as_many_more():
    """Names tell the steps, so that a case is run again by its name."""
    usual = grid(replace(_signature(state=False)), drift_steps=50)
    cases = grid(replace(_signature(state=False), least_steps=5), drift_steps=50)

    assert [case.steps for case in cases[:-1]] == [case.steps + 4 for case in usual[:-1]]
    assert cases[-1].steps == 50
    assert {case.id.partition("-T")[2].partition("-")[0] for case in cases} == {str(case.steps) for case in cases}
    for case in cases:
        lengths = make_inputs(case, replace(_signature(state=False), least_steps=5))["lengths"]
        assert lengths.min() >= 5
        assert lengths.max() == case.steps
    assert [case.id for case in golden_cases(cases)] == ["B1-T5", "B5-T21", "B5-T21-ragged", "B2-T28-zeros"]


def test_longest_case_has_at_least_the_steps_that_are_needed():
    assert grid(replace(_signature(state=False), least_steps=90), drift_steps=50)[-1].steps == 90


def test_no_case_has_more_steps_than_the_network_takes():
    signature = replace(_signature(state=False), most_steps=40)
    cases = grid(signature)

    assert max(case.steps for case in cases) == cases[-1].steps == 40
    assert len({case.id for case in cases}) == len(cases)
    assert golden_cases(cases) == golden_cases(grid(_signature(state=False)))


def test_further_steps_are_cases_of_their_own_where_no_other_has_them():
    cases = grid(_signature(), drift_steps=50, further_steps=range(1, 6))

    assert [case.id for case in cases if case not in grid(_signature(), drift_steps=50)] == ["B2-T4", "B2-T5"]
