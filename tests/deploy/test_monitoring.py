"""Prometheus' and Grafana's files: what they name exists, and Grafana can read them.

Rules of this file: that queries are PromQL is `promtool`'s to say, in compose_test.sh.
"""

import re

import pytest
import yaml

from .queries import (
    ADDED_LABELS,
    ALERTS,
    METRICS,
    OTHERS,
    ROOT,
    dashboard,
    dashboard_queries,
    names_in,
    selected_labels,
)

pytestmark = pytest.mark.tree

ALERT_RULES = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
ALL_QUERIES = [query for _, query in dashboard_queries()] + [rule["expr"] for rule in ALERT_RULES]
PANELS = dashboard()["panels"]
GRAPHS = [panel for panel in PANELS if panel["type"] != "row"]


@pytest.mark.parametrize("query", ALL_QUERIES)
def test_a_query_names_metrics_that_are_exported_and_labels_that_they_have(query):
    assert names_in(query)
    assert names_in(query) <= METRICS.keys() | OTHERS
    for name, label in selected_labels(query):
        assert label in METRICS.get(name, set()) | ADDED_LABELS


def test_the_dashboard_shows_every_metric():
    shown = set.union(*(names_in(query) for _, query in dashboard_queries()))
    histograms = {name.removesuffix("_bucket") for name in METRICS if name.endswith("_bucket")}
    hidden = {name for name in METRICS if name not in shown}

    assert hidden == {name + part for name in histograms for part in ("_sum", "_count")}


def test_every_metric_of_the_list_is_one_of_the_page_which_is_held_against_a_real_scrape():
    page = (ROOT / "docs/metrics.md").read_text()
    families = {re.sub("_(bucket|sum|count)$", "", name) for name in METRICS}

    assert {name for name in families if f"`{name}`" not in page} == set()


def test_a_query_groups_by_labels_that_its_metrics_have():
    for query in ALL_QUERIES:
        known = set.union(*(METRICS.get(name, set()) for name in names_in(query))) | ADDED_LABELS
        for labels in re.findall(r"\bby \(([^)]*)\)", query):
            assert {label.strip() for label in labels.split(",")} <= known, query


def test_no_query_is_left_with_a_variable_of_grafana_that_is_not_replaced():
    assert not [query for query in ALL_QUERIES if "$" in query]


def test_every_panel_says_what_it_shows_and_asks_the_provisioned_source():
    source = yaml.safe_load((ROOT / "deploy/grafana/datasources/prometheus.yml").read_text())["datasources"][0]
    for panel in GRAPHS:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
        assert panel["targets"]
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEF")[: len(panel["targets"])]


def test_panels_have_numbers_of_their_own_and_do_not_overlap():
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    taken = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24  # Grafana's grid
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_dashboard_has_what_grafana_asks_of_a_file():
    board = dashboard()

    assert re.fullmatch(r"[A-Za-z0-9_-]{1,40}", board["uid"])
    assert board["title"] == "cellgate"
    assert board["schemaVersion"] >= 36  # since when a data source is named by type and uid
    assert "id" not in board  # a number of somebody else's database
    assert [variable["name"] for variable in board["templating"]["list"]] == ["model"]
    assert not [variable for variable in ("__inputs", "__requires") if variable in board]


def test_grafana_finds_the_dashboard_where_compose_mounts_it():
    project = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    provider = yaml.safe_load((ROOT / "deploy/grafana/dashboards/provider.yml").read_text())["providers"][0]
    (mount,) = (volume for volume in project["services"]["grafana"]["volumes"] if volume.startswith("./"))
    inside = mount.split(":")[1]

    assert provider["options"]["path"] == f"{inside}/dashboards"
    home = project["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{inside}/dashboards/cellgate.json"


def test_prometheus_looks_for_the_servers_of_the_compose_project():
    project = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (found,) = job["dns_sd_configs"]

    assert set(found["names"]) == {name for name in project["services"] if name.startswith("cellgate")}
    for name in found["names"]:
        assert project["services"][name]["ports"][0].endswith(f":{found['port']}")


def test_every_alert_has_a_severity_a_summary_and_a_place_in_the_docs():
    page = (ROOT / "docs/deploy.md").read_text()
    for rule in ALERT_RULES:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
        assert f"`{rule['alert']}`" in page


def test_every_alert_has_a_case_in_which_it_fires():
    cases = yaml.safe_load((ROOT / "tests/deploy/alerts_test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in cases for case in test["alert_rule_test"] if case.get("exp_alerts")}

    assert fired == {rule["alert"] for rule in ALERT_RULES}
