"""The plot of a load: latency by length, and answers over time.

Rules of this file: pure, a summary in and a file's text out; what it draws it also says in words and numbers.
"""

from typing import Final

from .latency import Percentiles, Summary
from .svg import WIDTH, bar, curve, line, page, picture, short, text, ticks

_LEFT, _RIGHT = 72.0, WIDTH - 20.0
_LATENCY_TOP, _LATENCY_BOTTOM = 46.0, 226.0
_RATE_TOP, _RATE_BOTTOM = 312.0, 432.0
_HEIGHT: Final = 482.0
_KINDS: Final = (("p50", "one"), ("p90", "two"), ("p99", "three"))
_COLUMNS: Final = ("steps", "answers", "p50 ms", "p90 ms", "p99 ms", "longest ms")


def plot_load(summary: Summary, title: str, *, html: bool) -> str:
    """Return the text of an .svg file, or of an .html file with the numbers beside the picture."""
    drawn = picture(title, _in_words(summary), _HEIGHT, [*_latency(summary), *_rate(summary)])
    if not html:
        return drawn
    parts = [(f"{q.shortest} .. {q.longest}", q.latency) for q in summary.quartiles]
    rows = [[name, f"{found.count:,}", *_times(found)] for name, found in [("all", summary.latency), *parts]]
    return page(title, drawn, _COLUMNS, rows)


def _times(found: Percentiles) -> list[str]:
    return [short(time_s * 1e3) for time_s in (found.p50_s, found.p90_s, found.p99_s, found.max_s)]


def _latency(summary: Summary) -> list[str]:
    """Draw three bars for each quarter of the lengths."""
    most_ms = max((q.latency.p99_s * 1e3 for q in summary.quartiles), default=0.0)
    marks = ticks(most_ms)
    scale = (_LATENCY_BOTTOM - _LATENCY_TOP) / marks[-1]
    body = [text(16, 20, "Latency by length of the sequence, in ms", "head")]
    for place, (name, kind) in enumerate(_KINDS):
        body += [bar(_RIGHT - 170 + 60 * place, 10, 12, 12, kind), text(_RIGHT - 153 + 60 * place, 20, name, "quiet")]
    for mark in marks:
        height = _LATENCY_BOTTOM - mark * scale
        body += [line(_LEFT, height, _RIGHT, height), text(_LEFT - 8, height + 4, short(mark), "quiet", "end")]
    width = (_RIGHT - _LEFT) / max(len(summary.quartiles), 1)
    for place, part in enumerate(summary.quartiles):
        begin = _LEFT + place * width + width * 0.14
        times = (part.latency.p50_s, part.latency.p90_s, part.latency.p99_s)
        for column, (time_s, (_, kind)) in enumerate(zip(times, _KINDS, strict=True)):
            thick = width * 0.24
            top = _LATENCY_BOTTOM - time_s * 1e3 * scale
            body.append(bar(begin + column * thick, top, thick - 2, _LATENCY_BOTTOM - top, kind))
            body.append(text(begin + (column + 0.5) * thick - 1, top - 5, short(time_s * 1e3), "quiet", "middle"))
        middle = begin + width * 0.36
        steps = f"{part.shortest} .. {part.longest} steps" if part.shortest < part.longest else f"{part.longest} steps"
        body.append(text(middle, _LATENCY_BOTTOM + 18, steps, "", "middle"))
        body.append(text(middle, _LATENCY_BOTTOM + 34, f"{part.latency.count:,} answers", "quiet", "middle"))
    return body


def _rate(summary: Summary) -> list[str]:
    """Draw answers a second over the measured time; pieces with errors are marked."""
    moments = summary.timeline
    marks = ticks(max((moment.requests_per_s for moment in moments), default=0.0), 3)
    scale, span_s = (_RATE_BOTTOM - _RATE_TOP) / marks[-1], max(summary.measured_s, 1e-9)
    body = [text(16, _RATE_TOP - 24, "Answers a second, over the measured time in s", "head")]
    for mark in marks:
        height = _RATE_BOTTOM - mark * scale
        body += [line(_LEFT, height, _RIGHT, height), text(_LEFT - 8, height + 4, short(mark), "quiet", "end")]
    across = (_RIGHT - _LEFT) / span_s
    points = []
    for moment in moments:
        height = _RATE_BOTTOM - moment.requests_per_s * scale
        begin, end = _LEFT + moment.begin_s * across, _LEFT + moment.end_s * across
        points += [(begin, height), (end, height)]
        if moment.errors:
            body.append(bar(begin, _RATE_BOTTOM - 4, end - begin, 4, "bad"))
    body.append(curve(points))
    for mark in ticks(span_s, 5):
        if mark <= span_s * (1 + 1e-9):
            body.append(text(_LEFT + mark * across, _RATE_BOTTOM + 18, short(mark), "quiet", "middle"))
    if summary.errors:
        words = "red: failed requests: " + ", ".join(
            f"{reason} ({count:,})" for reason, count in summary.errors.items()
        )
        body.append(text(_LEFT, _RATE_BOTTOM + 38, words, "quiet"))
    return body


def _in_words(summary: Summary) -> str:
    parts = [
        f"{q.shortest} to {q.longest} steps: median {short(q.latency.p50_s * 1e3)} ms, "
        f"99 of 100 within {short(q.latency.p99_s * 1e3)} ms"
        for q in summary.quartiles
    ]
    return f"{short(summary.requests_per_s)} answers a second. " + "; ".join(parts) + "."
