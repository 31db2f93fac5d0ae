"""What ``nfproxy run`` reports: health, metrics, Events, health-check node ports."""

from __future__ import annotations

import datetime
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from support.processes.apidaemon import HEALTH_PORT, Site, site_in
from support.processes.commands import endpoint_slice, eventually, node_object, service, wait_until

from nfproxy.tools.lab import Lab

WEB = "10.96.0.1:80/tcp"
CHECK_PORT = 32100
FAMILY_LABELS = ("IPv4", "IPv6")


@pytest.fixture(scope="module")
def following(namespaces_allowed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose daemon runs, on a node with its address on an interface."""
    with Lab() as lab, site_in(lab.namespace("node"), tmp_path_factory.mktemp("site")) as made:
        made.namespace.run(["ip", "link", "add", "eth0", "type", "bridge"])
        made.namespace.run(["ip", "address", "add", "192.168.77.11/24", "dev", "eth0"])
        made.namespace.run(["ip", "link", "set", "eth0", "up"])
        made.api.apply(node_object(), service(), endpoint_slice("web", "10.244.1.5"))
        with made.daemon("--nodeport-addresses=192.168.77.0/24,fd77::/64"):
            made.api.wait_for_watches(count=4)
            yield made


@pytest.fixture(autouse=True)
def node(request: pytest.FixtureRequest) -> None:
    """Restore the Node before each test of the module's site."""
    if "following" in request.fixturenames:
        request.getfixturevalue("following").api.apply(node_object())


def test_the_start_is_an_event(following: Site) -> None:
    """It has kube-proxy's reason, and is about the Node."""
    event = following.wait_for_event("Starting")
    assert (event["type"], event["action"]) == ("Normal", "StartKubeProxy")
    regarding = event["regarding"]
    assert (regarding["kind"], regarding["name"]) == ("Node", "node-1")
    assert event["reportingController"] == "kube-proxy"


@pytest.mark.parametrize("how", ["taint", "deletion timestamp", "gone"])
def test_a_node_that_leaves_is_taken_out_of_load_balancers(following: Site, how: str) -> None:
    """/healthz answers 503 from then on; /livez does not change."""
    codes = {path: f"kubeproxy_proxy_{path[1:]}_total" for path in ("/healthz", "/livez")}
    eventually([200, 200], lambda: [following.code(path) for path in codes])
    if how == "gone":
        following.api.delete("nodes", "", "node-1")
    elif how == "taint":
        leaving = node_object()
        leaving["spec"]["taints"] = [
            {"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}
        ]
        following.api.apply(leaving)
    else:
        following.api.apply(node_object(deletionTimestamp="2026-01-01T00:00:00Z"))

    eventually([503, 200], lambda: [following.code(path) for path in codes])
    body = following.page(HEALTH_PORT, "/healthz").data
    assert body["nodeEligible"] is False
    assert {name: one["healthy"] for name, one in body["status"].items()} == {
        "IPv4": True,
        "IPv6": True,
    }
    assert following.metric(codes["/healthz"], code="503") >= 2

    following.api.apply(node_object())
    eventually([200, 200], lambda: [following.code(path) for path in codes])


def test_changes_and_syncs_are_counted(following: Site) -> None:
    """A Service counts in both families, a slice once, and each commit in both families."""
    names = {
        "services": "kubeproxy_sync_proxy_rules_service_changes_total",
        "slices": "kubeproxy_sync_proxy_rules_endpoint_changes_total",
    }
    before = {what: following.metric(name) for what, name in names.items()}
    syncs = "kubeproxy_sync_proxy_rules_duration_seconds_count"
    synced = [following.metric(syncs, ip_family=family) for family in FAMILY_LABELS]

    following.api.apply(service("counted", "10.96.2.1"))
    following.api.apply(endpoint_slice("counted", "10.244.1.9"))
    eventually(before["slices"] + 1, lambda: following.metric(names["slices"]))
    eventually(before["services"] + 2, lambda: following.metric(names["services"]))
    following.api.delete("services", "default", "counted")
    eventually(before["services"] + 4, lambda: following.metric(names["services"]))

    for family, count in zip(FAMILY_LABELS, synced, strict=True):
        wait_until(lambda: following.metric(syncs, ip_family=family) > count)  # noqa: B023
        assert following.metric(syncs, ip_family=family) > count
    pending = "kubeproxy_sync_proxy_rules_{}_changes_pending"
    eventually(0.0, lambda: following.metric(pending.format("service")))
    eventually(0.0, lambda: following.metric(pending.format("endpoint")))


def test_the_time_since_the_trigger_is_measured(following: Site) -> None:
    """
    It runs from the annotation of the EndpointSlice to the commit; times before the start do not
    count.
    """
    count = "kubeproxy_network_programming_duration_seconds_count"
    total = "kubeproxy_network_programming_duration_seconds_sum"
    before = following.metric(count), following.metric(total)
    now = datetime.datetime.now(datetime.UTC)
    for moment, addresses in (
        ("2020-01-01T00:00:00Z", ["10.244.1.6"]),
        (now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), ["10.244.1.7"]),
    ):
        changed = endpoint_slice("web", *addresses)
        changed["metadata"]["annotations"] = {
            "endpoints.kubernetes.io/last-change-trigger-time": moment
        }
        following.api.apply(changed)
        eventually(
            tuple(f"{one}:8080" for one in addresses),
            lambda: following.commands.frontends()[WEB],
        )
    eventually(before[0] + 1, lambda: following.metric(count))
    assert 0 < following.metric(total) - before[1] < 60


@pytest.mark.parametrize("policy", ["internal", "external"])
def test_services_without_local_endpoints_are_counted(following: Site, policy: str) -> None:
    """These are ports with a Local policy whose endpoints are all on other nodes."""
    name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total"

    def count() -> float:
        return following.metric(name, traffic_policy=policy, ip_family="IPv4")

    fields: dict[str, Any] = {"internalTrafficPolicy": "Local"}
    if policy == "external":
        fields = {"externalTrafficPolicy": "Local", "type": "NodePort"}
        fields["ports"] = [{"port": 80, "nodePort": 30222}]
    assert count() == 0
    following.api.apply(
        service("local", "10.96.2.2", **fields), endpoint_slice("local", "10.244.2.9", node="two")
    )
    eventually(1.0, count)
    following.api.apply(endpoint_slice("local", "10.244.1.9"))
    eventually(0.0, count)
    following.api.delete("services", "default", "local")


def test_a_health_check_node_port_opens_answers_and_closes(following: Site) -> None:
    """It is at the addresses that accept node ports, also at one that comes later."""
    site = following

    def check(address: str = "192.168.77.11") -> int:
        return site.code("/", CHECK_PORT, address)

    balanced = service(
        "balanced",
        "10.96.2.3",
        type="LoadBalancer",
        ports=[{"port": 80, "nodePort": 30223}],
        externalTrafficPolicy="Local",
        healthCheckNodePort=CHECK_PORT,
    )
    assert check() == 0
    site.api.apply(balanced, endpoint_slice("balanced", "10.244.2.9", node="node-2"))
    eventually(503, check)
    site.api.apply(endpoint_slice("balanced", "10.244.1.9", "10.244.1.8"))
    eventually(200, check)
    assert site.page(CHECK_PORT, "/", "192.168.77.11").data == {
        "service": {"namespace": "default", "name": "balanced"},
        "localEndpoints": 2,
        "serviceProxyHealthy": True,
    }
    assert site.code("/", CHECK_PORT) == 0  # loopback accepts no node ports

    site.namespace.run(["ip", "address", "add", "192.168.77.12/24", "dev", "eth0"])
    eventually(200, lambda: check("192.168.77.12"))
    site.namespace.run(["ip", "address", "delete", "192.168.77.12/24", "dev", "eth0"])
    listening = "nfproxy_health_check_listeners"
    eventually(1.0, lambda: site.metric(listening))

    site.api.delete("services", "default", "balanced")
    eventually(0, check)
    eventually(0.0, lambda: site.metric(listening))


def test_a_health_check_node_port_that_is_taken_is_an_event(following: Site) -> None:
    """The Event is about the Service, and counted; the Service itself works."""
    with following.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("192.168.77.11", CHECK_PORT + 1))
        taken.listen()
        following.api.apply(
            service(
                "taken",
                "10.96.2.4",
                type="LoadBalancer",
                ports=[{"port": 80, "nodePort": 30224}],
                externalTrafficPolicy="Local",
                healthCheckNodePort=CHECK_PORT + 1,
            )
        )
        event = following.wait_for_event("FailedToStartServiceHealthcheck")
    regarding = event["regarding"]
    assert (event["type"], regarding["kind"], regarding["name"]) == ("Warning", "Service", "taken")
    assert following.metric("nfproxy_health_check_listen_failures_total") == 1
    assert "10.96.2.4:80/tcp" in following.commands.frontends()
    following.api.delete("services", "default", "taken")
