"""The plots of the report page: SVG written by hand, sized in units of a phone's width, drawn larger on a desk.

Rules of this file: pure, records in and SVG out; colours are classes that style.py gives meaning to, so that
light, dark and print each have their own; whatever a plot shows by colour it also says in words.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ..proof.findings import SERVED_LEG, Growth, Histogram
from .text import escape, percent, power

WIDTH: Final = 360
_ROUNDING: Final = -24  # of a float32 in [1/2, 1): two to this power
_LABEL_GAP: Final = 14.0
_MOST_TICKS: Final = 7


def figure(name: str, title: str, described: str, height: float, body: Sequence[str]) -> str:
    """Return an SVG with its title and description; ``name`` is unique on the page."""
    inside = "\n".join(body)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-labelledby="{name}-title {name}-desc">\n'
        f'<title id="{name}-title">{escape(title)}</title>\n<desc id="{name}-desc">{escape(described)}</desc>\n'
        f"{inside}\n</svg>"
    )


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """Return a text element; ``kind`` is a class."""
    chosen = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{chosen}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Return a straight line of the class ``kind``."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def growth_plot(growth: Sequence[Growth]) -> str:
    """Draw the largest error after so many steps, both axes logarithmic: a line for each leg and for the tolerance."""
    curves = {"tolerance": [point.tolerance for point in growth]}
    for leg in growth[-1].max_abs:
        curves[leg] = [point.max_abs.get(leg, math.inf) for point in growth]
    steps = [math.log10(point.steps) for point in growth]
    low, high = _decades([value for curve in curves.values() for value in curve])
    left, right, top, bottom = 40.0, 256.0, 26.0, 190.0

    def across(log_steps: float) -> float:
        return left + (right - left) * log_steps / max(steps[-1], 1.0)

    def up(value: float) -> float:
        height = high if not math.isfinite(value) else low if value <= 0 else min(max(math.log10(value), low), high)
        return bottom - (bottom - top) * (height - low) / (high - low)

    body = _decade_lines(low, high, left, right, up)
    for k in range(math.floor(max(steps[-1], 1.0)) + 1):
        body.append(line(across(k), bottom, across(k), bottom + 4, "axis"))
        body.append(text(across(k), bottom + 16, f"{10**k:,}", "tick", "middle"))
    body.append(text((left + right) / 2, bottom + 31, "time steps", "tick", "middle"))
    body.append(text(2, 12, "largest absolute error", "tick"))
    ends = _apart({leg: up(curve[-1]) for leg, curve in curves.items()}, top, bottom)
    for leg, curve in curves.items():
        points = " ".join(f"{across(x):.1f},{up(value):.1f}" for x, value in zip(steps, curve, strict=True))
        kind = _class_of(leg)
        body.append(f'<polyline points="{points}" class="line {kind}" fill="none"/>')
        body.append(line(across(steps[-1]), up(curve[-1]), right + 10, ends[leg], f"leader {kind}"))
        body.append(text(right + 13, ends[leg] + 4, leg, f"label {kind}"))
    return figure("growth", "Error over time steps", _growth_in_words(growth), bottom + 38, body)


def _growth_in_words(growth: Sequence[Growth]) -> str:
    first, last = growth[0], growth[-1]
    legs = "; ".join(
        f"{leg} {first.max_abs.get(leg, math.inf):.2g} and {error:.2g}" for leg, error in last.max_abs.items()
    )
    return (
        f"Largest error after {first.steps} and after {last.steps} steps: {legs}; "
        f"tolerance {first.tolerance:.2g} and {last.tolerance:.2g}."
    )


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """Return the exponents of ten that hold every value which can be drawn."""
    logs = [math.log10(value) for value in values if math.isfinite(value) and value > 0]
    low, high = math.floor(min(logs, default=-8.0)), math.ceil(max(logs, default=-4.0))
    return low, max(high, low + 1)


def _decade_lines(low: int, high: int, left: float, right: float, up: Callable[[float], float]) -> list[str]:
    every = -(-(high - low) // _MOST_TICKS)
    body = []
    for k in range(low, high + 1, every):
        body.append(line(left, up(10.0**k), right, up(10.0**k), "grid"))
        body.append(text(left - 4, up(10.0**k) + 4, power(10, k), "tick", "end"))
    return body


def _apart(wanted: Mapping[str, float], top: float, bottom: float) -> dict[str, float]:
    """Move labels up and down until none covers another, in the order in which they were."""
    order = sorted(wanted, key=lambda name: wanted[name])
    placed: dict[str, float] = {}
    least = top
    for name in order:
        placed[name] = max(wanted[name], least)
        least = placed[name] + _LABEL_GAP
    most = bottom
    for name in reversed(order):
        placed[name] = min(placed[name], most)
        most = placed[name] - _LABEL_GAP
    return placed


def _class_of(leg: str) -> str:
    return {"eager": "leg-eager", SERVED_LEG: "leg-served", "tolerance": "leg-tolerance"}.get(leg, "leg-control")


def histogram_plot(histogram: Histogram) -> str:
    """Draw how the absolute errors of the served leg are spread, a bar for each power of two; exact ones are named."""
    total = sum(histogram.counts) + histogram.exact
    filled = [k for k, count in enumerate(histogram.counts) if count]
    title = f"Absolute errors of {SERVED_LEG}"
    exact = f"{percent(histogram.exact / max(total, 1))} of {total:,} values are exact"
    if not filled:
        return figure("histogram", title, exact, 40, [text(4, 24, exact, "label")])
    chosen = range(max(filled[0] - 1, 0), min(filled[-1] + 2, len(histogram.counts)))
    left, right, top, bottom = 40.0, 352.0, 42.0, 170.0
    step, highest = (right - left) / len(chosen), max(histogram.counts)
    body = [text(2, 12, "share of the values", "tick"), text(right, 12, exact, "label", "end")]
    for mark in (0.5, 1.0):
        y = bottom - (bottom - top) * mark
        body.append(line(left, y, right, y, "grid"))
        body.append(text(left - 4, y + 4, percent(mark * highest / total), "tick", "end"))
    for n, k in enumerate(chosen):
        body.append(_bar(left + n * step, step, bottom, (bottom - top) * histogram.counts[k] / highest, histogram, k))
    body.append(line(left, bottom, right, bottom, "axis"))
    body += _powers_of_two([histogram.exponents[k] for k in chosen], left, step, bottom)
    body.append(text((left + right) / 2, bottom + 33, "absolute error, a bar for each power of two", "tick", "middle"))
    body += _rounding_mark([histogram.exponents[k] for k in chosen], left, step, top, bottom)
    lowest, last = histogram.exponents[filled[0]], histogram.exponents[filled[-1]] + 1
    described = f"{exact}; the others are off by {power(2, lowest)} to {power(2, last)}."
    return figure("histogram", title, described, bottom + 40, body)


def _bar(x: float, width: float, bottom: float, height: float, histogram: Histogram, k: int) -> str:
    count = histogram.counts[k]
    if not count:
        return ""
    drawn = max(height, 0.8)  # a single value among a million is still seen
    said = f"{count:,} from {power(2, histogram.exponents[k])} to {power(2, histogram.exponents[k] + 1)}"
    return (
        f'<rect x="{x + 0.5:.2f}" y="{bottom - drawn:.2f}" width="{max(width - 1, 0.5):.2f}" height="{drawn:.2f}" '
        f'class="bar"><title>{escape(said)}</title></rect>'
    )


def _powers_of_two(exponents: Sequence[int], left: float, step: float, bottom: float) -> list[str]:
    every = next(n for n in (1, 2, 4, 8, 16) if len(exponents) / n <= _MOST_TICKS + 1)
    body = []
    for n, exponent in enumerate(exponents):
        if exponent % every == 0:
            x = left + n * step
            body.append(line(x, bottom, x, bottom + 4, "axis"))
            body.append(text(x, bottom + 17, power(2, exponent), "tick", "middle"))
    return body


def _rounding_mark(exponents: Sequence[int], left: float, step: float, top: float, bottom: float) -> list[str]:
    """Mark the error of one rounding of a value near 1, for the eye to measure by."""
    if _ROUNDING not in exponents:
        return []
    x = left + exponents.index(_ROUNDING) * step
    anchor = "end" if x > left + 160 else "start"  # the half in which the words have room
    words = f"one rounding near 1 ({power(2, _ROUNDING)})"
    return [
        line(x, top - 8, x, bottom, "mark"),
        text(x + (-4 if anchor == "end" else 4), top - 12, words, "tick", anchor),
    ]
