"""Grafana takes the dashboard, and Prometheus every query in it."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import pytest
from support.manifests import compose, find
from support.manifests.alerts import alerts, check_expressions
from support.manifests.dashboards import expressions, metrics_in, panels

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


@pytest.fixture(scope="module")
def dashboard() -> Any:
    """The dashboard, out of its ConfigMap."""
    (text,) = find(compose("monitoring"), "ConfigMap", "nfproxy-dashboard")["data"].values()
    return json.loads(text)


def test_grafanas_sidecar_finds_it() -> None:
    """By the label that charts of Grafana look for, and a file name of a dashboard."""
    config_map = find(compose("monitoring"), "ConfigMap", "nfproxy-dashboard")

    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert [*config_map["data"]] == ["nfproxy.json"]


def test_prometheus_takes_every_query(dashboard: Any) -> None:
    """And there are many."""
    queries = [*expressions(dashboard)]
    assert len(queries) > 40

    check_expressions(queries)


def test_a_query_that_is_wrong_is_found() -> None:
    """The check of the test above can fail."""
    with pytest.raises(AssertionError, match="could not parse expression"):
        check_expressions(["rate(up[5m]", "up"])


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('sum by (node) (rate(a_total{b="c", d=~"e|f"}[5m])) > 0', {"a_total"}),
        ("a_b / on (x, y) group_left (z) c:d or vector(0)", {"a_b", "c:d"}),
        ("histogram_quantile(0.9, sum by (le) (rate(h_bucket[$__rate_interval])))", {"h_bucket"}),
    ],
)
def test_metrics_are_found_in_expressions(expression: str, expected: set[str]) -> None:
    """Functions, labels and keywords are none."""
    assert expected == metrics_in(expression)


def test_panels_are_told_apart_and_do_not_overlap(dashboard: Any) -> None:
    """Each has a number and a place of its own on a grid of 24 columns."""
    all_panels = [*panels(dashboard)]
    numbers = [panel["id"] for panel in all_panels]
    places = [panel["gridPos"] for panel in all_panels]

    assert len(numbers) == len({*numbers})
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for a, b in combinations(places, 2):
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, (a, b)


def test_panels_say_what_they_show(dashboard: Any) -> None:
    """By a title that no other has, a sentence and a unit; each query has a letter of its own."""
    shown = [panel for panel in panels(dashboard) if panel["type"] != "row"]
    titles = [panel["title"] for panel in shown]

    assert len(titles) == len({*titles})
    for panel in shown:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["type"] == "table" or panel["fieldConfig"]["defaults"]["unit"]
        letters = [target["refId"] for target in panel["targets"]]
        assert letters
        assert len(letters) == len({*letters})


def test_the_data_source_is_chosen_in_the_dashboard(dashboard: Any) -> None:
    """None is named that another Grafana would not have."""
    variables = {each["name"]: each for each in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["node"]["datasource"] == DATASOURCE

    for panel in panels(dashboard):
        if panel["type"] != "row":
            used = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
            assert all(each == DATASOURCE for each in used)


def test_it_has_the_same_place_in_every_grafana(dashboard: Any) -> None:
    """A fixed uid, so that an upgrade replaces it, and no id of a database."""
    assert dashboard["uid"] == "nfproxy"
    assert "id" not in dashboard


def test_what_alerts_look_at_is_shown(dashboard: Any) -> None:
    """The operator who gets an alert sees its metric, and since when."""
    shown = set().union(*(metrics_in(each) for each in expressions(dashboard)))
    asked = set().union(*(metrics_in(rule["expr"]) for rule in alerts().values()))

    assert {each for each in asked if each.startswith("nfproxy_")} - shown == set()
