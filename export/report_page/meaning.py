"""What a report means for whoever will serve the network, in words: rows, streams, how exact it is.

Rules of this file: pure, the report in and HTML out; every sentence is a function of the laws and of what the served
graph gave, and every word that comes from a record is escaped.
"""

from ..proof.findings import SERVED_LEG, Histogram
from ..proof.report import Report
from .text import escape, number, power


def meaning_section(report: Report) -> str:
    """Return the section; nothing where the laws were not run."""
    if not report.laws:
        return ""
    items = [_rows_in_words(report), _lengths_in_words(report), _stream_in_words(report), _size_in_words(report)]
    if report.verdict == "not equivalent":
        items.insert(0, "<strong>It must not be served:</strong> no bundle is written of it.")
    listed = "\n".join(f"<li>{item}</li>" for item in items)
    return f'<h2 id="meaning">What this means for you</h2>\n<ul>\n{listed}\n</ul>'


def _rows_in_words(report: Report) -> str:
    rows = [law for law in report.laws if law.applies and law.name in {"alone", "padding", "order"}]
    if not all(law.passed for law in rows):
        return "<strong>Rows disturb each other:</strong> what a sequence gives depends on what runs beside it."
    if report.is_bitwise("alone", "padding", "order"):
        ways = ", in any order and with any padding" if report.takes_lengths else " and in any order"
        return (
            f"<strong>A sequence gives the same bits</strong> alone, in a batch{ways} (on the CPU provider; another "
            "device is checked with <code>cellgate verify</code>)."
        )
    return (
        "<strong>A sequence gives the same within the tolerance</strong>, but not the same bits, alone and in a batch: "
        f"up to {number(max((law.max_abs for law in rows), default=0.0))} apart."
    )


def _lengths_in_words(report: Report) -> str:
    if report.takes_lengths:
        return "<strong>Sequences of one request may be of unequal length:</strong> <code>lengths</code> says which."
    return (
        "<strong>It takes no lengths:</strong> the network would read padding like any step, so the sequences of one "
        "request must be of equal length."
    )


def _stream_in_words(report: Report) -> str:
    chunks = next((law for law in report.laws if law.name == "chunks"), None)
    if chunks is None or not chunks.applies:
        return "<strong>Whole sequences only:</strong> the network carries no state from one call to the next."
    if not chunks.passed:
        apart = f"and one pass are up to {number(chunks.max_abs)} apart"
        return (
            f"<strong>Whole sequences only:</strong> chunks with carried state {escape(chunks.complaint) or apart}; a "
            "backward direction, pooling over time, attention and the number of a step need all of it."
        )
    bits = "bit for bit" if chunks.bitwise else f"within the tolerance (up to {number(chunks.max_abs)} apart)"
    return (
        f"<strong>It can be streamed:</strong> cut in {chunks.comparisons} ways and run with carried state, a sequence "
        f"gave what one pass gives, {bits}."
    )


def _size_in_words(report: Report) -> str:
    served = next((leg for leg in report.legs if leg.name == SERVED_LEG), None)
    if served is None or not served.max_abs:
        return "<strong>How exact it is</strong> cannot be said: no case is bounded."
    errors = ", ".join(f"<code>{escape(name)}</code> {number(error)}" for name, error in served.max_abs.items())
    return (
        f"<strong>Largest error of what is served</strong>, saturated gates and long sequences included: {errors}. "
        f"Half of its values are off by less than {_half_within(report.histogram)}."
    )


def _half_within(histogram: Histogram) -> str:
    """Return the upper end of the bar by which half of the values are counted."""
    counted, total = histogram.exact, histogram.exact + sum(histogram.counts)
    for exponent, count in zip(histogram.exponents, histogram.counts, strict=True):
        counted += count
        if 2 * counted >= total:
            return f"{power(2, exponent + 1)} ({number(2.0 ** (exponent + 1))})"
    return "nothing that can be said"
