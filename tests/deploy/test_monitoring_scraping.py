"""What the PodMonitor has Prometheus scrape is what nfproxy serves."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from support.manifests import Object, check, compose, find
from support.manifests.kubeproxy import ELSEWHERE
from support.processes.apidaemon import Site

#: Overlays with a configuration of nfproxy's own, and one whose configuration is kube-proxy's.
OWN, THEIRS = ("base", "k3s", "kind", "rke2"), "kubeadm"


def with_monitoring(base: str) -> list[Object]:
    """Return the objects of an overlay with both components."""
    return compose("monitoring", "service-connections", base=base)


def endpoints(objects: list[Object]) -> list[Any]:
    """Return what is scraped."""
    scraped: list[Any] = find(objects, "PodMonitor")["spec"]["podMetricsEndpoints"]
    return scraped


@pytest.mark.parametrize("base", [*OWN, THEIRS])
def test_the_pods_are_selected_and_have_the_port(base: str) -> None:
    """
    By their labels and its name; nothing in the objects is unknown to Kubernetes or the operator.
    """
    objects = with_monitoring(base)
    check(objects, *ELSEWHERE)
    template = find(objects, "DaemonSet")["spec"]["template"]
    (main,) = template["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in main["ports"]}
    monitor = find(objects, "PodMonitor")

    assert monitor["metadata"]["namespace"] == "kube-system"  # where it looks for pods
    assert (
        monitor["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    )
    assert {ports[endpoint["port"]] for endpoint in endpoints(objects)} == {10249}
    assert ports["healthz"] == 10256


@pytest.mark.parametrize("base", OWN)
def test_metrics_are_opened_and_nothing_else_changes(base: str) -> None:
    """In the ConfigMap that is nfproxy's own, whatever else stands there."""
    before, after = (
        yaml.safe_load(find(objects, "ConfigMap")["data"]["config.conf"])
        for objects in (compose(base=base), with_monitoring(base))
    )

    assert after == {**before, "metricsBindAddress": "0.0.0.0:10249"}


def test_each_page_is_a_job_of_its_own() -> None:
    """Two targets with the same labels would be taken for one."""
    jobs = {
        endpoint["path"]: [
            rule["replacement"] for rule in endpoint["relabelings"] if rule["targetLabel"] == "job"
        ]
        for endpoint in endpoints(with_monitoring("base"))
    }
    (monitor,) = (i["spec"] for i in with_monitoring("base") if i["kind"] == "PodMonitor")

    assert jobs == {"/metrics": [], "/metrics/services": ["nfproxy-services"]}
    assert monitor["jobLabel"] == "app.kubernetes.io/name"  # "nfproxy"


def test_every_page_is_served(site: Site) -> None:
    """At the port that is scraped."""
    with site.daemon(ready=False) as daemon:
        daemon.wait_for("serving metrics")
        codes = {
            e["path"]: site.page(10249, e["path"]).code for e in endpoints(with_monitoring("base"))
        }

    assert codes == {"/metrics": 200, "/metrics/services": 200}
