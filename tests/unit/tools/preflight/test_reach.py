"""Addresses that accept node ports, routes to Services, ranges of cluster IPs: judged."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.preflight import levels

from nfproxy.apiserver.access import ClientSettings
from nfproxy.config.kubeproxy import KubeProxyConfiguration
from nfproxy.model.addresses import Family, parse_address, parse_prefix
from nfproxy.model.node import Node
from nfproxy.tools.preflight.access import ApiAccess
from nfproxy.tools.preflight.apiserver import ApiServers
from nfproxy.tools.preflight.examine import Subject
from nfproxy.tools.preflight.findings import Level
from nfproxy.tools.preflight.reach import (
    ServiceRoute,
    judge_node_port_addresses,
    judge_service_ranges,
    judge_service_routes,
)

LOCAL = {
    Family.IPV4: frozenset(map(parse_address, ("127.0.0.1", "10.0.0.5"))),
    Family.IPV6: frozenset((parse_address("::1"),)),
}


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
    (found,) = judge_node_port_addresses(subject(*entries), node(*addresses), LOCAL)

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
    assert list(judge_service_routes(())) == []


@pytest.mark.parametrize(
    ("cidrs", "expected"),
    [
        ([], [Level.OK]),
        (["10.96.0.0/12"], [Level.OK]),
        (["192.0.2.0/24"], [Level.WARN]),
        (["192.0.2.0/24", "10.0.0.0/8"], [Level.WARN, Level.WARN]),
    ],
)
def test_ranges_hold_no_node_and_no_pod(cidrs: list[str], expected: list[Level]) -> None:
    """A warning names the range, what it holds, and what to do."""
    servers = ApiServers(service_cidrs=tuple(map(parse_prefix, cidrs)))

    found = list(judge_service_ranges(subject(), servers, node("192.0.2.1")))
    assert levels(found) == expected
    assert all(one.remedy for one in found if one.level is Level.WARN)
