"""
Each alert fires when it should, and not otherwise: as Prometheus sees it, with made-up series.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.manifests import KUSTOMIZE
from support.manifests.alerts import (
    TARGETS,
    Case,
    alerts,
    check_alerts,
    check_rules,
    expectation,
    rule_groups,
)

CASES: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("alerts.yaml").read_text())

PAGE = KUSTOMIZE.parent / "docs" / "monitoring.md"
URL = "https://github.com/nfproxy/nfproxy/blob/main/deploy/docs/monitoring.md#"

#: An hour of a node where all is as it should be.
WELL = {
    "up{NODE-1}": "1x60",
    'kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{NODE-1,ip_family="IPv4"}': "0+60x60",
    'kubeproxy_sync_proxy_rules_last_timestamp_seconds{NODE-1,ip_family="IPv4"}': "1+60x60",
    "nfproxy_services{NODE-1}": "40x60",
    'nfproxy_foreign_changes_total{NODE-1,program="nft"}': "0+0x60",
    "nfproxy_frontend_conflicts{NODE-1}": "0+0x60",
    "nfproxy_health_check_listen_failures_total{NODE-1}": "0+0x60",
    'nfproxy_watches_ended_total{NODE-1,resource="services",reason="closed"}': "0+0.1x60",
    'rest_client_requests_total{NODE-1,code="200",method="GET",host="h"}': "5+0.5x60",
    "process_start_time_seconds{NODE-1}": "1000x60",
}


def test_prometheus_takes_the_rules() -> None:
    """With nothing to say against them, duplicates included."""
    check_rules(rule_groups())


def test_every_alert_has_cases() -> None:
    """In which it fires and in which it does not."""
    assert set(CASES) == set(alerts())
    assert all(case["quiet"] for case in CASES.values())


def test_alerts_fire_when_they_should_and_not_otherwise() -> None:
    """Each with its labels, and a description of which the numbers are right."""
    cases = []
    for name, case in CASES.items():
        labels = {**TARGETS.get(case.get("of", ""), {}), **case.get("labels", {})}
        expected = expectation(name, labels, case["description"])
        cases.append(Case(case["fires"], {name: [expected]}))
        cases += (Case(series, {name: []}) for series in case["quiet"].values())

    check_alerts(*cases)


@pytest.mark.parametrize("wrong", ["fires", "quiet"])
def test_an_alert_that_is_not_as_it_should_be_is_found(wrong: str) -> None:
    """The check of the test above can fail, and says of which alert."""
    name, series = "NfproxyTargetDown", {"up{NODE-1}": "0+0x60" if wrong == "fires" else "1x60"}
    expected = [] if wrong == "fires" else [expectation(name, TARGETS["NODE-1"], "any")]
    with pytest.raises(AssertionError, match=rf"FAILED:\s+alertname: {name}"):
        check_alerts(Case(series, {name: expected}))


def test_no_alert_fires_where_all_is_well() -> None:
    """All of them looked at."""
    check_alerts(Case(WELL, dict.fromkeys(alerts(), ())))


@pytest.mark.parametrize("name", CASES)
def test_an_alert_says_what_to_do(name: str) -> None:
    """By a severity, a sentence, and a section of the documentation that exists."""
    rule = alerts()[name]
    headings = re.findall(r"^#+ (\w+)$", PAGE.read_text("utf-8"), re.MULTILINE)

    assert rule["labels"]["severity"] in ("critical", "warning")
    assert {"summary", "description", "runbook_url"} == {*rule["annotations"]}
    assert rule["annotations"]["runbook_url"] == URL + name.lower()
    assert headings.count(name) == 1
