"""One case of the comparison, or one law, run alone: what a refusal tells people to type.

Rules of this file: it runs what the whole verification runs, on the same inputs, and writes nothing.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

from ..bundle.manifest import SessionOptions
from ..export.cases import grid
from ..export.exportable import Exportable
from ..export.laws import LawResult, check_laws
from ..export.legs import RuntimeLeg
from ..export.oracle import Oracle
from ..export.report import Report
from ..export.torchscript import Scripted
from ..export.verify import VerifyOptions, verify
from .errors import UsageError
from .report_text import comparison_rows, law_rows
from .terminal import Terminal

LAW_PREFIX: Final = "laws-"
_COLUMNS: Final = ("implementation", "output", "largest error", "allowed", "ULP", "place", "passed")
_LAW_COLUMNS: Final = ("law", "comparisons", "largest difference", "allowed", "same bits", "passed")


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseOutcome:
    """What one case gave, or all laws of a graph."""

    report: Report | None = None
    laws: tuple[LawResult, ...] = ()

    @property
    def passed(self) -> bool:
        """Nothing differed more than it may. Chunks may: then the network is not streamable."""
        laws_hold = all(law.passed or not law.applies or law.name == "chunks" for law in self.laws)
        return laws_hold and (self.report is None or self.report.verdict != "not equivalent")


def run_case(
    case: str,
    exportable: Exportable,
    model: bytes,
    scripted: Scripted,
    session: SessionOptions,
    options: VerifyOptions,
) -> CaseOutcome:
    """Run one case by every implementation, or, for "laws-…", the laws.

    Raises:
        UsageError: there is no such case; the message lists them.
    """
    signature = exportable.signature
    if case.startswith(LAW_PREFIX):
        leg = RuntimeLeg(model, signature, session, options.threads)
        return CaseOutcome(laws=check_laws(leg, signature, Oracle(exportable)))
    known = [each.id for each in grid(signature, drift_steps=options.drift_steps)]
    if case not in known:
        raise UsageError(f"--case: expected one of {', '.join(known)}, or laws-..., found {case!r}")
    return CaseOutcome(report=verify(exportable, model, scripted, session, options))


def print_case(case: str, outcome: CaseOutcome, terminal: Terminal) -> None:
    """Print every comparison."""
    word = "passed" if outcome.passed else "not equivalent"
    terminal.say(f"case {case}: {word}")
    if outcome.report is None:
        terminal.table(_LAW_COLUMNS, law_rows(outcome.laws))
    else:
        terminal.table(_COLUMNS, comparison_rows(outcome.report))
        for leg in outcome.report.legs:
            if leg.complaint:
                terminal.say(f"not run  {leg.name}: {leg.complaint}")
    terminal.answer(_answer(case, outcome))


def _answer(case: str, outcome: CaseOutcome) -> dict[str, Any]:
    return {
        "case": case,
        "passed": outcome.passed,
        "legs": [asdict(leg) for each in (outcome.report.cases if outcome.report else ()) for leg in each.legs],
        "sensitive": [name for each in (outcome.report.cases if outcome.report else ()) for name in each.sensitive],
        "laws": [asdict(law) for law in outcome.laws],
    }
