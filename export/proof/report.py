"""The report of a verification: everything that was found, its JSON, and the verdict that follows from it.

Rules of this file: pure; the report says only what was measured; the verdict is a function of the records.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from .findings import SERVED_LEG, CaseResult, Control, Growth, Histogram, LegFact, VariantResult, Worst
from .laws import LawResult, is_bitwise, is_streamable

REPORT_VERSION: Final = 1
Verdict = Literal["equivalent", "sensitive", "not equivalent"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Everything that a verification found."""

    network: dict[str, Any]
    oracle: str
    legs: tuple[LegFact, ...]
    cases: tuple[CaseResult, ...]
    laws: tuple[LawResult, ...]
    growth: tuple[Growth, ...]
    histogram: Histogram
    control: Control
    tools: dict[str, str]
    variants: tuple[VariantResult, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Not equivalent where anything failed; sensitive where a case of usual magnitude could not be bounded.

        Denormal and saturating sequences are there to break things; a network that is sensitive to them alone is not
        called so, but its report lists the cases.
        """
        if self.failures():
            return "not equivalent"
        usual = [case for case in self.cases if case.magnitude == "normal"]
        return "sensitive" if any(case.sensitive for case in usual) else "equivalent"

    @property
    def streamable(self) -> bool:
        """Whether chunks with carried state gave what one pass gives, in every graph of the bundle."""
        return is_streamable(self.laws) and all(variant.streamable for variant in self.variants)

    def is_bitwise(self, *laws: str) -> bool:
        """Whether all of the laws named hold to the last bit, those that do not apply left aside."""
        return is_bitwise(self.laws, laws)

    def failures(self) -> list[Worst]:
        """Return every failed comparison, the worst by share of its tolerance first.

        Chunks may differ: that says only that the network is not streamable.
        """
        failed = [row for row in self._comparisons() if row.complaint or not _is_within(row)]
        return sorted(failed, key=_share, reverse=True)

    def worst(self) -> Worst:
        """Return the comparison that used up most of its tolerance, a failure first, a sensitive output last.

        Raises:
            ValueError: the report holds no comparison.
        """
        rows = self.failures() or self._comparisons() or self._comparisons(sensitive=True)
        if not rows:
            raise ValueError("the report holds no comparison that could be the worst, expected a case or a law")
        return max(rows, key=_share)

    def _comparisons(self, *, sensitive: bool = False) -> list[Worst]:
        rows = [row for case in self.cases for row in _case_rows(case, sensitive=sensitive)]
        # After the cases, so that of equals a case is the worst: its place and its values are known.
        laws = [(SERVED_LEG, law) for law in self.laws]
        laws += [(variant.leg, law) for variant in self.variants for law in variant.laws]
        return rows + [_law_row(law, leg) for leg, law in laws if law.applies and law.name != "chunks"]

    @property
    def takes_lengths(self) -> bool:
        """Whether sequences of one request may differ in length, so that padding can be told from steps."""
        return any(law.name == "padding" and law.applies for law in self.laws)

    def to_json(self) -> bytes:
        """Return the report as equivalence.json: UTF-8, sorted keys, no NaN (infinite numbers are the string "inf")."""
        body = {
            "report_version": REPORT_VERSION,
            "verdict": self.verdict,
            "streamable": self.streamable,
            "bitwise_rows": self.is_bitwise("alone", "padding", "order"),
            "bitwise_chunks": self.is_bitwise("chunks"),
            "worst": asdict(self.worst()),
            **asdict(self),
        }
        return (json.dumps(_finite(body), indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _case_rows(case: CaseResult, *, sensitive: bool) -> Iterator[Worst]:
    """Yield what failed in a case, and every comparison of it; of sensitive outputs only where they are asked for."""
    for leg in case.legs:
        if leg.complaint:
            yield Worst(
                case=case.id,
                leg=leg.leg,
                output="",
                max_abs=math.inf,
                tolerance=0.0,
                index=(),
                ulps=math.inf,
                complaint=leg.complaint,
            )
        for name, d in leg.outputs.items():
            if sensitive or name not in case.sensitive or not math.isfinite(d.max_abs):
                yield Worst(
                    case=case.id,
                    leg=leg.leg,
                    output=name,
                    max_abs=d.max_abs,
                    tolerance=d.tolerance,
                    index=d.index,
                    ulps=d.ulps,
                )


def _law_row(law: LawResult, leg: str) -> Worst:
    found = law.complaint or f"differs by {law.max_abs:.3g}"
    broken = None if law.passed else f"law broken: {law.statement}, but {found}"
    return Worst(
        case=f"laws-{law.name}",
        leg=leg,
        output="",
        max_abs=law.max_abs,
        tolerance=law.tolerance,
        index=(),
        ulps=0.0,
        complaint=broken,
    )


def _is_within(row: Worst) -> bool:
    return math.isfinite(row.max_abs) and row.max_abs <= row.tolerance


def _share(row: Worst) -> float:
    if not math.isfinite(row.max_abs):
        return math.inf
    return row.max_abs / row.tolerance if row.tolerance > 0 else math.inf


def _finite(value: Any) -> Any:
    """Replace what JSON cannot say."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value
