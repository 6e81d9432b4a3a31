"""The rows as a page of Markdown, ratios first.

Rules of this file: pure; it decides what a number looks like and nothing else.
"""

from collections.abc import Mapping, Sequence

from peers import PEERS
from results import Measurement, Row, best_rate, best_shortest, lowest_shortest, overloaded, ratio

_NONE = "–"  # noqa: RUF001 - a dash that stands for no number
_LATE_S = 0.001
_HEADS = (
    "server",
    "÷ best peer",
    "p99 short ÷ best peer's",
    "÷ lowest of all peers",
    "requests/s",
    "p99",
    "open loop p50",
    "p99",
    "p99 shortest quarter",
    "p99 longest quarter",
)


def page(rows: Mapping[str, Sequence[Row]], rates: Mapping[str, float | None], lines: Sequence[str]) -> str:
    """Return the page: a table for each workload, then ``lines`` about method and machine.

    Args:
        rows: workload -> its rows.
        rates: workload -> requests a second of the open loop, None where it was not run.
        lines: paragraphs.
    """
    parts = ["# cellgate and the servers that one would pick instead"]
    for workload, table in rows.items():
        rate = rates.get(workload)
        offered = f", open loop at {rate:,.0f} requests/s" if rate else ""
        parts += [f"## {workload}{offered}", _table(table)]
        remarks = [f"- {PEERS[row.server].title}: {remark}" for row in table if (remark := _remark(row))]
        parts += ["\n".join(remarks)] if remarks else []
    return "\n\n".join([*parts, "## Method and machine", *lines]) + "\n"


def _table(table: Sequence[Row]) -> str:
    order = sorted(table, key=lambda row: -(row.closed.requests_s if row.closed else -1.0))
    lines = ["| " + " | ".join(_HEADS) + " |", "|---" + "|---:" * (len(_HEADS) - 1) + "|"]
    lines += ["| " + " | ".join(_cells(row, table)) + " |" for row in order]
    return "\n".join(lines)


def _cells(row: Row, table: Sequence[Row]) -> list[str]:
    closed, opened = row.closed, row.open
    shortest = opened.p99_shortest_s if opened and not overloaded(opened) else None
    return [
        PEERS[row.server].title,
        _ratio(ratio(closed.requests_s if closed else None, best_rate(table))),
        _ratio(ratio(shortest, best_shortest(table))),
        _ratio(ratio(shortest, lowest_shortest(table))),
        f"{closed.requests_s:,.0f}" if closed else _NONE,
        _milliseconds(closed.p99_s if closed else None),
        *_open_cells(opened),
    ]


def _open_cells(opened: Measurement | None) -> list[str]:
    if opened is None:
        return [_NONE] * 4
    times = (opened.p50_s, opened.p99_s, opened.p99_shortest_s, opened.p99_longest_s)
    return [_milliseconds(time) for time in times]


def _ratio(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2f}"


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return _NONE
    return f"{seconds * 1000:,.1f} ms" if seconds < 0.1 else f"{seconds * 1000:,.0f} ms"


def _remark(row: Row) -> str:
    """Return what a reader must know of a row besides its numbers; empty where there is nothing."""
    remarks = [row.remark] if row.remark else []
    for name, measured in (("closed", row.closed), ("open", row.open)):
        if measured is not None and measured.errors:
            remarks.append(f"{measured.errors} errors in the {name} loop")
        if name == "closed" and measured is not None and measured.busy > 0.9:
            remarks.append(f"the load generator itself was {measured.busy:.0%} busy: a lower bound")
    if row.open is not None and row.open.late_p99_s is not None and row.open.late_p99_s > _LATE_S:
        late = _milliseconds(row.open.late_p99_s)
        remarks.append(f"the load generator itself was {late} late in the open loop (p99): the machine was not quiet")
    if row.open is not None and overloaded(row.open):
        share = f"{row.open.kept_up:.0%} answered in time, {row.open.unanswered:,} given up at the end"
        remarks.append(f"overloaded in the open loop ({share}): its latencies are lower bounds")
    return "; ".join(remarks)
