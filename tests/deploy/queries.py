"""What the dashboard asks Prometheus, and which metrics dashboard and alerts name.

Run as a program it prints the queries as a file of rules, for `promtool check rules`.

Rules of this file: the list of metrics is here and nowhere else; what the server exports is compared with it.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "deploy/grafana/dashboards/cellgate.json"
ALERTS = ROOT / "deploy/prometheus/alerts.yml"

# Metric -> its labels, without those that Prometheus adds. A histogram stands for its _bucket, _sum and _count.
HISTOGRAMS = {
    "cellgate_request_seconds": {"model", "protocol"},
    "cellgate_queue_seconds": {"model"},
    "cellgate_run_seconds": {"model"},
    "cellgate_run_rows": {"model"},
}
METRICS = {
    "cellgate_requests_total": {"model", "protocol", "code"},
    "cellgate_steps_total": {"model", "kind"},
    "cellgate_lanes": {"model"},
    "cellgate_waiting_requests": set(),
    "cellgate_waiting_bytes": set(),
    "cellgate_streams": {"model"},
    "cellgate_stream_state_bytes": {"model"},
    "cellgate_streams_ended_total": {"model", "reason"},
    "cellgate_engine_restarts_total": set(),
    "cellgate_ready": set(),
    "cellgate_model_info": {"model", "version", "device", "provider", "precision"},
    "cellgate_process_cpu_seconds_total": {"process"},
    "cellgate_process_resident_memory_bytes": {"process"},
    "cellgate_process_open_fds": {"process"},
    **{f"{name}_bucket": labels | {"le"} for name, labels in HISTOGRAMS.items()},
    **{f"{name}_{part}": labels for name, labels in HISTOGRAMS.items() for part in ("sum", "count")},
}
OTHERS = {"up"}  # of Prometheus itself
ADDED_LABELS = {"job", "instance", "service"}

# What Grafana puts in the place of its variables.
_VARIABLES = {"$__rate_interval": "1m", "$model": ".*"}
_NAME = re.compile(r"\bcellgate_[a-z_]+\b|\bup\b")
_SELECTOR = re.compile(r"\b(cellgate_[a-z_]+|up)\{([^}]*)\}")
_LABEL = re.compile(r'([a-z_]+)\s*(?:=~|!~|!=|=)\s*"')


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana reads it."""
    return dict(json.loads(DASHBOARD.read_text()))


def dashboard_queries() -> Iterator[tuple[str, str]]:
    """Return (title of the panel, query with Grafana's variables replaced)."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            for name, value in _VARIABLES.items():
                query = query.replace(name, value)
            yield panel["title"], query


def names_in(query: str) -> set[str]:
    """Return the metrics that a query names."""
    return set(_NAME.findall(re.sub(r'"[^"]*"', '""', query)))


def selected_labels(query: str) -> Iterator[tuple[str, str]]:
    """Return (metric, label) for each label that a query selects by."""
    for name, inner in _SELECTOR.findall(query):
        for label in _LABEL.findall(inner):
            yield name, label


def main() -> int:
    """Print the queries as recording rules."""
    rules = [{"record": f"panel:{number}", "expr": query} for number, (_, query) in enumerate(dashboard_queries())]
    print(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}, indent=1))  # noqa: T201 - its purpose
    return 0


if __name__ == "__main__":
    sys.exit(main())
