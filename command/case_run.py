"""One case of the comparison, or the laws, run alone: what a refusal tells people to type.

Rules of this file: it shows what the whole verification runs, on the same inputs, and writes nothing.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from ..bundle.manifest import GraphSignature
from ..export.proof.cases import grid
from ..export.proof.laws import LAW_CASES
from ..export.proof.report import Report
from ..export.proof.verify import VerifyOptions
from .errors import CHECK_FAILED, DONE, UsageError
from .report_text import comparison_rows, law_rows
from .terminal import Terminal

_COLUMNS: Final = ("implementation", "output", "largest error", "allowed", "ULP", "place", "passed")
_LAW_COLUMNS: Final = ("law", "comparisons", "largest difference", "allowed", "same bits", "passed")


def check_case(options: VerifyOptions, signature: GraphSignature, further_steps: Sequence[int] = ()) -> None:
    """Refuse a case that is not in the grid.

    Args:
        options: name the case.
        signature: of the graph.
        further_steps: see export.cases.grid.

    Raises:
        UsageError: there is no such case; the message lists them.
    """
    cases = grid(signature, drift_steps=options.drift_steps, further_steps=further_steps)
    known = [*(case.id for case in cases), *LAW_CASES]
    if options.only_case not in {None, *known}:
        raise UsageError(f"--case: expected one of {', '.join(known)}, found {options.only_case!r}")


def print_case(case: str, report: Report, terminal: Terminal) -> int:
    """Print every comparison of a report on one case; return the exit status."""
    passed = report.verdict != "not equivalent"
    terminal.say(f"case {case}: {'passed' if passed else 'not equivalent'}")
    if report.cases:
        terminal.table(_COLUMNS, comparison_rows(report))
        for leg in report.legs:
            if leg.complaint:
                terminal.say(f"not run  {leg.name}: {leg.complaint}")
    else:
        terminal.table(_LAW_COLUMNS, law_rows(report.laws))
    terminal.answer(
        {
            "case": case,
            "passed": passed,
            "legs": [asdict(leg) for each in report.cases for leg in each.legs],
            "sensitive": [name for each in report.cases for name in each.sensitive],
            "laws": [asdict(law) for law in report.laws],
        }
    )
    return DONE if passed else CHECK_FAILED
