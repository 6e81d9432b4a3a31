"""A verification report in words for people, and in a few fields for machines.

Rules of this file: pure; it says what the report says, and rounds.
"""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from ..export.proof.findings import Worst
from ..export.proof.laws import LawResult
from ..export.proof.report import Report
from ..export.proof.verify import Progress
from .bundle_view import lengths_words

Row = tuple[str, str]
_MOST_PERCENT: Final = 10.0  # of more than ten times what is allowed, per cent say less than the times
_MOST_ULPS: Final = 1e6  # likewise


def naming(progress: Progress) -> Progress:
    """Return the progress function with each case called a case, and the laws by what they compare."""

    def named(what: str, done: int, total: int) -> None:
        if what == "laws":
            what = "alone and in batches, padded and not, whole and in chunks"
        elif re.match(r"B\d", what):
            what = f"case {what}"
        progress(what, done, total)

    return named


def summary_rows(report: Report) -> list[Row]:
    """Return (name, value) rows: verdict, worst case, streams, bits, control, and what could not run."""
    ran = [leg.name for leg in report.legs if not leg.complaint]
    sensitive = sum(bool(case.sensitive) for case in report.cases)
    rows = [
        ("verdict", f"{report.verdict}: {len(report.cases)} cases, {', '.join(ran)} against {report.oracle}"),
        ("worst", worst_words(report.worst())),
    ]
    if sensitive:
        rows.append(("sensitive", f"{sensitive} of {len(report.cases)} cases, where float32 itself means nothing"))
    if report.laws:
        rows.append(("lengths", lengths_words(takes_lengths=report.takes_lengths)))
    rows += [("streamable", _streamable(report)), ("same bits", _bits(report))]
    if report.verdict != "not equivalent":  # how exact a wrong graph is, nobody needs to know
        rows.append(("control", control_words(report)))
    rows += [
        ("not run", f"{leg.name}: {leg.complaint}") for leg in report.legs if leg.complaint and leg.name != "torch.nn"
    ]
    return rows


def worst_words(worst: Worst) -> str:
    """Return the worst comparison in one sentence."""
    if worst.complaint:
        return f"{worst.leg} in case {worst.case}: {worst.complaint}"
    place = f"{worst.output}[{', '.join(map(str, worst.index))}]"
    ulps = f" ({worst.ulps:.1f} ULP)" if worst.ulps < _MOST_ULPS else ""
    return (
        f"{place} of {worst.leg} in case {worst.case} is off by {worst.max_abs:.3g}{ulps}, "
        f"{_share_words(worst)} the {worst.tolerance:.3g} allowed"
    )


def _share_words(worst: Worst) -> str:
    if not (worst.tolerance > 0 and math.isfinite(worst.max_abs)):
        return "more than"
    share = worst.max_abs / worst.tolerance
    return f"{share:.0%} of" if share <= _MOST_PERCENT else f"{share:,.0f} times"


def control_ratio(report: Report) -> float | None:
    """Return the largest error over that of torch.nn itself, the worst output; None without a control."""
    control = report.control
    ratios = [
        control.ours[name] / theirs if theirs > 0 else math.inf
        for name, theirs in control.theirs.items()
        if theirs > 0 or control.ours[name] > 0
    ]
    return None if control.complaint or not ratios else max(ratios)


def control_words(report: Report) -> str:
    """Return how the served leg compares with PyTorch's own layer."""
    if report.control.complaint:
        reason = report.control.complaint.removeprefix("not applicable: ").partition("; expected")[0]
        return f"no layer of torch.nn to compare with: {reason}"
    ratio = control_ratio(report)
    if ratio is None:
        return "as exact as torch.nn's own layer"
    where = "within" if report.control.passed else "above"
    said = f"rounding errors up to {ratio:.2f} times those of torch.nn's layer, {where} the aim of 2 times plus one ULP"
    if report.control.passed:
        return said
    remedy = "" if "gates" in report.network else "; --float64-gates brings them down, and is slower"
    return f"{said}, and far within what is allowed{remedy}"


def comparison_rows(report: Report) -> Iterator[Sequence[object]]:
    """Yield (leg, output, largest error, allowed, ULP, place, passed) for every comparison of a report."""
    for case in report.cases:
        for leg in case.legs:
            if leg.complaint:
                yield leg.leg, "", leg.complaint, "", "", "", "no"
            for name, found in leg.outputs.items():
                chaotic = name in case.sensitive and math.isfinite(found.max_abs)
                passed = "sensitive" if chaotic else "yes" if found.passed else "no"
                place = f"[{', '.join(map(str, found.index))}]"
                yield leg.leg, name, found.max_abs, found.tolerance, round(found.ulps, 1), place, passed


def law_rows(laws: Sequence[LawResult]) -> Iterator[Sequence[object]]:
    """Yield (law, comparisons, largest difference, allowed, same bits, passed)."""
    for law in laws:
        if law.applies:
            bits, passed = ("yes" if flag else "no" for flag in (law.bitwise, law.passed))
            yield law.statement, law.comparisons, law.complaint or law.max_abs, law.tolerance, bits, passed
        else:
            yield law.statement, 0, 0.0, 0.0, "", "does not apply"


def summary_fields(report: Report) -> dict[str, Any]:
    """Return the same for machines."""
    worst = report.worst()
    return {
        "verdict": report.verdict,
        "cases": len(report.cases),
        "sensitive_cases": [case.id for case in report.cases if case.sensitive],
        "worst": {
            "case": worst.case,
            "leg": worst.leg,
            "output": worst.output,
            "index": worst.index,
            "max_abs": worst.max_abs,
            "tolerance": worst.tolerance,
            "ulps": worst.ulps,
            "complaint": worst.complaint,
        },
        "streamable": report.streamable,
        "bitwise_rows": report.is_bitwise("alone", "padding", "order"),
        "bitwise_chunks": report.is_bitwise("chunks"),
        "control_ratio": control_ratio(report),
        "control_passed": None if report.control.complaint else report.control.passed,
        "not_run": {leg.name: leg.complaint for leg in report.legs if leg.complaint},
    }


def _streamable(report: Report) -> str:
    chunks = next((law for law in report.laws if law.name == "chunks"), None)
    if chunks is None or not chunks.applies:
        return "no: the network carries no state from one chunk to the next"
    if chunks.passed:
        return f"yes: chunks with carried state gave what one pass gives ({chunks.comparisons} ways to cut)"
    apart = f"differ from one pass by {chunks.max_abs:.3g}, allowed {chunks.tolerance:.3g}"
    return (
        f"no: chunks with carried state {chunks.complaint or apart}; "
        "a backward direction, pooling over time, attention and the number of a step need the whole sequence"
    )


def _bits(report: Report) -> str:
    rows = "yes" if report.is_bitwise("alone", "padding", "order") else "no"
    chunks = "yes" if report.is_bitwise("chunks") else "no"
    return f"a sequence alone and in any batch: {rows}; in one pass and in chunks: {chunks} (onnxruntime, CPU)"
