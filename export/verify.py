"""Verify a network: every leg over every case against the float64 oracle, the laws, the growth over time, the control.

Rules of this file: it runs and collects; what a comparison means is in compare.py, what follows from it in report.py.
"""

import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from ..bundle.manifest import GraphSignature, SessionOptions
from .cases import Case, grid, make_inputs
from .compare import Array, Difference, form_complaint, measure, ulp
from .exportable import Exportable
from .laws import LAW_CASES, check_laws, take_rows, take_steps
from .legs import (
    ControlLeg,
    EagerLeg,
    Leg,
    LegUnableError,
    ReferenceLeg,
    RuntimeLeg,
    ScriptLeg,
    first_line,
)
from .oracle import Judge, Oracle, Truth
from .report import SERVED_LEG, CaseResult, Control, Growth, Histogram, LegFact, LegResult, Report, VariantResult
from .torchscript import Scripted

Progress = Callable[[str, int, int], None]  # (what is being done, how much of it is done, how much there is)
_GROWTH_STEPS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)
_EXPONENTS = range(-40, 4)


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyOptions:
    """How much to verify.

    Attributes:
        drift_steps: of the longest sequence.
        only_case: the id of one case to run alone, or "laws-" and the name of a law for the laws alone.
        threads: of the runtime; 0 for its own choice.
    """

    drift_steps: int = 10_000
    only_case: str | None = None
    threads: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    """Who is held against what.

    Attributes:
        signature: of the graph.
        description: of the network, for the report.
        oracle: says what is right, and how far float32 may be from it.
        legs: every implementation.
        served: the one of them that is served, whose laws are checked.
        grown: those whose growth over time is measured.
        no_control: why there is no torch.nn layer to compare with; "" where there is.
        variants: legs of other graphs of the bundle by file name, whose laws are checked too.
    """

    signature: GraphSignature
    description: dict[str, Any]
    oracle: Judge
    legs: tuple[Leg, ...]
    served: Leg
    grown: tuple[Leg, ...]
    no_control: str
    variants: Mapping[str, Leg] = field(default_factory=dict)


def verify(
    exportable: Exportable,
    model: bytes,
    scripted: Scripted,
    session: SessionOptions,
    options: VerifyOptions | None = None,
    progress: Progress = lambda *_: None,
    variants: Mapping[str, bytes] | None = None,
) -> Report:
    """Run the whole verification.

    Args:
        exportable: the network in eager form, and its signature.
        model: ONNX bytes.
        scripted: TorchScript, or the reason why there is none.
        session: the options with which the bundle will be served.
        options: see VerifyOptions.
        progress: called with what is being done.
        variants: other graphs of the same network, by file name.

    Raises:
        ValueError: ``only_case`` names no case; the message lists them.
    """
    options = options or VerifyOptions()
    signature = exportable.signature
    eager = EagerLeg(exportable)
    served = RuntimeLeg(model, signature, session, options.threads)
    control = ControlLeg(exportable)
    others = {
        file: RuntimeLeg(graph, signature, session, options.threads, f"{SERVED_LEG} {file}")
        for file, graph in (variants or {}).items()
    }
    contest = Contest(
        signature=signature,
        description=exportable.description,
        oracle=Oracle(exportable),
        legs=(
            eager,
            ScriptLeg(exportable, scripted.module, scripted.reason),
            served,
            *others.values(),
            ReferenceLeg(model, signature),
            control,
        ),
        served=served,
        grown=(eager, served, control),
        no_control=control.complaint,
        variants=others,
    )
    return compare_all(contest, options, progress)


