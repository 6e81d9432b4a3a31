"""The report as one page for people: equivalence.html, which loads nothing, runs nothing and reads well on a phone.

Rules of this file: a pure function of the report, so equal reports give equal bytes; it says in words first what the
plots show, and numbers last. Every word that comes from a record is escaped.
"""

import shlex
from collections.abc import Mapping
from typing import Any, Final

from ..proof.compare import Difference
from ..proof.findings import SERVED_LEG, Worst
from ..proof.report import Report
from .meaning import meaning_section
from .plots import growth_plot, histogram_plot
from .strip import strip_plot
from .style import STYLE, content_policy
from .tables import cases_table, control_table, laws_table, legs_table, sensitive_section, tools_table
from .text import escape, exact_number, listing, number, percent, place, share

_MARKS: Final = {
    "equivalent": ("equivalent", "✓ Equivalent."),
    "sensitive": ("sensitive-verdict", "! Equivalent where float32 can tell, and sensitive."),
    "not equivalent": ("refused", "✕ Not equivalent."),
}


_CONTROL: Final = (
    "How wrong PyTorch's own layer is on the same cases. The served graph should not be more than twice as wrong, plus "
    "one ULP. Where states far larger than any gate are given, it can be: the runtime approximates a gate near zero to "
    "a few units in the last place of 1, not of itself."
)


