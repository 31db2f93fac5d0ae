"""The way to an endpoint, read from the kernel of a lab."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from pyroute2 import IPRoute
from support.processes.commands import wait_until

from nfproxy.host.routes import read_routes
from nfproxy.insight.nodefacts import Route
from nfproxy.model.addresses import parse_address
from nfproxy.tools.lab import Cluster, LabNode


@pytest.fixture(scope="module")
def bridged(namespaces_allowed: None) -> Iterator[Cluster]:
    """A node whose pods share a bridge."""
    with Cluster(nodes=2, pods_per_node=2, pod_network="bridge") as built:
        yield built


def way(node: LabNode, address: str) -> Route:
    return node.namespace.call(read_routes, [parse_address(address)])[parse_address(address)]


def greet(node: LabNode, address: str) -> None:
    """Send a packet, so that the kernel learns where the address is."""
    with node.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"", (address, 9))
    wait_until(lambda: way(node, address).port)


def test_a_pod_behind_a_bridge_has_a_port(bridged: Cluster):
    node, pod = bridged.nodes[0], bridged.pod(1, 1)
    greet(node, pod.ipv4)

    found = way(node, pod.ipv4)

    assert found.interface is not None
    assert (found.interface.name, found.interface.kind, found.via) == ("cni0", "bridge", b"")
    assert found.port is not None
    assert (found.port.name, found.port.hairpin) == (pod.interface, True)
    assert {port.name for port in found.ports} == {each.interface for each in node.pods.values()}
    node.netlink(lambda ip: _set_hairpin(ip, pod.interface, on=False))
    changed = way(node, pod.ipv4).port
    assert changed is not None
    assert changed.hairpin is False


def _set_hairpin(ip: IPRoute, name: str, *, on: bool) -> None:
    ip.brport("set", index=ip.link_lookup(ifname=name)[0], mode=int(on))


def test_a_pod_elsewhere_has_a_next_hop_and_the_least_mtu(bridged: Cluster):
    node, pod = bridged.nodes[0], bridged.pod(2, 1)
    far = bridged.nodes[1]

    found = way(node, pod.ipv4)

    assert found.interface is not None
    assert (found.interface.name, found.via) == ("eth0", parse_address(far.ipv4))
    assert found.mtu == 1500
    change = ["ip", "route", "change", far.pod_cidrs.ipv4, "via", far.ipv4, "mtu", "1400"]
    node.namespace.run(change)
    assert way(node, pod.ipv4).mtu == 1400
    assert way(node, pod.ipv6).via == parse_address(far.ipv6)


@pytest.mark.parametrize("kind", ["blackhole", "unreachable", "prohibit"])
@pytest.mark.parametrize("address", ["10.99.0.1", "fd99::1"])
def test_a_route_that_leads_nowhere_is_an_error_in_words(bridged: Cluster, kind: str, address: str):
    node = bridged.nodes[0]
    node.namespace.run(["ip", "route", "add", kind, address])
    try:
        assert way(node, address) == Route(error=kind)
    finally:
        node.namespace.run(["ip", "route", "del", kind, address])


def test_the_nodes_own_addresses_are_local(bridged: Cluster):
    node = bridged.nodes[0]
    assert way(node, node.ipv4).is_local
    assert way(node, "127.0.0.1").is_local
