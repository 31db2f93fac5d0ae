"""
A ServiceCIDR that holds more than cluster IPs: the node, other nodes, pods, other frontends.

kube-proxy checks unused service addresses in the hooks forward and output, after every DNAT. What
arrives at the node itself never meets its check, whatever the address.
"""

from __future__ import annotations

import contextlib
import socket

import pytest
from support.kernel import rules
from support.packets.sending import Probe, probe, probe_many
from support.packets.steps import (
    CLUSTER_IP,
    ENDPOINT_PORT,
    EXTERNAL_IP,
    LOAD_BALANCER_IP,
    NODE_PORT,
    SHORT_S,
    Frontend,
    endpoints_of,
    everywhere,
    families,
    protocols,
    proxied,
    target,
)
from support.responders import Responders

from nfproxy.model.addresses import FAMILIES, Family, parse_prefix
from nfproxy.model.changes import Changes
from nfproxy.model.node import ServiceCIDR
from nfproxy.model.service import Protocol
from nfproxy.tools.lab import Cluster, Host
from nfproxy.tools.lab.hosts import Addresses

#: They hold the nodes' network, the pods' network, cluster IPs and the other frontends.
EVERYTHING = ("192.168.0.0/16", "fd77::/16", "10.0.0.0/8", "fd00::/16", "198.51.100.0/24")
EVERYTHING_CIDRS = Changes(
    service_cidrs={"all": ServiceCIDR("all", tuple(map(parse_prefix, EVERYTHING)))}
)
#: An address that another component translates.
FOREIGN = Addresses("10.96.200.1", "fd00:10:96::c801")
HOST_PORT = 22
#: Local addresses of all kinds: (address pair, interface).
LOCAL = {
    "the node's IP": (Addresses("192.168.77.11", "fd77::11"), ""),
    "another address": (Addresses("192.168.77.201", "fd77::201"), "eth0"),
    "an address on lo": (Addresses("10.96.7.7", "fd00:10:96::707"), "lo"),
    "a cluster IP": (CLUSTER_IP, "lo"),
    "an external IP": (EXTERNAL_IP, "lo"),
    "a load-balancer IP": (LOAD_BALANCER_IP, "lo"),
}


pytestmark = pytest.mark.usefixtures("flushed")


def sources(cluster: Cluster) -> dict[str, Host]:
    """Return an outside client, a pod of the node, and the node."""
    return {
        "client": cluster.client,
        "pod": cluster.pod(1, 1),
        "node": cluster.nodes[0],
    }


def asked(
    cluster: Cluster, address: str, port: int, protocol: Protocol = Protocol.TCP
) -> dict[str, str]:
    """Return who answered each source, or the verdict."""
    hosts = sources(cluster)
    probes = [Probe(host, address, port, protocol) for host in hosts.values()]
    outcomes = probe_many(probes, timeout_s=SHORT_S)
    return {name: one.by or one.verdict.value for name, one in zip(hosts, outcomes, strict=True)}


def all_get(answer: str) -> dict[str, str]:
    """Return the same answer for every source."""
    return dict.fromkeys(("client", "pod", "node"), answer)


@families
@protocols
@pytest.mark.parametrize("kind", LOCAL)
def test_the_node_answers_at_its_own_addresses(
    served: Cluster, responders: Responders, family: Family, protocol: Protocol, kind: str
) -> None:
    """Also at one that it got later, and at one that is a frontend: but not at its port."""
    node = served.nodes[0]
    (pair, interface) = LOCAL[kind]
    address = pair.of(family)
    length = family.size * 8
    web = everywhere(protocol=protocol)
    with proxied(served, web, *endpoints_of("web", served.pods, protocol=protocol)) as proxy:
        proxy.apply(EVERYTHING_CIDRS)
        if interface:
            node.add_address(f"{address}/{length}", interface, as_source=False)
        try:
            with contextlib.closing(
                responders.listen(node, HOST_PORT, protocol, addresses=[address], identity="host")
            ):
                assert asked(served, address, HOST_PORT, protocol) == all_get("host")
            for frontend in Frontend.ALL:
                outcome = probe(served.client, *target(served, frontend, family), protocol)
                assert outcome.by.startswith("pod-"), frontend
        finally:
            if interface:
                node.remove_address(f"{address}/{length}", interface)


