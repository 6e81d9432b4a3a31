"""Verify a network: every leg over every case against the float64 oracle, the laws, the growth over time, the control.

Rules of this file: it says what runs against what; what the legs give is collected in collector.py, what a comparison
means is in compare.py, what follows from it in report.py.
"""

import math
import platform
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ...bundle.manifest import GraphSignature, SessionOptions
from ..exportable import Exportable
from ..torchscript import Scripted
from .cases import Case, grid, make_inputs
from .collector import Collector
from .compare import measure, ulp
from .findings import SERVED_LEG, CaseResult, Control, Growth, LegFact, VariantResult
from .graph_legs import ReferenceLeg, RuntimeLeg
from .laws import LAW_CASES, check_laws, take_steps
from .leg import Leg
from .oracle import Judge, Oracle
from .report import Report
from .torch_legs import ControlLeg, EagerLeg, ScriptLeg

Progress = Callable[[str, int, int], None]  # (what is being done, how much of it is done, how much there is)
_GROWTH_STEPS = (1, 3, 10, 30, 100, 300, 1000, 3000)  # and the longest case's


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
        further_steps: numbers of steps that are to be among the cases.
    """

    signature: GraphSignature
    description: dict[str, Any]
    oracle: Judge
    legs: tuple[Leg, ...]
    served: Leg
    grown: tuple[Leg, ...]
    no_control: str
    variants: Mapping[str, Leg] = field(default_factory=dict)
    further_steps: Sequence[int] = ()


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
        further_steps=exportable.uncaptured,
    )
    return compare_all(contest, options, progress)


def compare_all(contest: Contest, options: VerifyOptions, progress: Progress = lambda *_: None) -> Report:
    """Run every leg over every case, then the laws and the growth on the served one.

    Raises:
        ValueError: ``only_case`` names no case; the message lists them.
    """
    signature, oracle, served = contest.signature, contest.oracle, contest.served
    every = grid(signature, drift_steps=options.drift_steps, further_steps=contest.further_steps)
    cases = _choose(every, options.only_case)
    collector = Collector(signature, contest.legs)
    results = []
    for number, case in enumerate(cases):
        progress(case.id, number, len(cases))
        results.append(collector.run_case(case, oracle))
    progress("laws", len(cases), len(cases))
    # A graph that cannot be run, or gives something of another form, has failed; its laws and its growth say no more.
    sound = SERVED_LEG not in collector.failed
    laws = check_laws(served, signature, oracle) if sound and (options.only_case is None or not cases) else ()
    is_whole = sound and options.only_case is None
    grown = [leg for leg in contest.grown if leg.name not in collector.failed]
    return Report(
        network=contest.description,
        oracle=oracle.name,
        legs=tuple(
            LegFact(name=leg.name, complaint=leg.complaint, max_abs=collector.largest[leg.name]) for leg in contest.legs
        ),
        cases=tuple(results),
        laws=laws,
        growth=_growth(contest, grown, cases[-1], results[-1]) if is_whole else (),
        histogram=collector.histogram(),
        control=_compare_control(collector, contest.no_control),
        tools=tool_versions(),
        variants=_check_variants(contest, collector.failed) if laws else (),
    )


def _check_variants(contest: Contest, failed: Collection[str]) -> tuple[VariantResult, ...]:
    """Run the laws on every other graph of the bundle that has not failed already."""
    return tuple(
        VariantResult(file=file, leg=leg.name, laws=check_laws(leg, contest.signature, contest.oracle))
        for file, leg in contest.variants.items()
        if leg.name not in failed
    )


def _choose(cases: tuple[Case, ...], only: str | None) -> tuple[Case, ...]:
    if only in LAW_CASES:
        return ()
    chosen = tuple(case for case in cases if only in {None, case.id})
    if not chosen:
        known = ", ".join([*(case.id for case in cases), *LAW_CASES])
        raise ValueError(f"case {only!r} is not in the grid, expected one of {known}")
    return chosen


def _growth(contest: Contest, legs: Sequence[Leg], longest: Case, found: CaseResult) -> tuple[Growth, ...]:
    """Note the largest error after ever more steps of the longest case, each leg from the same zero state.

    What that case gave at its end is known by now (``found``), and takes most of the time.
    """
    signature, legs = contest.signature, [leg for leg in legs if not leg.complaint]
    if not legs:
        return ()
    whole = make_inputs(longest, signature)
    points = []
    for steps in (n for n in _GROWTH_STEPS if signature.least_steps <= n < longest.steps):
        inputs = take_steps(whole, 0, steps, signature)
        truth = contest.oracle.truth(inputs)
        errors = {}
        for leg in legs:
            given = leg.run(inputs)
            errors[leg.name] = max(measure(given[name], last, 0.0).max_abs for name, last in truth.outputs.items())
        points.append(Growth(steps=steps, tolerance=max(truth.tolerances.values()), max_abs=errors))
    return (*points, _at_the_end(found, {leg.name for leg in legs}))


def _at_the_end(found: CaseResult, names: Collection[str]) -> Growth:
    differences = {leg.leg: leg.outputs.values() for leg in found.legs if leg.leg in names}
    return Growth(
        steps=found.steps,
        tolerance=max(one.tolerance for several in differences.values() for one in several),
        max_abs={name: max(one.max_abs for one in several) for name, several in differences.items()},
    )


def _compare_control(collector: Collector, complaint: str) -> Control:
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
