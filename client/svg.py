"""SVG by hand: text, lines, bars, axes, and the page around a picture. Nothing is loaded and nothing runs.

Rules of this file: pure; it knows no latency and no load; colours are classes, for light and dark alike.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import Final

WIDTH: Final = 720.0
_STYLE: Final = """
svg{--ground:#fff;--text:#1b1f24;--quiet:#57606a;--rule:#d8dee4;--one:#0b5cad;--two:#6ba6e1;--three:#b8d6f5;--bad:#cf222e}
@media (prefers-color-scheme:dark){svg{--ground:#0f1419;--text:#e6eaef;--quiet:#9aa5b1;--rule:#303a44;
--one:#9ccbff;--two:#4c8fd6;--three:#26527f;--bad:#ff7b72}}
.ground{fill:var(--ground)} text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif;fill:var(--text)}
.title{font-size:15px;font-weight:600} .head{font-weight:600} .quiet{fill:var(--quiet);font-size:12px}
.rule{stroke:var(--rule)} .one{fill:var(--one)} .two{fill:var(--two)} .three{fill:var(--three)} .bad{fill:var(--bad)}
.curve{stroke:var(--one);stroke-width:2;fill:none}
"""
_PAGE_STYLE: Final = """
:root{color-scheme:light dark} body{margin:1.5rem auto;max-width:46rem;padding:0 1rem;
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif}
svg{width:100%;height:auto} table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .9rem .25rem 0;text-align:right;border-bottom:1px solid #8884}
th:first-child,td:first-child{text-align:left}
.scroll{overflow-x:auto}
"""
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_MOST_CHARACTERS: Final = 100
_HEAD: Final = 60.0


def picture(title: str, described: str, height: float, body: Sequence[str]) -> str:
    """Return a whole SVG file of WIDTH by `height`.

    Args:
        title: of the picture, drawn at its top; what follows ": " is drawn below it.
        described: the same in words, for those who do not see it.
        height: of what is below the title, in units of about a pixel.
        body: elements below the title; their 0 is the title's lower end.
    """
    head, _, rest = title.partition(": ")
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height + _HEAD:g}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(described)}</desc>",
            f"<style>{_STYLE}</style>",
            f'<rect class="ground" width="{WIDTH:g}" height="{height + _HEAD:g}"/>',
            text(16, 26, _cut(head), "title"),
            text(16, 46, _cut(rest), "quiet"),
            f'<g transform="translate(0 {_HEAD:g})">',
            *body,
            "</g>\n</svg>\n",
        ]
    )


def page(title: str, drawn: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an HTML file with a picture and the table of its numbers; it loads nothing and runs nothing."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    lines = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_PAGE_STYLE}</style>\n</head>\n<body>\n"
        f'{drawn}<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody></table></div>\n'
        "</body>\n</html>\n"
    )


def _cut(words: str) -> str:
    return words if len(words) <= _MOST_CHARACTERS else words[: _MOST_CHARACTERS - 1] + "…"


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """Return text; `kind` is its class."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float) -> str:
    """Return a thin straight line."""
    return f'<line class="rule" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def bar(x: float, y: float, width: float, height: float, kind: str) -> str:
    """Return a filled rectangle."""
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"/>'


def curve(points: Sequence[tuple[float, float]]) -> str:
    """Return a line through points."""
    return f'<polyline class="curve" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def ticks(most: float, about: int = 4) -> list[float]:
    """Return round numbers from 0 to the first at or above `most`, about so many and evenly apart."""
    if not most > 0 or not math.isfinite(most):
        return [0.0, 1.0]
    rough = most / about
    decade = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * decade for factor in (1, 2, 5) if factor * decade >= rough * (1 - 1e-9)), 10 * decade)
    return [place * step for place in range(math.ceil(most / step * (1 - 1e-9)) + 1)]


def short(value: float) -> str:
    """Return a number in at most three or four digits: 0.00123, 4.57, 12,300."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 - no fraction from there on
