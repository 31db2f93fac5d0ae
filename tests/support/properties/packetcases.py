"""
Random Services on a node of the lab, and packets to them: what a packet test and the evaluator see.

Addresses, ports and endpoints come from small pools of what the lab has, so Services claim each
other's frontends, and any client may ask for any of them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from support.packets.scenes import (
    CLUSTER_CIDR,
    CONFIG,
    NO_DETECTOR,
    NODE_IPS,
    OWN_PODS,
    SECOND_IP,
    TARGET_PORT,
    Scene,
    both_families,
    node_of,
)
from support.packets.sending import Outcome, Probe, Verdict
from support.properties.clusters import Population

from nfproxy.insight.packet import Fate, NodeAddresses, Packet, PacketOutcome
from nfproxy.model.addresses import FAMILIES, Family, Prefix, parse_address, parse_prefix
from nfproxy.model.endpoints import Endpoint, EndpointSlice, SlicePort
from nfproxy.model.node import ServiceCIDR
from nfproxy.model.nodeconfig import LocalPods, NodeConfig
from nfproxy.model.service import ObjectName, Protocol, Service, ServicePort
from nfproxy.tools.lab import Addresses, Host

CLUSTER_IPS = tuple(Addresses(f"10.96.0.{i}", f"fd00:10:96::{i}") for i in (1, 2))
UNALLOCATED = Addresses("10.96.0.9", "fd00:10:96::9")
OUTER_IPS = tuple(Addresses(f"198.51.100.{i}", f"2001:db8:1::{i}") for i in (2, 3, 4))
PORTS, UNKNOWN_PORT = (80, 443), 81
NODE_PORTS = (30080, 30081)
#: Hosts that may be endpoints: pods of node-1 (the second of them asks, too), of node-2, and nodes.
ENDPOINTS = ("pod-1-1", "pod-1-2", "pod-2-1", "pod-2-2", "node-1", "node-2")

_rarely = st.sampled_from([False, False, False, True])


def _some(pool: tuple[Any, ...], most: int, least: int = 0) -> SearchStrategy[tuple[Any, ...]]:
    chosen = st.lists(st.sampled_from(pool), unique=True, min_size=least, max_size=most)
    return chosen.map(tuple)


def _packed(pairs: tuple[Addresses, ...]) -> tuple[bytes, ...]:
    return tuple(parse_address(text) for pair in pairs for text in pair)


RANGES = tuple(
    map(
        parse_prefix,
        (
            *("192.168.77.100/32", "192.168.77.101/32", "10.244.0.0/16", "10.244.1.0/24"),
            *("0.0.0.0/1", "128.0.0.0/1", "203.0.113.0/24", "192.168.77.61/32"),
            *("fd77::100/128", "fd00:10:244::/48", "fd77::/64", "2001:db8:9::/64"),
        ),
    )
)


def _disjoint(ranges: tuple[Prefix, ...]) -> tuple[Prefix, ...]:
    """Return the ranges that are in no other, as the decoder leaves them."""
    return tuple(
        one
        for one in ranges
        if not any(one.network in other for other in ranges if other is not one)
    )


_numbered = st.tuples(st.sampled_from(Protocol), st.sampled_from(PORTS))


def _ports(chosen: list[tuple[Protocol, int]], node_ports: list[int]) -> tuple[ServicePort, ...]:
    return tuple(
        ServicePort(protocol.word, protocol, port, node_port)
        for (protocol, port), node_port in zip(chosen, node_ports, strict=False)
    )


_service_ports = st.builds(
    _ports,
    st.lists(_numbered, min_size=1, max_size=3, unique_by=lambda one: one[0]),
    st.lists(st.sampled_from([0, *NODE_PORTS]), min_size=3, max_size=3),
)
_cluster_ips = st.sampled_from(CLUSTER_IPS).flatmap(
    lambda pair: st.sampled_from([FAMILIES, FAMILIES, FAMILIES[:1], FAMILIES[1:]]).map(
        lambda families: {family: parse_address(pair.of(family)) for family in families}
    )
)


def _services(name: str) -> SearchStrategy[Service]:
    return st.builds(
        Service,
        name=st.just(ObjectName("ns", name)),
        created=st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]),
        cluster_ips=_cluster_ips,
        ports=_service_ports,
        external_ips=_some(OUTER_IPS[:2], 2).map(_packed),
        load_balancer_ips=_some(OUTER_IPS, 2).map(_packed),
        router_ips=st.sampled_from([(), (), _packed(OUTER_IPS[2:])]),
        source_ranges=st.one_of(st.just(()), _some(RANGES, 4).map(_disjoint)),
        affinity_timeout_s=st.sampled_from([None, None, 600]),
        internal_local=_rarely,
        external_local=st.booleans(),
        health_check_node_port=st.just(0),
    )


class Place(NamedTuple):
    """An endpoint of a case: which host it is, whether its slice says where, and its state."""

    host: str
    is_placed: bool = True
    ready: bool = True
    serving: bool = True
    terminating: bool = False


_places = st.lists(
    st.builds(
        Place,
        st.sampled_from(ENDPOINTS),
        is_placed=st.sampled_from([True, True, True, False]),
        ready=st.sampled_from([True, True, True, False]),
        serving=st.booleans(),
        terminating=_rarely,
    ),
    max_size=4,
    unique_by=lambda place: place.host,
)
_many_places = st.one_of(_places.filter(bool), _places.filter(bool), _places)
_pods = st.sampled_from(
    [
        CLUSTER_CIDR,
        CLUSTER_CIDR,
        LocalPods(prefixes=CLUSTER_CIDR.prefixes, own={}),
        LocalPods(prefixes=both_families("10.244.1.0/24", "fd00:10:244:1::/64"), own=OWN_PODS),
        LocalPods(prefixes=both_families("10.244.0.0/16"), own=OWN_PODS),
        LocalPods(interface_prefix="veth-1"),
        LocalPods(bridge="cni"),
        NO_DETECTOR,
    ]
)
_SECOND = {f: (Prefix(parse_address(SECOND_IP.of(f)), f.size * 8),) for f in FAMILIES}
configs = st.builds(
    NodeConfig,
    node_name=st.just(CONFIG.node_name),
    node_ips=st.just(NODE_IPS),
    local_pods=_pods,
    masquerade_all=_rarely,
    masquerade_mark=st.sampled_from([0x4000, 0x2]),
    external_ips=st.sampled_from([True, True, False]),
    node_port_prefixes=st.sampled_from([CONFIG.node_port_prefixes, {}, _SECOND]),
)


@dataclass(frozen=True)
class Case:
    """Services with their endpoints, and a configuration. `seed` chooses the packets."""

    services: tuple[Service, ...]
    endpoints: tuple[list[Place], ...]
    config: NodeConfig
    has_service_cidr: bool
    seed: int

    def population(self, scene: Scene) -> Population:
        """Return the objects, with the addresses of a scene's hosts."""
        slices = [
            self._slice(scene, service, places, family)
            for service, places in zip(self.services, self.endpoints, strict=True)
            for family in FAMILIES
        ]
        cidrs = (parse_prefix("10.96.0.0/16"), parse_prefix("fd00:10:96::/112"))
        ranges = [ServiceCIDR("kubernetes", cidrs)] if self.has_service_cidr else []
        return Population().put([*self.services, *slices, *ranges])

    def _slice(
        self, scene: Scene, service: Service, places: list[Place], family: Family
    ) -> EndpointSlice:
        return EndpointSlice(
            name=ObjectName("ns", f"{service.name.name}-{family.label.lower()}"),
            service=service.name,
            family=family,
            ports=tuple(SlicePort(p.word, p, TARGET_PORT) for p in Protocol),
            endpoints=tuple(
                Endpoint(
                    address=parse_address(host.address(family)),
                    ready=place.ready,
                    serving=place.serving,
                    terminating=place.terminating,
                    node=node_of(host) if place.is_placed else None,
                )
                for place in places
                for host in [scene.cluster.host(place.host)]
            ),
        )


