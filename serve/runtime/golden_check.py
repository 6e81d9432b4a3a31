"""Whether a runtime reproduces a bundle's golden cases: the proof that this machine runs what was exported.

Used before a server is ready, by `auto` to decide for a device, and by `cellgate verify` where torch is missing.

Rules of this file: the condition is written as what passes (`error <= tolerance`), so that NaN never passes; names,
counts, dtypes and shapes are compared before values; a difference is data, not an exception.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...bundle.golden import GoldenCase
from ...bundle.reader import Bundle
from ..arrays import Array, Arrays
from ..errors import with_cause
from .runtime import Runtime

# The tolerances grow with the rounding unit of the factors (docs/equivalence.md): 2^-24 for float32, 2^-11 for TF32.
TF32_SLACK = 2.0**13


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputError:
    """The worst difference of one output over all golden cases.

    Attributes:
        output: name.
        worst: largest absolute error; infinite where a value is not finite.
        tolerance: largest absolute error allowed.
        case_id: golden case of the worst error; None where no case reached the values.
        index: place in the output array.
        passed: worst <= tolerance.
    """

    output: str
    worst: float
    tolerance: float
    case_id: str | None
    index: tuple[int, ...]
    passed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class GoldenResult:
    """What the comparison found.

    Attributes:
        passed: at least one case, no problem, and every output within its tolerance.
        cases: golden cases compared.
        outputs: worst error for each output, in the order of the signature.
        problems: missing outputs, wrong dtypes or shapes, cases that the runtime refused; one sentence each.
    """

    passed: bool
    cases: int
    outputs: tuple[OutputError, ...]
    problems: tuple[str, ...]

    def line(self) -> str:
        """Return for people how well a runtime that passed reproduced the cases."""
        worst = max((output.worst for output in self.outputs), default=0.0)
        return f"{self.cases} reproduced, at most {worst:.2g} off"

    def summary(self) -> str:
        """Return one sentence for people: the first problem, else the worst output."""
        if self.problems:
            return self.problems[0]
        if not self.outputs or self.cases == 0:
            return "no golden case"
        worst = max(self.outputs, key=lambda output: (not output.passed, output.worst / (output.tolerance or 1e-300)))
        return (
            f"{worst.output} off by {worst.worst:.3g} at {list(worst.index)} of case {worst.case_id} "
            f"(allowed {worst.tolerance:.3g})"
        )


def check_golden(runtime: Runtime, bundle: Bundle) -> GoldenResult:
    """Run every golden case and compare every output.

    Args:
        runtime: opened from this bundle.
        bundle: its golden cases hold inputs and expected outputs; its manifest the tolerances, which are TF32_SLACK
            times as wide where the runtime computes in TF32.

    Returns:
        The worst absolute error of each output and its place. Nothing that the runtime does raises.
    """
    slack = TF32_SLACK if runtime.facts.precision == "tf32" else 1.0
    tolerances = {name: slack * tolerance for name, tolerance in bundle.manifest.tolerances.items()}
    worst: dict[str, OutputError] = {}
    problems: list[str] = []
    for case in bundle.golden:
        try:
            found = runtime.run(case.inputs)
        except Exception as err:  # noqa: BLE001 - the answer is data: whatever failed, the case did
            problems.append(f"case {case.id}: expected it to run, found {with_cause(err)}")
            continue
        _compare_case(case, found, tolerances, worst, problems)
    names = [spec.name for spec in runtime.signature.outputs]
    outputs = tuple(worst.get(name) or _unseen(name, tolerances) for name in names)
    passed = bool(bundle.golden) and not problems and all(output.passed for output in outputs)
    return GoldenResult(passed=passed, cases=len(bundle.golden), outputs=outputs, problems=tuple(problems))


def _unseen(name: str, tolerances: Mapping[str, float]) -> OutputError:
    tolerance = tolerances.get(name, 0.0)
    return OutputError(output=name, worst=np.inf, tolerance=tolerance, case_id=None, index=(), passed=False)


def _compare_case(
    case: GoldenCase,
    found: Arrays,
    tolerances: Mapping[str, float],
    worst: dict[str, OutputError],
    problems: list[str],
) -> None:
    if found.keys() != case.outputs.keys():
        problems.append(f"case {case.id}: expected the outputs {sorted(case.outputs)}, found {sorted(found)}")
        return
    for name, expected in case.outputs.items():
        if found[name].dtype != expected.dtype or found[name].shape != expected.shape:
            problems.append(
                f"case {case.id}: {name}: expected {expected.dtype} {expected.shape}, "
                f"found {found[name].dtype} {found[name].shape}"
            )
        elif name not in tolerances:
            problems.append(f"manifest.json: tolerances: expected one for {name}, found none")
        else:
            error = _worst_error(case.id, name, found[name], expected, tolerances[name])
            if name not in worst or error.worst > worst[name].worst:
                worst[name] = error


def _worst_error(case_id: str, name: str, found: Array, expected: Array, tolerance: float) -> OutputError:
    with np.errstate(invalid="ignore"):
        difference = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    difference = np.where(np.isfinite(difference), difference, np.inf)  # Inf - Inf and NaN: equal to nothing
    place = np.unravel_index(int(difference.argmax()), difference.shape) if difference.size else ()
    value = float(difference[place]) if difference.size else 0.0
    return OutputError(
        output=name,
        worst=value,
        tolerance=tolerance,
        case_id=case_id,
        index=tuple(int(axis) for axis in place),
        passed=value <= tolerance,
    )
