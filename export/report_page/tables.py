"""The tables of the report page: laws, legs, control, cases, and the words that go with each.

Rules of this file: pure, records in and HTML out; every word that comes from a record is escaped.
"""

from typing import Final

from ..proof.findings import SERVED_LEG, CaseResult, Control, LegResult
from ..proof.report import Report
from .strip import used_share
from .text import escape, number, percent, table

_WHAT: Final = {
    "eager": "the network as PyTorch runs it",
    "torchscript": "the network compiled by TorchScript",
    "onnxruntime": "the ONNX graph that is served, opened with the options of the bundle",
    "onnx reference": "the ONNX graph under the evaluator of the onnx package, each row alone; short cases only",
    "torch.nn": "PyTorch's own LSTM or GRU in the place of each stack, each row alone: the control",
}
_VARIANT: Final = "the graph for devices that have no kernel for an operator of the first, here on the CPU"
# An en dash, as tables have it where there is no number.
_NONE: Final = "\N{EN DASH}"
_YES, _NO = '<span class="yes">yes</span>', '<span class="no">no</span>'


def laws_table(report: Report) -> str:
    """Return the laws, each with what was found; a note where they were not run."""
    if not report.laws:
        return "<p>Not run, because this report is of one case alone or the graph already failed.</p>"
    rows = []
    graphs = [("", report.laws), *((f" ({variant.file})", variant.laws) for variant in report.variants)]
    for graph, law in ((graph, law) for graph, laws in graphs for law in laws):
        if law.applies:
            cells = (_YES if law.passed else _NO, _YES if law.bitwise else "no", f"{law.comparisons:,}")
            numbers = (number(law.max_abs), number(law.tolerance))
        else:
            cells, numbers = ("does not apply", _NONE, "0"), (_NONE, _NONE)
        rows.append((f'<span class="w">{escape(law.statement + graph)}</span>', *cells, *numbers))
    head = ("Law", "Holds", "To the last bit", "Comparisons", "Largest difference", "Allowed there")
    return table("What must not matter, run on the served graph", head, rows, numbers_from=3)


def legs_table(report: Report) -> str:
    """Return the legs with their largest errors, or with the reason why a leg could not run."""
    names = list(dict.fromkeys(name for leg in report.legs for name in leg.max_abs))
    rows = []
    for leg in report.legs:
        ran = sum(result.leg == leg.name for case in report.cases for result in case.legs)
        about = escape(_WHAT.get(leg.name, _VARIANT if leg.name.startswith(f"{SERVED_LEG} ") else ""))
        if leg.complaint:
            about += f"<br><em>{escape(leg.complaint)}</em>"
        rows.append(
            (
                escape(leg.name),
                f'<span class="w">{about}</span>',
                str(ran),
                *(number(leg.max_abs[name]) if name in leg.max_abs else _NONE for name in names),
            )
        )
    return table(
        "Largest error of each leg over all its cases", ("Leg", "What it is", "Cases", *names), rows, numbers_from=2
    )


def control_table(control: Control) -> str:
    """Return the served graph beside torch.nn, or why there is nothing to put beside it."""
    if control.complaint:
        return f"<p>There is no control: {escape(control.complaint)}.</p>"
    rows = []
    for name, bound in control.bound.items():
        ours = control.ours.get(name)
        held = ours is not None and ours <= bound
        rows.append(
            (
                escape(name),
                _NONE if ours is None else number(ours),
                number(control.theirs[name]),
                number(bound),
                _YES if held else _NO,
            )
        )
    head = ("Output", SERVED_LEG, "torch.nn", "Bound", "Within")
    return table("Largest error against float64 over all bounded cases", head, rows)


def cases_table(report: Report) -> str:
    """Return every case with its hardest comparison, collapsed."""
    rows = [_case_row(number_of, case) for number_of, case in enumerate(report.cases, 1)]
    head = (
        *("Case", "No.", "Rows", "Steps", "Lengths", "State", "Values"),
        *("Hardest leg", "Output", "Error", "Allowed", "Share", "ULP", "Median", "99 %"),
    )
    caption = "Each case with the comparison that used most of its tolerance"
    return f"<details>\n<summary>All {len(rows)} cases</summary>\n{table(caption, head, rows)}\n</details>"


def _case_row(number_of: int, case: CaseResult) -> tuple[str, ...]:
    shape = (
        escape(case.id),
        str(number_of),
        str(case.rows),
        f"{case.steps:,}",
        "unequal" if case.ragged else "equal",
        escape(case.state),
        escape(case.magnitude),
    )
    leg = max(case.legs, key=lambda result: used_share(case, result), default=None)
    if leg is None:
        return (*shape, _NONE, _NONE, *[_NONE] * 6)
    if leg.complaint:
        return (*shape, escape(leg.leg), f"<em>{escape(leg.complaint)}</em>", *[_NONE] * 6)
    return (*shape, escape(leg.leg), *_hardest(case, leg))


def _hardest(case: CaseResult, leg: LegResult) -> tuple[str, ...]:
    def key(name: str) -> tuple[bool, float]:
        found = leg.outputs[name]
        return name not in case.sensitive, found.max_abs / found.tolerance if found.tolerance > 0 else found.max_abs

    name = max(leg.outputs, key=key)
    found = leg.outputs[name]
    bounded = "not bounded" if name in case.sensitive else percent(used_share(case, leg))
    return (
        escape(name),
        number(found.max_abs),
        number(found.tolerance),
        bounded,
        number(found.ulps),
        number(found.p50),
        number(found.p99),
    )


def sensitive_section(report: Report) -> str:
    """Explain the cases in which float32 itself means little; empty where there are none."""
    found = [case for case in report.cases if case.sensitive]
    if not found:
        return ""
    rows = [
        (
            escape(case.id),
            f"{case.steps:,}",
            escape(", ".join(case.sensitive)),
            number(_served_error(case)),
        )
        for case in found
    ]
    return (
        '<h2 id="sensitive">Sensitive cases</h2>\n'
        f"<p>In {len(found)} of {len(report.cases)} cases the network magnifies rounding: float32 may be wrong in the "
        "outputs named below by more than a hundredth of their size, as was found by moving inputs and weights by so "
        "much as float32 rounds. No implementation in float32 is right there, PyTorch's own included, so these outputs "
        "are measured but not bounded. "
        "Large recurrent weights do this. If the network is used in this range, scale it down, "
        "train it with a penalty on its weights, or use shorter sequences.</p>\n"
        + table(
            "Cases with outputs that are not bounded",
            ("Case", "Steps", "Outputs", f"Largest error of {SERVED_LEG}"),
            rows,
            numbers_from=3,
        )
    )


def _served_error(case: CaseResult) -> float:
    errors = [
        found.max_abs
        for leg in case.legs
        if leg.leg == SERVED_LEG
        for name, found in leg.outputs.items()
        if name in case.sensitive
    ]
    return max(errors, default=0.0)


def tools_table(report: Report) -> str:
    """Return the versions of the tools."""
    return table(
        "Versions",
        ("Tool", "Version"),
        [(escape(k), escape(v)) for k, v in sorted(report.tools.items())],
        numbers_from=9,
    )