cases: SearchStrategy[Case] = st.builds(
    Case,
    services=st.tuples(_services("alpha"), _services("beta")),
    endpoints=st.tuples(_many_places, _many_places),
    config=configs,
    has_service_cidr=st.booleans(),
    seed=st.integers(0, 1 << 16),
)


class Row(NamedTuple):
    """A packet, as the lab sends it and as the evaluator sees it."""

    probe: Probe
    packet: Packet

    def __str__(self) -> str:
        """Return who asks for what."""
        probe = self.probe
        source = f"{probe.source.name} {probe.source_address}".strip()
        return f"{source} to {probe.destination} port {probe.port}/{probe.protocol.word}"


class Client(NamedTuple):
    """Who asks: from which address, and by which interface its packets come to the node."""

    host: Host
    address: Addresses
    interface: str


def clients(scene: Scene) -> list[Client]:
    """Return a pod, a process of the node, two outside clients, and a pod of another node."""
    pod, far = scene.cluster.pod(1, 2), scene.cluster.pod(3, 1)
    outside = scene.cluster.client
    return [
        Client(pod, pod.addresses[0], pod.interface),
        Client(scene.node, SECOND_IP, ""),
        *(Client(outside, address, "eth0") for address in outside.addresses[:2]),
        Client(far, far.addresses[0], "eth0"),
    ]


