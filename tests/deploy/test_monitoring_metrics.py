"""
The metrics that documentation, alerts and dashboard speak of are those that there are.

After a change of metrics: ``pytest tests/deploy/test_monitoring_metrics.py --update-golden``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from support.manifests import KUSTOMIZE, compose, find
from support.manifests.alerts import alerts
from support.manifests.dashboards import expressions, metrics_in
from support.manifests.exposition import (
    Described,
    all_metrics,
    described,
    fill,
    series_names,
    table,
)
from support.processes.apidaemon import METRICS_PORT, Site
from support.processes.commands import endpoint_slice, node_object, service

from nfproxy.metrics.own import connections_text, open_connections_text
from nfproxy.model.service import ObjectName, Protocol

PAGE = KUSTOMIZE.parent / "docs" / "monitoring.md"

#: Metrics of others that alerts and dashboard look at.
OF_OTHERS = {
    # Prometheus itself
    "up",
    "ALERTS",
    # kube-state-metrics
    "kube_pod_info",
    "kube_pod_status_ready",
    "kube_pod_container_resource_limits",
    # the kubelet's cAdvisor
    "container_memory_working_set_bytes",
    # node_exporter
    "node_nf_conntrack_entries",
    "node_nf_conntrack_entries_limit",
}


def known() -> dict[str, Described]:
    """Return every metric of the metrics page, by name."""
    return described(all_metrics().text().decode())


def tables() -> Iterator[tuple[str, str]]:
    """Give the tables of the documentation, by name."""
    metrics = known()
    yield "own", table(metrics, "nfproxy_")
    yield "kube-proxy", table(metrics, "kubeproxy_")
    others = ("kubernetes_", "process_", "registered_", "rest_client_")
    yield "component", table(metrics, *others)
    yield "slis", table(described(all_metrics().sli_text().decode()), "")
    yield "services", table(by_service(), "")


def by_service() -> dict[str, Described]:
    """Return every metric of the page /metrics/services."""
    one = (ObjectName("default", "web"), "http", Protocol.TCP, 1)
    open_ones = open_connections_text({one[:3]: (1, 1)})
    return described((connections_text([one]) + open_ones).decode())


def test_everything_has_happened() -> None:
    """No metric is without a series here, in which case the tables would not have it."""
    registered = {metric.name: metric for metric in all_metrics()._everything.collect()}

    assert [name for name, metric in registered.items() if not metric.samples] == []


def test_the_documentation_has_every_metric(pytestconfig: pytest.Config) -> None:
    """With its type, its labels and its meaning; and no other."""
    page = PAGE.read_text("utf-8")
    expected = fill(page, tables())
    listed = re.findall(r"^\| `(\w+)` \|", expected, re.MULTILINE)
    if pytestconfig.getoption("update_golden"):
        PAGE.write_text(expected, "utf-8")
        return

    assert {*known()} <= {*listed}
    assert page == expected


@pytest.mark.parametrize("name", alerts())
def test_alerts_look_at_metrics_that_there_are(name: str) -> None:
    """nfproxy's own, or those of others that are named here."""
    used = metrics_in(alerts()[name]["expr"])

    assert used
    assert used <= {*series_names(known())} | OF_OTHERS


def test_the_dashboard_looks_at_metrics_that_there_are() -> None:
    """In every panel."""
    (text,) = find(compose("monitoring"), "ConfigMap", "nfproxy-dashboard")["data"].values()
    used = {name for expression in expressions(json.loads(text)) for name in metrics_in(expression)}

    assert used <= {*series_names(known() | by_service())} | OF_OTHERS
    assert {*OF_OTHERS} <= used | {
        m for rule in alerts().values() for m in metrics_in(rule["expr"])
    }


def test_the_daemon_has_them_and_serves_them_to_others(site: Site) -> None:
    """With the address that the component opens; every metric of it is documented as it is."""
    config = find(compose("monitoring"), "ConfigMap")["data"]["config.conf"]
    (opened,) = re.findall(r"^metricsBindAddress: (.*)$", config, re.MULTILINE)
    site.add_node_addresses()
    site.api.apply(node_object(), service(), endpoint_slice("web", "10.244.1.5"))
    with site.daemon(f"--metrics-bind-address={opened}"):
        pages = [
            site.page(METRICS_PORT, "/metrics", address)
            for address in ("192.168.77.11", "fd77::11", "127.0.0.1")
        ]

    assert [page.code for page in pages] == [200, 200, 200]
    found, documented = described(pages[0].body), known()
    for name, metric in found.items():
        expected = documented[name]
        assert (metric.type, metric.help) == (expected.type, expected.help)
        assert {*metric.labels} <= {*expected.labels}
    # What happens to every daemon: the rest is about failures, and about what has not happened.
    assert {
        "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
        "nfproxy_api_server_in_use",
        "nfproxy_build_info",
        "nfproxy_foreign_changes_total",
        "nfproxy_frontend_conflicts",
        "nfproxy_health_check_listen_failures_total",
        "nfproxy_services",
        "nfproxy_transaction_duration_seconds",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "rest_client_requests_total",
    } <= {*found}