def compare_all(contest: Contest, options: VerifyOptions, progress: Progress = lambda *_: None) -> Report:
    """Run every leg over every case, then the laws and the growth on the served one.

    Raises:
        ValueError: ``only_case`` names no case; the message lists them.
    """
    signature, oracle, served = contest.signature, contest.oracle, contest.served
    cases = _choose(grid(signature, drift_steps=options.drift_steps), options.only_case)
    collector = _Collector(signature, contest.legs)
    results = []
    for number, case in enumerate(cases):
        progress(case.id, number, len(cases))
        results.append(collector.run_case(case, oracle))
    progress("laws", len(cases), len(cases))
    # A graph that cannot be run, or gives something of another form, has failed; its laws and its growth say no more.
    sound = SERVED_LEG not in collector.failed
    laws = check_laws(served, signature, oracle) if sound and (options.only_case is None or not cases) else ()
    variants = tuple(
        VariantResult(file=file, leg=leg.name, laws=check_laws(leg, signature, oracle))
        for file, leg in contest.variants.items()
        if laws and leg.name not in collector.failed
    )
    growth = (
        _growth(signature, contest.grown, oracle, options.drift_steps) if sound and options.only_case is None else ()
    )
    return Report(
        network=contest.description,
        oracle=oracle.name,
        legs=tuple(
            LegFact(name=leg.name, complaint=leg.complaint, max_abs=collector.largest[leg.name]) for leg in contest.legs
        ),
        cases=tuple(results),
        laws=laws,
        growth=growth,
        histogram=collector.histogram(),
        control=_compare_control(collector, contest.no_control),
        tools=tool_versions(),
        variants=variants,
    )


def _choose(cases: tuple[Case, ...], only: str | None) -> tuple[Case, ...]:
    if only in LAW_CASES:
        return ()
    chosen = tuple(case for case in cases if only in {None, case.id})
    if not chosen:
        known = ", ".join([*(case.id for case in cases), *LAW_CASES])
        raise ValueError(f"case {only!r} is not in the grid, expected one of {known}")
    return chosen


class _Collector:
    """Runs legs on cases and keeps what the summary needs, never the arrays."""

    def __init__(self, signature: GraphSignature, legs: Sequence[Leg]) -> None:
        self._signature = signature
        self._legs = legs
        self._counts = np.zeros(len(_EXPONENTS), dtype=np.int64)
        self._exact = 0
        self.largest: dict[str, dict[str, float]] = {leg.name: {} for leg in legs}
        self.failed: set[str] = set()  # legs that gave something of another form, or nothing
        self.scale: dict[str, float] = {}

    def run_case(self, case: Case, oracle: Judge) -> CaseResult:
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
            complaint = f"stopped with {type(err).__name__}: {first_line(err)}"
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
        return Histogram(
            exponents=tuple(_EXPONENTS), counts=tuple(int(count) for count in self._counts), exact=self._exact
        )


def _growth(signature: GraphSignature, legs: Sequence[Leg], oracle: Judge, drift_steps: int) -> tuple[Growth, ...]:
    """Run one sequence to ever later steps and note the largest error there, each leg from the same zero state."""
    whole = make_inputs(Case(id="growth", rows=1, steps=drift_steps), signature)
    points = []
    for steps in sorted({*(n for n in _GROWTH_STEPS if n < drift_steps), drift_steps}):
        inputs = take_steps(whole, 0, steps, signature)
        truth = oracle.truth(inputs)
        errors = {}
        for leg in legs:
            if not leg.complaint:
                found = leg.run(inputs)
                errors[leg.name] = max(measure(found[name], last, 0.0).max_abs for name, last in truth.outputs.items())
        points.append(Growth(steps=steps, tolerance=max(truth.tolerances.values()), max_abs=errors))
    return tuple(points)


def _compare_control(collector: _Collector, complaint: str) -> Control:
    ours, theirs = collector.largest[SERVED_LEG], collector.largest.get(ControlLeg.name, {})
    bound = {name: 2.0 * error + ulp(collector.scale[name]) for name, error in theirs.items()}
    passed = all(ours.get(name, math.inf) <= bound[name] for name in bound)
    return Control(complaint=complaint, ours=ours, theirs=theirs, bound=bound, passed=passed)


def tool_versions() -> dict[str, str]:
    """Return the versions of the tools that export and verify."""
    found = {"python": platform.python_version()}
    for package in ("torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
