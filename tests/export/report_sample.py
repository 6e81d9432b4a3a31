"""Reports made by hand, for the tests of what follows from them."""

import dataclasses
import math
from typing import Any

from cellgate.export.proof.compare import Difference
from cellgate.export.proof.findings import CaseResult, Control, Growth, Histogram, LegFact, LegResult
from cellgate.export.proof.laws import LawResult
from cellgate.export.proof.report import Report


def difference(max_abs: float, tolerance: float = 1e-6, **changes: Any) -> Difference:
    made = Difference(
        max_abs=max_abs,
        index=(0, 1),
        expected=0.5,
        found=0.5 + max_abs,
        ulps=max_abs / 2**-24,
        p50=0.0,
        p90=max_abs / 2,
        p99=max_abs,
        tolerance=tolerance,
        passed=max_abs <= tolerance,
    )
    return dataclasses.replace(made, **changes)


def leg(name: str = "onnxruntime", complaint: str | None = None, **outputs: Difference) -> LegResult:
    return LegResult(leg=name, rows=2, complaint=complaint, outputs=outputs)


def case(name: str, *legs: LegResult, **changes: Any) -> CaseResult:
    made = CaseResult(
        id=name, rows=2, steps=3, ragged=False, state="zero", magnitude="normal", sensitive=(), legs=tuple(legs)
    )
    return dataclasses.replace(made, **changes)


def law(name: str, **changes: Any) -> LawResult:
    made = LawResult(name=name, statement=f"{name} does not matter", applies=True, comparisons=3, tolerance=1e-6)
    return dataclasses.replace(made, **changes)


LAWS = (law("alone"), law("padding"), law("order"), law("chunks"))


def report(*cases: CaseResult, **changes: Any) -> Report:
    cases = cases or (
        case("B1-T1", leg("eager", y=difference(1e-7)), leg(y=difference(2e-7))),
        case("B2-T3", leg("eager", y=difference(3e-7)), leg(y=difference(5e-7))),
    )
    made = Report(
        network={"kind": "SequenceModel", "parameters": 1234, "hidden_dim": [4], "front": None},
        oracle="NumPy float64, from the equations",
        legs=(
            LegFact(name="eager", complaint="", max_abs={"y": 3e-7}),
            LegFact(name="onnxruntime", complaint="", max_abs={"y": 5e-7}),
            LegFact(name="torch.nn", complaint="not applicable: <peepholes>", max_abs={}),
        ),
        cases=tuple(cases),
        laws=LAWS,
        growth=(
            Growth(steps=1, tolerance=1e-6, max_abs={"eager": 0.0, "onnxruntime": 1e-7}),
            Growth(steps=50, tolerance=2e-6, max_abs={"eager": 2e-7, "onnxruntime": math.inf}),
        ),
        histogram=Histogram(exponents=(-26, -25, -24, -23), counts=(0, 5, 3, 0), exact=2),
        control=Control(complaint="", ours={"y": 5e-7}, theirs={"y": 3e-7}, bound={"y": 6.6e-7}, passed=True),
        tools={"torch": "2.13.0", "numpy": "2"},
    )
    return dataclasses.replace(made, **changes)
