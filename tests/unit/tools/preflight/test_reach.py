"""
Addresses that accept node ports, and routes to Services: judged.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.preflight import levels

from nfproxy.apiserver.access import ClientSettings
from nfproxy.config.kubeproxy import KubeProxyConfiguration
from nfproxy.model.addresses import parse_address
from nfproxy.model.node import Node
from nfproxy.tools.preflight.access import ApiAccess
from nfproxy.tools.preflight.examine import Subject
from nfproxy.tools.preflight.findings import Level
from nfproxy.tools.preflight.network import Link
from nfproxy.tools.preflight.reach import (
    ServiceRoute,
    judge_node_port_addresses,
    judge_service_routes,
)

LINKS = (
    Link("lo", addresses=("127.0.0.1", "::1")),
    Link("eth0", addresses=("10.0.0.5", "rubbish")),
)


def subject(*entries: str) -> Subject:
    """Return a node with these ``nodePortAddresses``."""
    config = KubeProxyConfiguration(
        node_port_addresses=entries, detect_local_mode="ClusterCIDR", cluster_cidr="10.244.0.0/16"
    )
    return Subject(config, "node-1", ClientSettings(), (30000, 32767), proc=Path("/proc"))


def node(*addresses: str) -> ApiAccess:
    """Return what the API server says of a Node with these addresses."""
    found = Node("node-1", tuple(parse_address(text) for text in addresses))
    return ApiAccess(node=found, node_asked=True)


@pytest.mark.parametrize(
    ("entries", "addresses", "gap"),
    [
        (("primary",), ("10.0.0.5",), ""),
        (("primary",), ("203.0.113.7",), "203.0.113.7"),
        (("primary", "10.0.0.0/8"), ("203.0.113.7",), ""),
        (("192.0.2.0/24", "::/0"), ("10.0.0.5",), "192.0.2.0/24"),
        (("all",), ("203.0.113.7",), ""),
        (("primary",), (), ""),
    ],
)
def test_node_port_addresses_are_looked_for(
    entries: tuple[str, ...], addresses: tuple[str, ...], gap: str
) -> None:
    """A Node's address that no interface has is found before the daemon runs."""
    (found,) = judge_node_port_addresses(subject(*entries), node(*addresses), LINKS)

    assert (found.level is Level.WARN) == bool(gap)
    assert gap in found.found
    assert not gap or "10.0.0.5/32" in found.remedy


def test_a_host_without_a_route_to_services() -> None:
    """The remedy names the range, and the family where that needs a flag."""
    routes = [
        ServiceRoute("10.96.0.1", "10.96.0.0/16", is_routed=True),
        ServiceRoute("10.96.0.1", "10.96.0.0/16", is_routed=False),
        ServiceRoute("fd00::1", "", is_routed=False),
    ]
    first, second, third = judge_service_routes(routes)

    assert levels([first, second, third]) == [Level.OK, Level.WARN, Level.WARN]
    assert "ip route add 10.96.0.0/16 dev INTERFACE src NODE-IP" in second.remedy
    assert "ip -6 route add fd00::1 dev" in third.remedy


def test_no_known_cluster_ip_is_no_finding() -> None:
    """Without an API server there is nothing to look for."""
    assert judge_service_routes(()) == []
