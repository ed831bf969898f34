"""docs/grafana/ada.json imports into Grafana, asks for metrics that there are, and leaves none out."""

import json
import re
from pathlib import Path

import pytest

from services.orchestrator.observability.metrics import Metrics

DASHBOARD = json.loads((Path(__file__).parents[3] / "docs/grafana/ada.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = {target["expr"] for panel in PANELS for target in panel["targets"]}


def metrics() -> dict[str, tuple[str, set[str]]]:
    """Every series' name → its metric, and its labels."""
    series = {}
    for metric in Metrics().registry._collector_to_names:
        ends = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(metric._type, [""])
        labels = {*metric._labelnames, *(["le"] if metric._type == "histogram" else [])}
        series |= {metric._name + end: (metric._name, labels) for end in ends}
    return series


def named(expression: str) -> set[str]:
    return set(re.findall(r"\bada_\w+", expression))


def test_every_metric_in_a_query_exists():
    assert set().union(*map(named, QUERIES)) <= metrics().keys()


def test_every_metric_of_ours_has_a_panel():
    shown = {metrics()[name][0] for expression in QUERIES for name in named(expression)}
    assert shown == {name for name, _ in metrics().values()}


@pytest.mark.parametrize("expression", sorted(QUERIES))
def test_queries_group_by_existing_labels(expression: str):
    labels = set().union(*(metrics()[name][1] for name in named(expression)))
    grouped = {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(", ")}
    assert grouped <= labels
    assert expression.count("(") == expression.count(")")


def test_the_dashboard_can_be_imported_into_any_grafana():
    """Grafana asks whose Prometheus it is; ids are one each; no panel lies over another."""
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    for panel in PANELS:
        assert panel["datasource"]["uid"] == "${datasource}"
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [(x, y) for at in places for x in _span(at, "x", "w") for y in _span(at, "y", "h")]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def _span(at: dict[str, int], begin: str, length: str) -> range:
    return range(at[begin], at[begin] + at[length])