@families
@protocols
def test_pods_in_a_service_range_are_served(
    served: Cluster, family: Family, protocol: Protocol
) -> None:
    """A connection to a Service is not to the address of the pod that gets it."""
    web = everywhere(protocol=protocol)
    with proxied(served, web, *endpoints_of("web", served.pods, protocol=protocol)) as proxy:
        proxy.apply(EVERYTHING_CIDRS)
        for frontend in Frontend.ALL:
            found = asked(served, *target(served, frontend, family), protocol)
            assert all(answer.startswith("pod-") for answer in found.values()), (frontend, found)


@families
def test_unused_addresses_are_still_dropped(served: Cluster, family: Family) -> None:
    """Those of the other node and its pods, too, as in kube-proxy: preflight warns of that."""
    other = served.nodes[1]
    with proxied(served, everywhere(), *endpoints_of("web", served.pods)) as proxy:
        proxy.apply(EVERYTHING_CIDRS)
        assert asked(served, FOREIGN.of(family), ENDPOINT_PORT) == all_get("dropped")
        for address in (other.address(family), served.pod(2, 1).address(family)):
            for host in (served.nodes[0], served.pod(1, 1)):
                assert probe(host, address, ENDPOINT_PORT).dropped
        assert asked(served, CLUSTER_IP.of(family), HOST_PORT) == all_get("refused")


@families
@protocols
@pytest.mark.parametrize("priority", [-101, -100, -99, 0, 100])
@pytest.mark.parametrize("order", ["before nfproxy", "after nfproxy"])
def test_what_another_component_translates_is_let_through(
    served: Cluster, family: Family, protocol: Protocol, priority: int, order: str
) -> None:
    """Whether its DNAT comes before ours or after it: an unused address, a port without Service."""
    node, pod = served.nodes[0], served.pod(2, 1)
    pairs = ((FOREIGN.of(family), 80), (CLUSTER_IP.of(family), 81))
    to = f"[{pod.address(family)}]" if family is Family.IPV6 else pod.address(family)
    rows = "\n".join(
        f"{family.table} daddr {address} {protocol.word} dport {port} dnat to {to}:{ENDPOINT_PORT}"
        for address, port in pairs
    )
    # Only its own connections need source NAT: the pod's node answers the client directly.
    text = f"table {family.table} stranger {{\n" + "".join(
        f"chain {hook} {{ type nat hook {hook} priority {at}; {body}\n }}\n"
        for hook, at, body in (
            ("prerouting", priority, rows),
            ("output", priority, rows),
            ("postrouting", 150, "ct status dnat masquerade"),
        )
    )
    text += "}\n"
    if order == "before nfproxy":
        rules.load(node, text)
    with proxied(served, everywhere(), *endpoints_of("web", served.pods)) as proxy:
        proxy.apply(EVERYTHING_CIDRS)
        if order == "after nfproxy":
            rules.load(node, text)
        for address, port in pairs:
            assert asked(served, address, port, protocol) == all_get(pod.name), address


@families
def test_node_ports_without_endpoints_are_refused(served: Cluster, family: Family) -> None:
    """The node's address is local, and its node port still has a Service."""
    with proxied(served, everywhere()) as proxy:
        proxy.apply(EVERYTHING_CIDRS)
        assert asked(served, served.nodes[0].address(family), NODE_PORT) == all_get("refused")


def test_broadcasts_reach_the_node(served: Cluster) -> None:
    """The broadcast address of the nodes' network is in the range, too."""
    node, address = served.nodes[0], "192.168.77.255"
    with (
        proxied(served, everywhere(), *endpoints_of("web", served.pods)) as proxy,
        node.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM, 0) as server,
        served.client.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM, 0) as client,
    ):
        proxy.apply(EVERYTHING_CIDRS)
        server.bind(("0.0.0.0", HOST_PORT))
        server.settimeout(20)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        client.sendto(b"x", (address, HOST_PORT))
        assert server.recv(10) == b"x"


def test_both_families_are_covered() -> None:
    """The ranges above hold the lab's addresses of both families."""
    prefixes = [parse_prefix(text) for text in EVERYTHING]
    assert {prefix.family for prefix in prefixes} == set(FAMILIES)
