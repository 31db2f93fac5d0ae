"""
The addresses of kube-proxy's ipvs device, removed without breaking this host's connections.

A veth of that name stands in for the dummy device, which not every kernel has.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nfproxy.model.addresses import Family, parse_address
from nfproxy.tools.lab import Cluster, Host
from nfproxy.tools.takeover import ipvs
from nfproxy.tools.takeover.names import IPVS_DEVICE

VIRTUAL = {Family.IPV4: "10.96.0.10", Family.IPV6: "fd00:10:96::10"}


@pytest.fixture
def node(namespaces_allowed: None) -> Iterator[Host]:
    """A node with virtual addresses bound to the device, and other hosts to talk to."""
    with Cluster(nodes=1, pods_per_node=1) as cluster:
        node = cluster.nodes[0]
        node.connect(IPVS_DEVICE, cluster.client, "peer")
        for family, address in VIRTUAL.items():
            node.add_address(f"{address}/{family.size * 8}", IPVS_DEVICE)
        yield node


def sources(node: Host) -> dict[Family, str]:
    """Return the source address of this host's connections to each virtual address."""

    def source(family: Family) -> str:
        found = node.netlink(lambda ip: ip.route("get", family=int(family), dst=VIRTUAL[family]))
        return str(found[0].get_attr("RTA_PREFSRC"))

    return {family: source(family) for family in VIRTUAL}


def test_new_connections_come_from_the_nodes_own_address(node: Host) -> None:
    """That holds while a virtual address is local: a connection from it would break with it."""
    before = sources(node)
    bound = node.namespace.call(ipvs.host_addresses)[0]
    node.namespace.call(ipvs.prefer_own_source, bound)
    first = sources(node)
    node.namespace.call(ipvs.prefer_own_source, bound)  # as by a second run of the command
    second = sources(node)

    assert set(bound) >= set(map(parse_address, VIRTUAL.values()))
    assert before == VIRTUAL
    assert first == second == {Family.IPV4: node.ipv4, Family.IPV6: node.ipv6}


def test_nothing_is_left_of_an_address(node: Host) -> None:
    """The address, the route to it and the device are removed; a second run changes nothing."""
    packed = [parse_address(address) for address in VIRTUAL.values()]
    node.namespace.call(ipvs.prefer_own_source, packed)
    node.namespace.call(ipvs.unbind, packed)
    node.namespace.call(ipvs.unbind, packed)
    left = node.namespace.run(["ip", "-o", "route", "show", "table", "local"]).stdout
    left6 = node.namespace.run(["ip", "-6", "-o", "route", "show", "table", "local"]).stdout
    remaining = node.namespace.call(ipvs.host_addresses)[0]
    node.namespace.call(ipvs.delete_device)
    node.namespace.call(ipvs.delete_device)

    assert not set(packed) & set(remaining or ())
    assert [
        line for line in (left + left6).splitlines() if "10.96" in line or "10:96" in line
    ] == []
    assert node.namespace.call(ipvs.host_addresses)[0] is None
