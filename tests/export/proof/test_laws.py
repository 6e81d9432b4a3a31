"""The laws: each is kept by a right leg, and each is broken by a leg that breaks just that one."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from cellgate.export.exportable import Exportable, prepare
from cellgate.export.proof.cases import Case, make_inputs
from cellgate.export.proof.compare import same_bits
from cellgate.export.proof.laws import check_laws, run_in_chunks, splits, take_rows, take_steps
from cellgate.export.proof.oracle import Oracle, Truth
from cellgate.export.proof.torch_legs import EagerLeg
from cellgate.model import SequenceModel


@pytest.fixture(scope="module")
def exportable() -> Exportable:
    torch.manual_seed(1)
    return prepare(SequenceModel(3, 5, 2, reads="every_step"))


class _Leg:
    """The network itself, but for what a test puts wrong."""

    name, complaint = "wrong", ""

    def __init__(self, exportable: Exportable) -> None:
        self._right = EagerLeg(exportable)
        self.output_names = self._right.output_names

    def rows_for(self, inputs: Mapping[str, np.ndarray]) -> int:
        return self._right.rows_for(inputs)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self._right.run(inputs)


class _MatesMatter(_Leg):
    def run(self, inputs):
        found = super().run(inputs)
        return found | {"y": found["y"] + np.float32(1e-3 * (len(inputs["x"]) - 1))}


class _PaddingMatters(_Leg):
    def run(self, inputs):
        found = super().run(inputs)
        padding = (inputs["x"].shape[1] - inputs["lengths"]).astype(np.float32)
        return found | {"h_n": found["h_n"] + 1e-3 * padding[np.newaxis, :, np.newaxis]}


class _OrderMatters(_Leg):
    def run(self, inputs):
        found = super().run(inputs)
        places = np.arange(len(inputs["x"]), dtype=np.float32)
        return found | {"c_n": found["c_n"] + 1e-3 * places[np.newaxis, :, np.newaxis]}


class _StateIsLost(_Leg):
    def run(self, inputs):
        return super().run({**inputs, "h0": np.zeros_like(inputs["h0"])})


class _LastBitOfPairs(_Leg):
    """Right within any tolerance, with another last bit in batches, as vectorised code may be."""

    def run(self, inputs):
        found = super().run(inputs)
        return found | {"y": np.nextafter(found["y"], np.float32(9))} if len(inputs["x"]) > 1 else found


def _laws(leg: _Leg, exportable: Exportable) -> dict[str, bool]:
    return {law.name: law.passed for law in check_laws(leg, exportable.signature, Oracle(exportable))}


def test_a_right_leg_keeps_every_law(exportable):
    laws = check_laws(_Leg(exportable), exportable.signature, Oracle(exportable))

    assert [law.name for law in laws] == ["alone", "padding", "order", "chunks"]
    assert all(law.applies and law.passed and law.max_abs <= law.tolerance for law in laws)
    assert [law.comparisons for law in laws] == [7, 7, 3, 23 + 200]


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("leg", "broken"),
    [
        pytest.param(_MatesMatter, {"alone", "padding"}, id="mates"),
        pytest.param(_PaddingMatters, {"padding"}, id="padding"),
        pytest.param(_OrderMatters, {"alone", "padding", "order", "chunks"}, id="order"),
        pytest.param(_StateIsLost, {"chunks"}, id="state"),
    ],
)
def test_a_leg_that_breaks_a_law_is_found_out(leg, broken, exportable):
    assert {name for name, passed in _laws(leg(exportable), exportable).items() if not passed} == broken


def test_a_leg_that_stops_has_broken_the_law_and_says_with_what(exportable):
    class StopsAlone(_Leg):
        def run(self, inputs):
            if len(inputs["x"]) == 1:
                raise ValueError("a row alone")
            return super().run(inputs)

    laws = {law.name: law for law in check_laws(StopsAlone(exportable), exportable.signature, Oracle(exportable))}

    assert {name for name, law in laws.items() if law.complaint} == {"alone", "padding"}
    assert laws["alone"].complaint == "stopped with ValueError: a row alone"
    assert not laws["alone"].passed
    assert not laws["alone"].bitwise
    assert laws["order"].passed


def test_what_a_broken_law_shows_is_beyond_its_tolerance_whatever_else_differs_more():
    class Strict:
        name = "a tolerance for each output"

        def truth(self, inputs):
            return Truth(outputs={}, tolerances={"y": 1.0, "h_n": 0.01, "c_n": 1.0}, sensitive=frozenset())

    class Wrong(_Leg):
        def run(self, inputs):
            found, mates = super().run(inputs), np.float32(len(inputs["x"]) - 1)
            return found | {"y": found["y"] + 0.1 * mates, "h_n": found["h_n"] + 0.01 * mates}

    exportable = prepare(SequenceModel(3, 5, 2))
    alone = check_laws(Wrong(exportable), exportable.signature, Strict())[0]

    assert not alone.passed
    assert (alone.max_abs, alone.tolerance) == (pytest.approx(0.06, rel=1e-3), 0.01)


def test_another_last_bit_is_within_the_law_but_not_bitwise(exportable):
    laws = {law.name: law for law in check_laws(_LastBitOfPairs(exportable), exportable.signature, Oracle(exportable))}

    assert laws["alone"].passed
    assert not laws["alone"].bitwise
    assert 0 < laws["alone"].max_abs < 1e-6


@pytest.mark.parametrize(
    ("changes", "absent"),
    [({"lengths": None}, {"padding"}), ({"state": ()}, {"chunks"})],
    ids=["no-lengths", "no-state"],
)
def test_laws_that_the_signature_does_not_allow_do_not_apply(changes, absent, exportable):
    signature = dataclasses.replace(exportable.signature, **changes)
    if "lengths" in changes:
        signature = dataclasses.replace(
            signature, inputs=tuple(spec for spec in signature.inputs if spec.name != "lengths")
        )
        leg: _Leg = _WithoutLengths(exportable)
    else:
        leg = _Leg(exportable)

    laws = check_laws(leg, signature, _Everything())

    assert {law.name for law in laws if not law.applies} == absent
    assert not any(law.bitwise for law in laws if not law.applies)


class _WithoutLengths(_Leg):
    def run(self, inputs):
        rows, steps = inputs["x"].shape[:2]
        return super().run({"x": inputs["x"], "lengths": np.full(rows, steps, np.int32), **inputs})


class _Everything:
    """An oracle that allows everything."""

    tolerances = {"y": 1.0, "h_n": 1.0, "c_n": 1.0}  # noqa: RUF012 - never changed

    def truth(self, inputs):
        return self


def test_cuts_hold_every_split_in_two_and_are_always_increasing():
    cuts = list(splits())

    assert [c for c in cuts if len(c) == 3][:23] == [[0, k, 24] for k in range(1, 24)]
    assert len(cuts) == 223
    assert all(c[0] == 0 and c[-1] == 24 and sorted(set(c)) == c for c in cuts)
    assert cuts == list(splits())


def test_chunks_join_y_and_carry_the_state(exportable):
    leg = _Leg(exportable)
    inputs = make_inputs(Case(id="chunks", rows=2, steps=9, state="random"), exportable.signature)

    assert same_bits(run_in_chunks(leg, inputs, [0, 9], exportable.signature), leg.run(inputs))
    joined = run_in_chunks(leg, inputs, [0, 1, 4, 9], exportable.signature)
    assert joined["y"].shape == (2, 9, 2)
    assert np.abs(joined["h_n"] - leg.run(inputs)["h_n"]).max() < 1e-6


def test_chunks_of_a_last_step_reader_give_the_last_one():
    torch.manual_seed(2)
    last = prepare(SequenceModel(3, 5, 2, reads="last_step"))
    inputs = make_inputs(Case(id="chunks", rows=2, steps=9, state="random"), last.signature)

    joined = run_in_chunks(EagerLeg(last), inputs, [0, 4, 9], last.signature)

    assert np.abs(joined["y"] - EagerLeg(last).run(inputs)["y"]).max() < 1e-6


def test_rows_and_steps_are_taken_by_the_axes_of_the_signature(exportable):
    signature = exportable.signature
    inputs = make_inputs(Case(id="t", rows=3, steps=6, ragged=True, state="random"), signature)

    rows = take_rows(inputs, [2, 0], signature)
    steps = take_steps(inputs, 2, 5, signature)

    assert np.array_equal(rows["x"], inputs["x"][[2, 0]])
    assert np.array_equal(rows["c0"], inputs["c0"][:, [2, 0]])
    assert np.array_equal(steps["x"], inputs["x"][:, 2:5])
    assert steps["lengths"].tolist() == [3, 3, 3]
    assert np.array_equal(steps["h0"], inputs["h0"])
