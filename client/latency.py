"""From samples to numbers: percentiles in all and by length, rates, errors, and how late the generator itself was.

Rules of this file: pure. Latency is from the moment at which a request was due to the moment at which its answer was
complete. Percentiles are values that were really seen (nearest rank). Only answers with status 200 have a latency.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .samples import OK, WORDS, Samples

_PARTS: Final = 4
_MOST_BINS: Final = 60
_LEAST_BIN_S: Final = 0.1
_BUSY: Final = 503


@dataclass(frozen=True, kw_only=True, slots=True)
class Percentiles:
    """Of `count` times, in seconds; all zero where there are none."""

    count: int
    p50_s: float
    p90_s: float
    p99_s: float
    max_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Quartile:
    """A quarter of the sequences by length: shortest and longest of it in steps, and the latency of its requests."""

    shortest: int
    longest: int
    latency: Percentiles


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """A piece of the measured time: its begin and end in seconds after measuring began, answers a second, errors."""

    begin_s: float
    end_s: float
    requests_per_s: float
    p99_s: float
    errors: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What a load found.

    Attributes:
        measured_s: seconds of measuring.
        requests: begun in that time, answered or not.
        requests_per_s: answers with status 200 that came in that time, a second.
        row_steps_per_s: time steps of their rows, a second.
        latency: of all answers with status 200 to requests that began in that time.
        quartiles: of the same by length, the shortest first; fewer than four where lengths are alike.
        errors: how many requests failed, by status or reason, the most frequent first.
        busy: how many of them were answered 503, which may be tried again.
        lateness: from due to sent: waiting for a connection, and the generator's own slowness.
        timeline: the measured time in pieces.
    """

    measured_s: float
    requests: int
    requests_per_s: float
    row_steps_per_s: float
    latency: Percentiles
    quartiles: tuple[Quartile, ...]
    errors: dict[str, int]
    busy: int
    lateness: Percentiles
    timeline: tuple[Moment, ...]


def summarise(samples: Samples, begin_s: float, end_s: float) -> Summary:
    """Return the numbers of a load.

    Args:
        samples: of the whole run, warm-up included.
        begin_s: when measuring began, on the clock of the samples.
        end_s: when nothing was begun any more; above begin_s where anything was measured.
    """
    span_s = max(end_s - begin_s, 0.0)
    begun = samples.where(samples.scheduled_s >= begin_s)
    done = begun.where(begun.statuses == OK)
    in_time = (samples.statuses == OK) & (samples.ended_s >= begin_s) & (samples.ended_s <= end_s)
    return Summary(
        measured_s=span_s,
        requests=len(begun),
        requests_per_s=_rate(int(in_time.sum()), span_s),
        row_steps_per_s=_rate(int(samples.steps[in_time].sum()), span_s),
        latency=percentiles(done.ended_s - done.scheduled_s),
        quartiles=quartiles(done.lengths, done.ended_s - done.scheduled_s),
        errors=count_errors(begun.statuses),
        busy=int((begun.statuses == _BUSY).sum()),
        lateness=percentiles(begun.sent_s - begun.scheduled_s),
        timeline=timeline(samples, begin_s, end_s),
    )


def percentiles(times_s: NDArray[np.float64]) -> Percentiles:
    """Return percentiles of times, float64 [N]."""
    if not times_s.size:
        return Percentiles(count=0, p50_s=0.0, p90_s=0.0, p99_s=0.0, max_s=0.0)
    p50, p90, p99, most = (float(value) for value in np.quantile(times_s, (0.5, 0.9, 0.99, 1.0), method="inverted_cdf"))
    return Percentiles(count=int(times_s.size), p50_s=p50, p90_s=p90, p99_s=p99, max_s=most)


def quartiles(lengths: NDArray[np.int64], times_s: NDArray[np.float64]) -> tuple[Quartile, ...]:
    """Cut requests into quarters by length, equal lengths never apart, and return each quarter that is not empty.

    Args:
        lengths: int64 [N].
        times_s: float64 [N].
    """
    if not lengths.size:
        return ()
    cuts = np.quantile(lengths, (0.25, 0.5, 0.75), method="inverted_cdf")
    places = np.searchsorted(cuts, lengths, side="left")
    found = []
    for place in range(_PARTS):
        mask = places == place
        if mask.any():
            part = lengths[mask]
            latency = percentiles(times_s[mask])
            found.append(Quartile(shortest=int(part.min()), longest=int(part.max()), latency=latency))
    return tuple(found)


def count_errors(statuses: NDArray[np.int16]) -> dict[str, int]:
    """Count everything but 200, in words for what no status says, the most frequent first."""
    codes, counts = np.unique(statuses[statuses != OK], return_counts=True)
    pairs = sorted(zip(codes.tolist(), counts.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
    return {WORDS.get(code, str(code)): count for code, count in pairs}


def timeline(samples: Samples, begin_s: float, end_s: float) -> tuple[Moment, ...]:
    """Cut the measured time into equal pieces, at most 60 and at least a tenth of a second each."""
    span_s = end_s - begin_s
    if span_s <= 0:
        return ()
    count = min(_MOST_BINS, max(1, int(span_s / _LEAST_BIN_S)))
    edges: Sequence[float] = np.linspace(begin_s, end_s, count + 1).tolist()
    places = np.searchsorted(edges, samples.ended_s, side="right") - 1
    found = []
    for place in range(count):
        inside = samples.where(places == place)
        done = inside.where(inside.statuses == OK)
        width_s = edges[place + 1] - edges[place]
        found.append(
            Moment(
                begin_s=edges[place] - begin_s,
                end_s=edges[place + 1] - begin_s,
                requests_per_s=len(done) / width_s,
                p99_s=percentiles(done.ended_s - done.scheduled_s).p99_s,
                errors=len(inside) - len(done),
            )
        )
    return tuple(found)


def _rate(count: int, span_s: float) -> float:
    return count / span_s if span_s > 0 else 0.0
