"""docs/metrics.md says what is: its table is the scrape's, its alerts name metrics that there are."""

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from cellgate.serve.observe.counter_layout import ROWS, SECONDS, STATUSES
from cellgate.serve.observe.metrics import ServerView, render_metrics

PAGE = (Path(__file__).parents[3] / "docs/metrics.md").read_text()
SUFFIXES = re.compile(r"_(bucket|sum|count)$")


async def test_the_table_lists_every_metric_with_its_labels_and_kind(connect):
    async with connect() as client:
        text = (await client.get("/metrics")).text

        reading = client.app.state.serving.counters.read()
    engine = {"streams": {"steps": {"live": 0, "state_bytes": 0, "ended": {"end": 0}}}}
    view = ServerView(models=[], reading=reading, engine=engine, is_ready=True, processes={})
    text += render_metrics(view, "")[0].decode()

    found = {}
    for family in text_string_to_metric_families(text):
        if not family.samples:
            continue
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = (labels, family.type)
    rows = re.findall(r"^\| `(cellgate_\w+)` \|([^|]*)\| (\w+)", PAGE, re.MULTILINE)
    listed = {name: (set(re.findall(r"`(\w+)`", labels)), kind) for name, labels, kind in rows}
    assert listed == found


async def test_queries_and_alerts_name_metrics_that_there_are(connect):
    async with connect() as client:
        text = (await client.get("/metrics")).text
    samples = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    samples |= {"cellgate_streams", "cellgate_stream_state_bytes", "cellgate_streams_ended_total"}
    used = set(re.findall(r"cellgate_[a-z_]+", PAGE))

    assert {name for name in used if name not in samples and f"{name}_sum" not in samples} == set()
    assert "cellgate_queue_seconds_bucket" in used


def test_bounds_and_lists_are_those_of_the_page():
    assert (SECONDS[0], SECONDS[-1]) == (100e-6, 30)
    assert tuple(2**power for power in range(7)) == ROWS
    assert len(STATUSES) == 19
