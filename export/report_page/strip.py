"""The strip of the report page: every case under every leg, one cell each, dark where much of the tolerance was used.

Rules of this file: as plots.py.
"""

import math
from collections.abc import Sequence
from typing import Final

from ..proof.findings import CaseResult, LegFact, LegResult, Worst
from .plots import WIDTH, figure, line, text
from .text import escape, percent, share

# Upper ends of the steps of colour, each about three times the one before.
LEVELS: Final = (0.01, 0.03, 0.1, 0.3, 1.0)
_ROW: Final = 43.0
_CELL: Final = 18.0
_LEGEND: Final = (
    ("level0", "to 1 %"),
    ("level1", "to 3 %"),
    ("level2", "to 10 %"),
    ("level3", "to 30 %"),
    ("level4", "to 100 %"),
    ("failed", "failed"),
    ("sensitive", "sensitive"),
    ("absent", "not run"),
)


def used_share(case: CaseResult, leg: LegResult) -> float:
    """Return the largest share of its tolerance that a bounded output used; inf where the form was wrong."""
    if leg.complaint:
        return math.inf
    bounded = [
        share(found.max_abs, found.tolerance)
        for name, found in leg.outputs.items()
        if name not in case.sensitive or not math.isfinite(found.max_abs)
    ]
    return max(bounded, default=0.0)


def strip_plot(cases: Sequence[CaseResult], legs: Sequence[LegFact], worst: Worst) -> str:
    """Draw the strip; the worst case is pointed at."""
    width = WIDTH / len(cases)
    body = [_hatching()]
    for row, leg in enumerate(legs):
        y = 6 + row * _ROW
        found = {case.id: next((r for r in case.legs if r.leg == leg.name), None) for case in cases}
        shares = [used_share(case, result) for case in cases if (result := found[case.id]) is not None]
        said = f"at most {percent(max(shares))}, {len(shares)} cases" if shares else "not run"
        if leg.name == worst.leg and worst.case in found:
            number_of = list(found).index(worst.case)
            said = f"worst of all: case {number_of + 1}, {percent(share(worst.max_abs, worst.tolerance))}"
            body.append(_pointer((number_of + 0.5) * width - 0.4, y + 15 + _CELL))
        body += [text(0, y + 9, leg.name, "label"), text(WIDTH, y + 9, said, "tick", "end")]
        body += [_cell(k * width, y + 14, width, case, leg.name, found[case.id]) for k, case in enumerate(cases)]
    bottom = 6 + len(legs) * _ROW
    for k in range(0, len(cases), 10):
        body.append(text((k + 0.5) * width, bottom + 10, str(k + 1), "tick", "start" if k == 0 else "middle"))
    body.append(text(WIDTH / 2, bottom + 25, "number of the case, as in the table of cases", "tick", "middle"))
    body += _legend(bottom + 36)
    described = "; ".join(_in_words(cases, leg) for leg in legs) + "."
    return figure("strip", "Share of the tolerance used by each case and leg", described, bottom + 80, body)


def _in_words(cases: Sequence[CaseResult], leg: LegFact) -> str:
    rows = [(used_share(case, result), case.id) for case in cases for result in case.legs if result.leg == leg.name]
    return f"{leg.name}: at most {percent(max(rows)[0])} in {max(rows)[1]}" if rows else f"{leg.name}: not run"


def _level(case: CaseResult, result: LegResult | None) -> str:
    if result is None:
        return "absent"
    used = used_share(case, result)
    if not used <= LEVELS[-1]:
        return "failed"
    return "sensitive" if case.sensitive else f"level{next(k for k, end in enumerate(LEVELS) if used <= end)}"


def _cell(x: float, y: float, width: float, case: CaseResult, leg: str, result: LegResult | None) -> str:
    kind = _level(case, result)
    said = "not run" if result is None else result.complaint or percent(used_share(case, result))
    drawn = max(width - 0.8, 0.4)
    cell = (
        f'<rect x="{x:.2f}" y="{y:.1f}" width="{drawn:.2f}" height="{_CELL:g}" class="{kind}">'
        f"<title>{escape(f'{case.id}, {leg}: {said}')}</title></rect>"
    )
    if kind != "failed":
        return cell
    # A cross as well, for those who do not tell the colours apart.
    middle, size = x + drawn / 2, min(drawn / 2, 4.0)
    centre = y + _CELL / 2
    return (
        cell
        + line(middle - size, centre - size, middle + size, centre + size, "cross")
        + line(middle - size, centre + size, middle + size, centre - size, "cross")
    )


def _pointer(x: float, y: float) -> str:
    return f'<path d="M{x:.1f} {y:.1f} l3.5 6 h-7 z" class="pointer"/>'


def _hatching() -> str:
    return (
        '<defs><pattern id="hatching" width="4" height="4" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect width="4" height="4" class="hatch-ground"/><rect width="1.6" height="4" class="hatch-stroke"/>'
        "</pattern></defs>"
    )


def _legend(y: float) -> list[str]:
    body = []
    for k, (kind, words) in enumerate(_LEGEND):
        x, row = (k % 4) * 90.0, y + (k // 4) * 20
        body.append(f'<rect x="{x + 0.5:g}" y="{row:g}" width="12" height="12" class="{kind}"/>')
        body.append(text(x + 17, row + 10, words, "tick"))
    return body
