"""From what the generator measured to the numbers of the table: percentiles, medians over rounds, ratios.

Rules of this file: pure; no clock, no sockets, no files.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

import numpy as np
from load_run import Load
from peers import OURS

KEPT_UP: Final = 0.95
"""A server that answers less than this share of an open loop's requests in time is overloaded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One run of one server.

    Attributes:
        requests_s: good answers a second.
        p50_s, p99_s: latency over all requests, seconds; None where there were none.
        p99_shortest_s, p99_longest_s: of the quarter of the requests with the shortest, the longest sequences.
        kept_up: share of the requests of an open loop that were answered within the measured time.
        errors, unanswered: requests.
        busy: share of its core that the generator used.
        late_p99_s: how late the generator itself was in an open loop, seconds; where it is, others took its core.
    """

    requests_s: float
    p50_s: float | None
    p99_s: float | None
    p99_shortest_s: float | None
    p99_longest_s: float | None
    kept_up: float
    errors: int
    unanswered: int
    busy: float
    late_p99_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One server at one workload, medians over the rounds; ``remark``: why one is missing, or what else was seen."""

    server: str
    closed: Measurement | None
    open: Measurement | None
    remark: str | None = None


def measure(load: Load, lengths: Sequence[int]) -> Measurement:
    """Return the numbers of one run; ``lengths`` are those of the requests, by index."""
    latency = np.array(load.latency_s)
    quarter = quarters(lengths)[np.array(load.sent, dtype=np.int64)]
    return Measurement(
        requests_s=load.good / load.seconds,
        p50_s=_percentile(latency, 50),
        p99_s=_percentile(latency, 99),
        p99_shortest_s=_percentile(latency[quarter == 0], 99),
        p99_longest_s=_percentile(latency[quarter == 3], 99),
        kept_up=load.good / max(1, load.due),
        errors=load.errors,
        unanswered=load.unanswered,
        busy=load.busy,
        late_p99_s=_percentile(np.array(load.late_s), 99),
    )


def quarters(lengths: Sequence[int]) -> Any:
    """Return 0 .. 3 for each request, int64: its quarter by length; equal lengths are parted by index."""
    ranks = np.empty(len(lengths), dtype=np.int64)
    ranks[np.argsort(lengths, kind="stable")] = np.arange(len(lengths))
    return ranks * 4 // len(lengths)


def _percentile(latency: Any, percent: float) -> float | None:
    return float(np.percentile(latency, percent)) if len(latency) else None


def middle(rounds: Sequence[Measurement]) -> Measurement | None:
    """Return the medians over rounds, each number for itself; errors and unanswered are sums."""
    if not rounds:
        return None
    fields: dict[str, Any] = {}
    for name in asdict(rounds[0]):
        values = [value for one in rounds if (value := getattr(one, name)) is not None]
        if name in ("errors", "unanswered"):
            fields[name] = sum(values)
        else:
            fields[name] = median(values) if values else None
    return Measurement(**fields)


def best_rate(rows: Iterable[Row]) -> float | None:
    """Return the requests a second of the best peer, cellgate not counted; None where none was measured."""
    rates = [row.closed.requests_s for row in rows if row.server != OURS and row.closed is not None]
    return max(rates, default=None)


def best_shortest(rows: Sequence[Row]) -> float | None:
    """Return the p99 of the shortest quarter, in the open loop, of the best peer: the one with the most requests/s."""
    rate = best_rate(rows)
    best = (row.open for row in rows if row.server != OURS and row.closed and row.closed.requests_s == rate)
    measured = next(best, None)
    return measured.p99_shortest_s if measured else None


def lowest_shortest(rows: Iterable[Row]) -> float | None:
    """Return the lowest p99 of the shortest quarter among the peers that kept up, whatever their requests/s."""
    kept_up = [row.open for row in rows if row.server != OURS and row.open and not overloaded(row.open)]
    return min((one.p99_shortest_s for one in kept_up if one.p99_shortest_s is not None), default=None)


def overloaded(measurement: Measurement) -> bool:
    """Return whether the server fell behind an open loop."""
    return measurement.kept_up < KEPT_UP or measurement.unanswered > 0


def rows_to_json(rows: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """Return plain values: workload -> rows, with their ratios to the best peer."""
    return {workload: [_row_to_json(row, table) for row in table] for workload, table in rows.items()}


def _row_to_json(row: Row, table: Sequence[Row]) -> dict[str, Any]:
    found = row.open.p99_shortest_s if row.open else None
    ratios = {
        "requests": ratio(row.closed.requests_s if row.closed else None, best_rate(table)),
        "p99_shortest": ratio(found, best_shortest(table)),
        "p99_shortest_to_lowest": ratio(found, lowest_shortest(table)),
    }
    return asdict(row) | {"ratio_to_best_peer": ratios}


def ratio(value: float | None, best: float | None) -> float | None:
    """Return value over best, None where one is missing."""
    return None if value is None or not best else value / best
