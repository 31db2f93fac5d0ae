"""What the chart makes for Prometheus and Grafana."""

from __future__ import annotations

import pytest
import yaml
from support.manifests import find
from support.manifests.helm import HELM, LEAST, Values, notes, preset, render

from nfproxy import __version__

MONITORED: Values = {
    "metrics": {
        "bindAddress": "[::]:20249",
        "podMonitor": {"enabled": True, "interval": "15s", "labels": {"release": "prometheus"}},
        "rules": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboard": {
            "enabled": True,
            "labels": {"grafana_dashboard": "yes"},
            "annotations": {"grafana_folder": "Network"},
        },
    }
}


def test_monitoring_is_found_by_what_looks_for_it() -> None:
    """Labels are added, but for those that the chart itself has."""
    objects = render(HELM, LEAST, MONITORED)
    monitor, rules = find(objects, "PodMonitor"), find(objects, "PrometheusRule")
    dashboard = find(objects, "ConfigMap", "nfproxy-dashboard")["metadata"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]

    assert endpoint["interval"] == "15s"
    for metadata in (monitor["metadata"], rules["metadata"]):
        assert metadata["labels"]["release"] == "prometheus"
        assert metadata["labels"]["helm.sh/chart"] == f"nfproxy-{__version__}"
    assert dashboard["labels"]["grafana_dashboard"] == "yes"
    assert dashboard["annotations"] == {"grafana_folder": "Network"}


@pytest.mark.parametrize(
    ("metrics", "address", "port"),
    [
        ({}, None, None),
        ({"bindAddress": "192.0.2.1:10249"}, "192.0.2.1:10249", None),
        ({"podMonitor": {"enabled": True}}, "0.0.0.0:10249", 10249),
        ({"bindAddress": "[::]:1", "podMonitor": {"enabled": True}}, "[::]:1", 1),
    ],
    ids=["default", "address", "monitored", "both"],
)
def test_metrics_are_open_only_to_be_scraped(
    metrics: Values, address: str | None, port: int | None
) -> None:
    """They stay on loopback, kube-proxy's default, unless the values ask for something else."""
    objects = render(HELM, LEAST, {"metrics": metrics})
    config = yaml.safe_load(find(objects, "ConfigMap")["data"]["config.conf"])
    (main,) = find(objects, "DaemonSet")["spec"]["template"]["spec"]["containers"]
    ports = {one["name"]: one["containerPort"] for one in main["ports"]}

    assert (config.get("metricsBindAddress"), ports.get("metrics")) == (address, port)


def test_the_notes_say_where_metrics_are_to_be_opened() -> None:
    """The chart does not change a ConfigMap that is not its own."""
    shown = "metricsBindAddress in ConfigMap kube-proxy is [::]:20249"

    assert shown in notes(preset("kubeadm"), MONITORED)
    assert shown not in notes(preset("kubeadm"))
    assert "metricsBindAddress" not in notes(LEAST, MONITORED)