def rows(scene: Scene, family: Family) -> Iterator[Row]:
    """Yield every packet of a family that a case may send."""
    addresses = (*CLUSTER_IPS, UNALLOCATED, *OUTER_IPS)
    targets = [(pair.of(family), port) for pair in addresses for port in (*PORTS, UNKNOWN_PORT)]
    own = (scene.node.address(family), SECOND_IP.of(family))
    targets += [(address, port) for address in own for port in NODE_PORTS]
    for protocol in Protocol:
        for client in clients(scene):
            for address, port in targets:
                yield _row(client, family, address, port, protocol)
        loopback = Client(scene.node, Addresses("127.0.0.1", "::1"), "")
        for port in NODE_PORTS:
            yield _row(loopback, family, loopback.address.of(family), port, protocol)


def _row(client: Client, family: Family, address: str, port: int, protocol: Protocol) -> Row:
    source = client.address.of(family)
    packet = Packet(parse_address(source), parse_address(address), protocol, port, client.interface)
    return Row(Probe(client.host, address, port, protocol, source), packet)


def sample(scene: Scene, seed: int, count: int) -> list[Row]:
    """Return some of all packets, the same for the same seed."""
    everything = [row for family in FAMILIES for row in rows(scene, family)]
    return random.Random(seed).sample(everything, count)


def addresses_of(host: Host) -> NodeAddresses:
    """Return what the routing table ``local`` of a host knows."""
    found = host.netlink(lambda ip: [dict(one["attrs"]) for one in ip.get_addr()])
    own = {one.get("IFA_LOCAL", one["IFA_ADDRESS"]) for one in found}
    broadcasts = {one["IFA_BROADCAST"] for one in found if "IFA_BROADCAST" in one}
    return NodeAddresses(
        frozenset(map(parse_address, own)),
        broadcasts=frozenset(map(parse_address, broadcasts)),
    )


#: What a host of the lab answers at its port, and nothing else does.
Seen = tuple[str, bool]


def seen(outcome: Outcome) -> Seen:
    """Return what became of a real packet: who answered, and whether it saw another source."""
    if outcome.answered:
        return outcome.by, outcome.masqueraded
    word = "lost" if outcome.verdict is Verdict.UNREACHABLE else outcome.verdict.value
    return word, False


def foreseen(outcome: PacketOutcome, scene: Scene) -> Seen:
    """Return what should become of a real packet with an outcome, in the terms of `seen`."""
    if outcome.fate is Fate.ENDPOINT:
        by = {
            parse_address(host.address(f)): host for host in scene.cluster.hosts for f in FAMILIES
        }
        return by[outcome.address].name, outcome.is_masqueraded
    if outcome.fate is Fate.REJECTED:
        return Verdict.REFUSED.value, False
    if outcome.fate is Fate.DROPPED:
        return Verdict.DROPPED.value, False
    if outcome.fate is Fate.UNTOUCHED and outcome.is_local:
        return Verdict.REFUSED.value, False  # no process of the node listens at these ports
    if outcome.fate is Fate.UNTOUCHED:
        return Verdict.DROPPED.value, False  # the network behind the nodes is silent
    return str(outcome), False
