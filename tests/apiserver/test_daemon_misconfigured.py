"""``nfproxy run`` with a configuration that does not fit its node: it says so, and fails safely."""

from __future__ import annotations

import pytest
from support.processes.apidaemon import HEALTH_PORT, Site
from support.processes.commands import (
    endpoint_slice,
    eventually,
    node_object,
    service,
    wait_until,
)

WEB = {"10.96.0.1:80/tcp": ("10.244.1.5:8080",)}
PORTS = [{"port": 80, "nodePort": 30080}]


@pytest.mark.parametrize(
    ("given", "there"),
    [
        ("node-1.example.org", "node-1"),
        ("node-1", "node-1.example.org"),
    ],
)
def test_another_name_than_the_nodes_is_said_within_seconds(
    site: Site, given: str, there: str
) -> None:
    """Log, /healthz and metric name it; no address accepts node ports in place of "primary"."""
    site.api.apply(
        node_object(there),
        node_object("other"),
        service(type="NodePort", ports=PORTS),
        endpoint_slice("web", "10.244.1.5"),
    )
    with site.daemon(node=given) as daemon:
        daemon.wait_for(f"there is no Node '{given}', but '{there}'")
        assert "--hostname-override" in daemon.log
        answer = site.page(HEALTH_PORT, "/healthz")
        assert (answer.code, answer.data["nodeEligible"]) == (503, False)
        assert f"'{there}'" in answer.data["reason"]
        assert site.metric("nfproxy_node_missing") == 1
        table = site.namespace.run(["nft", "list", "table", "ip", "nfproxy"]).stdout
        assert "ip daddr @node-port-addresses" in table  # and that set is empty
        (asked,) = [r for r in site.api.requests("nodes", "list") if "limit" in r.query]
        assert asked.query["limit"] == "500"

        site.api.apply(node_object(given))

        eventually(200, lambda: site.code("/healthz"))
        eventually(0.0, lambda: site.metric("nfproxy_node_missing"))
        assert "reason" not in site.page(HEALTH_PORT, "/healthz").data


def test_a_variable_that_was_not_replaced_is_said(site: Site) -> None:
    """A pod without the variable gets its name as it is."""
    site.api.apply(node_object(), service(), endpoint_slice("web", "10.244.1.5"))
    with site.daemon(node="$(NODE_NAME)") as daemon:
        daemon.wait_for("a variable in --hostname-override was not replaced")
        site.serves(WEB)


def test_a_node_address_on_no_interface_is_said(site: Site) -> None:
    """Behind a 1:1 NAT node ports would be served nowhere. It ends when the address comes."""
    site.api.apply(node_object(), service(), endpoint_slice("web", "10.244.1.5"))
    site.namespace.run(["ip", "address", "add", "192.0.2.5/32", "dev", "lo"])
    with site.daemon() as daemon:
        log = daemon.wait_for("no interface of this host has an address in 192.168.77.11")
        assert "IPv4 node ports and health check node ports are served nowhere" in log
        assert "192.0.2.5/32" in log
        metric = "nfproxy_node_ports_unreachable"
        eventually(1.0, lambda: site.metric(metric, ip_family="IPv4"))

        site.namespace.run(["ip", "address", "add", "192.168.77.11/32", "dev", "lo"])

        daemon.wait_for("IPv4 node ports are served again")
        assert site.metric(metric, ip_family="IPv4") == 0


def test_a_cluster_cidr_that_does_not_fit_is_said_at_start_and_on_change(site: Site) -> None:
    """It misses the node's pods; then it holds the node itself."""
    node = node_object()
    node["spec"]["podCIDRs"] = ["10.250.1.0/24"]
    site.api.apply(node, service(), endpoint_slice("web", "10.244.1.5"))
    soon = "from nfproxy.daemon import background; background._POD_RANGES_S = 0.2"
    with site.daemon(prepare=soon) as daemon:
        daemon.wait_for("10.244.0.0/16 does not hold this node's podCIDR 10.250.1.0/24")
        eventually(1.0, lambda: site.metric("nfproxy_local_pods_mismatch"))
        wait_until(lambda: site.events("ClusterCIDRMismatch"))
        (event,) = site.events("ClusterCIDRMismatch")
        assert event["regarding"]["kind"] == "Node"
        assert event["type"] == "Warning"
        assert "does not hold this node's podCIDR 10.250.1.0/24" in event["note"]
        node["spec"]["podCIDRs"] = ["10.244.1.0/24"]
        site.api.apply(node)
        eventually(0.0, lambda: site.metric("nfproxy_local_pods_mismatch"))
        node["status"]["addresses"] = [{"type": "InternalIP", "address": "10.244.0.9"}]
        site.api.apply(node)
        daemon.wait_for("10.244.0.0/16 holds this node's own address 10.244.0.9")
        eventually(1.0, lambda: site.metric("nfproxy_local_pods_mismatch"))
        wait_until(lambda: len(site.events("ClusterCIDRMismatch")) == 2)
