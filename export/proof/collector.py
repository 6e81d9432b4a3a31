"""What the legs give over the cases, collected: results, largest errors, and how many errors are how large.

Rules of this file: it keeps what the summary needs, never the arrays. What a comparison means is in compare.py.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ...bundle.manifest import GraphSignature
from ..error_line import said_by
from .cases import Case, make_inputs
from .compare import Array, Difference, form_complaint, measure
from .findings import SERVED_LEG, CaseResult, Histogram, LegResult
from .laws import take_rows
from .leg import Leg, LegUnableError
from .oracle import Judge, Truth

_EXPONENTS = range(-40, 4)


class Collector:
    """Runs legs on cases.

    Args:
        signature: of the graph.
        legs: every implementation.

    Attributes:
        largest: error of each leg for each output, sensitive outputs left aside.
        failed: legs that gave something of another form, or nothing.
        scale: largest absolute value of each output that the oracle gave.
    """

    def __init__(self, signature: GraphSignature, legs: Sequence[Leg]) -> None:
        self._signature = signature
        self._legs = legs
        self._counts = np.zeros(len(_EXPONENTS), dtype=np.int64)
        self._exact = 0
        self.largest: dict[str, dict[str, float]] = {leg.name: {} for leg in legs}
        self.failed: set[str] = set()
        self.scale: dict[str, float] = {}

    def run_case(self, case: Case, oracle: Judge) -> CaseResult:
        """Run every leg that can run it, and hold what it gave against the oracle."""
        inputs = make_inputs(case, self._signature)
        truth = oracle.truth(inputs)
        ran = [self._run_leg(leg, inputs, truth) for leg in self._legs if not leg.complaint and leg.rows_for(inputs)]
        for name, array in truth.outputs.items():
            self.scale[name] = max(self.scale.get(name, 0.0), float(np.abs(array).max()))
        return CaseResult(
            id=case.id,
            rows=case.rows,
            steps=case.steps,
            ragged=case.ragged,
            state=case.state,
            magnitude=case.magnitude,
            sensitive=tuple(sorted(truth.sensitive)),
            legs=tuple(result for result in ran if result is not None),
        )

    def _run_leg(self, leg: Leg, inputs: dict[str, Array], truth: Truth) -> LegResult | None:
        """Run one leg and compare; None where the leg finds that it cannot judge this graph at all."""
        rows = leg.rows_for(inputs)
        try:
            found = leg.run(inputs)
        except LegUnableError:
            return None
        except Exception as err:  # noqa: BLE001 - whatever stops an implementation is a finding about it
            self.failed.add(leg.name)
            complaint = f"stopped with {said_by(err)}"
            return LegResult(leg=leg.name, rows=rows, complaint=complaint, outputs={})
        specs = tuple(spec for spec in self._signature.outputs if spec.name in leg.output_names)
        expected = take_rows(
            {spec.name: truth.outputs[spec.name] for spec in specs}, list(range(rows)), self._signature
        )
        wrong_form = form_complaint(found, expected, specs)
        differences: dict[str, Difference] = {}
        if wrong_form is not None:
            self.failed.add(leg.name)
        else:
            differences = {name: measure(found[name], expected[name], truth.tolerances[name]) for name in expected}
            self._note(leg.name, differences, truth)
            if leg.name == SERVED_LEG:
                self._count(found, expected)
        return LegResult(leg=leg.name, rows=rows, complaint=wrong_form, outputs=differences)

    def _note(self, leg: str, differences: dict[str, Difference], truth: Truth) -> None:
        for name, difference in differences.items():
            if name not in truth.sensitive:
                self.largest[leg][name] = max(self.largest[leg].get(name, 0.0), difference.max_abs)

    def _count(self, found: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
        for name, array in expected.items():
            distance = np.abs(found[name].astype(np.float64) - array.astype(np.float64)).ravel()
            self._exact += int((distance == 0).sum())
            exponents = np.floor(np.log2(distance[(distance > 0) & np.isfinite(distance)]))
            clipped = np.clip(exponents, _EXPONENTS[0], _EXPONENTS[-1]).astype(np.int64) - _EXPONENTS[0]
            self._counts += np.bincount(clipped, minlength=len(_EXPONENTS))

    def histogram(self) -> Histogram:
        """Return the errors of all values that the served leg gave."""
        return Histogram(
            exponents=tuple(_EXPONENTS), counts=tuple(int(count) for count in self._counts), exact=self._exact
        )