def render_page(report: Report) -> bytes:
    """Return equivalence.html: UTF-8, self-contained, the same bytes for the same report."""
    name = escape(report.network.get("kind", "network"))
    body = "\n".join(
        filter(None, (_verdict(report), meaning_section(report), _worst(report), _plots(report), _evidence(report)))
    )
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{content_policy()}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{name}: {report.verdict}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>Does the exported network compute what the original computes?</h1>
{body}
</main>
</body>
</html>
"""
    return page.encode()


def _verdict(report: Report) -> str:
    kind, mark = _MARKS[report.verdict]
    ran = [leg.name for leg in report.legs if any(r.leg == leg.name for case in report.cases for r in case.legs)]
    values = sum(report.histogram.counts) + report.histogram.exact
    said = (
        f"{_count(len(ran), 'implementation')} ({listing(ran)}) held against the exact network ({report.oracle}) "
        f"in {_count(len(report.cases), 'case')}; the served graph alone gave {values:,} values. {_verdict_end(report)}"
    )
    return f'<div class="verdict {kind}">\n<p><strong>{mark}</strong> {escape(said)}</p>\n</div>\n{_network(report)}'


def _verdict_end(report: Report) -> str:
    worst, failures = report.worst(), len(report.failures())
    if failures:
        end = f"{_count(failures, 'comparison')} failed; the worst is "
        if worst.complaint:
            return f"{end}{worst.leg} in case {worst.case}: {worst.complaint}."
        times = percent(share(worst.max_abs, worst.tolerance))
        return f"{end}an error of {number(worst.max_abs)}, {times} what float32 rounding explains there."
    used = percent(share(worst.max_abs, worst.tolerance))
    end = f"The value nearest to its limit used {used} of what float32 rounding may do there."
    sensitive = sum(bool(case.sensitive) for case in report.cases)
    if sensitive:
        end += f" In {sensitive} of the cases the network magnifies rounding so much that they cannot be bounded."
    return end


def _network(report: Report) -> str:
    """Return what was exported, in the words of its own description."""
    known = {key: value for key, value in sorted(report.network.items()) if value not in (None, [], {}, 0.0, False)}
    rows = "\n".join(
        f"<dt>{escape(key.replace('_', ' '))}</dt><dd>{escape(_plain(value))}</dd>" for key, value in known.items()
    )
    return f"<details>\n<summary>The network</summary>\n<dl>\n{rows}\n</dl>\n</details>"


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _worst(report: Report) -> str:
    worst = report.worst()
    rows = [("Case", f"<code>{escape(worst.case)}</code>"), ("Leg", escape(worst.leg))]
    found = _difference(report, worst)
    if worst.complaint:
        rows.append(("Complaint", escape(worst.complaint)))
    if worst.output:
        rows.append(("Where", f"<code>{escape(worst.output)}{place(worst.index)}</code>"))
    if found is not None:
        rows += [("Expected", exact_number(found.expected)), ("Found", exact_number(found.found))]
    if worst.output or found is not None:
        rows += [
            ("Error", f"{number(worst.max_abs)} ({number(worst.ulps)} ULP of the expected value)"),
            ("Allowed", f"{number(worst.tolerance)}; used {percent(share(worst.max_abs, worst.tolerance))}"),
        ]
    listed = "\n".join(f"<dt>{key}</dt><dd>{value}</dd>" for key, value in rows)
    note = (
        "The comparison that used most of its tolerance, whichever implementation's it is. A ULP is the step from one "
        "float32 to the next at the expected value, so a value near zero makes many of them out of a small error."
    )
    return f'<h2 id="worst">The worst case</h2>\n<p class="quiet">{note}</p>\n<dl>\n{listed}\n</dl>'


def _difference(report: Report, worst: Worst) -> Difference | None:
    for case in report.cases:
        for leg in case.legs:
            if (case.id, leg.leg) == (worst.case, worst.leg):
                return leg.outputs.get(worst.output)
    return None


def _plots(report: Report) -> str:
    figures = []
    if report.growth:
        figures.append(
            _figure("Error over time steps", "One sequence from zero state, all outputs.", growth_plot(report.growth))
        )
    figures.append(
        _figure(
            f"Absolute errors of {SERVED_LEG}",
            "Every value of every case, sensitive ones too.",
            histogram_plot(report.histogram),
        )
    )
    if report.cases:
        figures.append(
            _figure(
                "Share of its tolerance that each case used",
                "A row for each leg, a cell for each case.",
                strip_plot(report.cases, report.legs, report.worst()),
            )
        )
    inside = "\n".join(figures)
    return f'<h2 id="plots">The errors in pictures</h2>\n<div class="plots">\n{inside}\n</div>'


def _figure(title: str, note: str, drawing: str) -> str:
    return f"<figure>\n<figcaption>{escape(title)}<span>{escape(note)}</span></figcaption>\n{drawing}\n</figure>"


def _evidence(report: Report) -> str:
    worst, again = report.worst().case, _again(report.network)
    held = "" if report.control.passed else " <strong>It does not hold here.</strong>"
    return "\n".join(
        filter(
            None,
            (
                '<h2 id="laws">Laws</h2>',
                laws_table(report),
                sensitive_section(report),
                '<h2 id="legs">Implementations compared</h2>',
                legs_table(report),
                '<h2 id="control">Control: PyTorch itself</h2>',
                f"<p>{_CONTROL}{held}</p>",
                control_table(report.control),
                '<h2 id="cases">Cases</h2>',
                cases_table(report),
                '<h2 id="again">Run it again</h2>',
                "<p>With the source from which the bundle was made, the whole check, or one case alone:</p>",
                f"<pre><code>{again} --out BUNDLE\n{again} --case {escape(worst)}</code></pre>",
                "<p>On another device, against the golden cases in the bundle, without PyTorch:</p>",
                "<pre><code>cellgate verify BUNDLE --device cuda</code></pre>",
                "<p>Everything on this page, and more digits, is in <code>equivalence.json</code>.</p>",
                tools_table(report),
            ),
        )
    )


def _again(network: Mapping[str, Any]) -> str:
    """Return the command that exports the network, with the names of its files as far as the report holds them."""
    weights, _, digest = str(network.get("weights", "")).partition(", sha-256 ")
    words = [str(network["source"])] if "source" in network else []
    if digest:
        words += ["--weights", weights] if words else [weights]
    return escape(f"cellgate export {shlex.join(words) or 'SOURCE'}")


def _count(number_of: int, thing: str) -> str:
    return f"{number_of:,} {thing}{'' if number_of == 1 else 's'}"
