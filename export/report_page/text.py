"""Numbers and words of the report page: short for people, escaped for HTML.

Rules of this file: pure; nothing here knows what a report is.
"""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Final

_RAISED: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def escape(value: object) -> str:
    """Return text that is safe between tags and in quoted attributes."""
    return html.escape(str(value), quote=True)


def power(base: int, exponent: int) -> str:
    """Return a power with a raised exponent: 2⁻²⁴."""
    return f"{base}{str(exponent).translate(_RAISED)}"


def number(value: float) -> str:
    """Return a number to three digits: 0.0312, 3.31 x 10⁻⁵ with a real cross, 1,400,000 not at all."""
    if not math.isfinite(value):
        return "not finite"
    if value == 0 or 1e-3 <= abs(value) < 1e4:  # noqa: PLR2004 - what is read at a glance without an exponent
        return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"  # noqa: PLR2004 - %g would give 1e+03
    digits, _, exponent = f"{value:.2e}".partition("e")
    return f"{digits}\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}{power(10, int(exponent))}"


def exact_number(value: float) -> str:
    """Return a number with the nine digits that tell two float32 apart."""
    return f"{value:.9g}" if math.isfinite(value) else str(value)


def share(part: float, whole: float) -> float:
    """Return part / whole; infinite where the part is not finite or the whole is zero and the part is not."""
    if not math.isfinite(part):
        return math.inf
    if whole <= 0:
        return math.inf if part > 0 else 0.0
    return part / whole


def percent(value: float) -> str:
    """Return a share in words: 0.4 %, 7.4 %, 32 %, or "4,210 times" above ten."""
    if not math.isfinite(value):
        return "beyond any tolerance"
    if value > 10:  # noqa: PLR2004 - per cent of more than ten times says less than the times
        return f"{value:,.0f} times" if value < 1e6 else f"{number(value)} times"  # noqa: PLR2004 - then an exponent
    if value == 0:
        return "0\N{NO-BREAK SPACE}%"
    digits = 100 * value
    text = "< 0.01" if digits < 0.01 else f"{digits:.2g}" if digits < 10 else f"{digits:.0f}"  # noqa: PLR2004 - two digits
    return f"{text}\N{NO-BREAK SPACE}%"


def place(index: Sequence[int]) -> str:
    """Return an index as it is written in code: [0, 1, 63]."""
    return f"[{', '.join(str(k) for k in index)}]"


def listing(words: Sequence[str]) -> str:
    """Return "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else "nothing"


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int = 1) -> str:
    """Return a table that scrolls by itself where it is wider than the page; cells are HTML already.

    Args:
        caption: what it shows, for those who do not see it too.
        head: names of the columns.
        rows: the first cell of each names the row.
        numbers_from: the first column of numbers, set to the right.
    """
    columns = "".join(f'<th scope="col"{_right(k, numbers_from)}>{escape(name)}</th>' for k, name in enumerate(head))
    body = "\n".join(
        f'<tr><th scope="row">{row[0]}</th>'
        + "".join(f"<td{_right(k, numbers_from)}>{cell}</td>" for k, cell in enumerate(row[1:], 1))
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}">\n<table>\n'
        f"<caption><span>{escape(caption)}</span></caption>\n<thead><tr>{columns}</tr></thead>\n<tbody>\n{body}\n</tbody>\n"
        "</table>\n</div>"
    )


def _right(column: int, numbers_from: int) -> str:
    return ' class="n"' if column >= numbers_from else ""
