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
)
from support.packets.sending import Outcome, Probe, Verdict
from support.properties.clusters import Population

from nfproxy.insight.packet import Fate, NodeAddresses, Packet, PacketOutcome
from nfproxy.model.addresses import (
    FAMILIES,
    Family,
    Prefix,
    format_address,
    parse_address,
    parse_prefix,
)
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


class Place(NamedTuple):
    """A host of the lab: where it is, and its addresses."""

    node: str
    addresses: Addresses


def _pod(node: int, number: int) -> Place:
    ends = 10 + number
    addresses = Addresses(f"10.244.{node}.{ends}", f"fd00:10:244:{node}::{ends}")
    return Place(f"node-{node}", addresses)


def _node(number: int) -> Place:
    ends = 10 + number
    return Place(f"node-{number}", Addresses(f"192.168.77.{ends}", f"fd77::{ends}"))


CIDRS = (parse_prefix("10.96.0.0/16"), parse_prefix("fd00:10:96::/112"))

#: Hosts that may be endpoints: pods of node-1 (the second of them asks, too), of node-2, and nodes.
PLACES = {
    "pod-1-1": _pod(1, 1),
    "pod-1-2": _pod(1, 2),
    "pod-2-1": _pod(2, 1),
    "pod-2-2": _pod(2, 2),
    "node-1": _node(1),
    "node-2": _node(2),
}

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
        lambda families: tuple(parse_address(pair.of(family)) for family in families)
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


class ListedEndpoint(NamedTuple):
    """An endpoint of a case: which host it is, whether its slice says where, and its state."""

    host: str
    is_placed: bool = True
    ready: bool = True
    serving: bool = True
    terminating: bool = False

    def endpoint(self, family: Family) -> Endpoint:
        """Return it as a slice lists it."""
        place = PLACES[self.host]
        return Endpoint(
            address=parse_address(place.addresses.of(family)),
            ready=self.ready,
            serving=self.serving,
            terminating=self.terminating,
            node=place.node if self.is_placed else None,
        )


_places = st.lists(
    st.builds(
        ListedEndpoint,
        st.sampled_from(sorted(PLACES)),
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
    router_ips=st.booleans(),
    rejects_loopback=st.booleans(),
    node_port_prefixes=st.sampled_from([CONFIG.node_port_prefixes, {}, _SECOND]),
)


@dataclass(frozen=True)
class Case:
    """Services with their endpoints, and a configuration. `seed` chooses the packets."""

    services: tuple[Service, ...]
    endpoints: tuple[list[ListedEndpoint], ...]
    config: NodeConfig
    has_service_cidr: bool
    seed: int

    def population(self) -> Population:
        """Return the objects."""
        slices = [
            EndpointSlice.of(
                name=ObjectName("ns", f"{service.name.name}-{family.label.lower()}"),
                service=service.name,
                family=family,
                ports=tuple(SlicePort(p.word, p, TARGET_PORT) for p in Protocol),
                endpoints=tuple(one.endpoint(family) for one in listed),
            )
            for service, listed in zip(self.services, self.endpoints, strict=True)
            for family in FAMILIES
        ]
        ranges = [ServiceCIDR("kubernetes", CIDRS)] if self.has_service_cidr else []
        return Population().put([*self.services, *slices, *ranges])


cases: SearchStrategy[Case] = st.builds(
    Case,
    services=st.tuples(_services("alpha"), _services("beta")),
    endpoints=st.tuples(_many_places, _many_places),
    config=configs,
    has_service_cidr=st.booleans(),
    seed=st.integers(0, 1 << 16),
)


class Client(NamedTuple):
    """Who asks: a host of the lab, its address, and by which interface its packets come in."""

    host: str
    address: Addresses
    interface: str


POD_CLIENT = Client("pod-1-2", PLACES["pod-1-2"].addresses, "veth-1-2")
NODE_CLIENT = Client("node-1", SECOND_IP, "")
#: A pod, a process of the node, two outside clients, and a pod of another node.
CLIENTS = (
    POD_CLIENT,
    NODE_CLIENT,
    *(Client("client", Addresses(f"192.168.77.{i}", f"fd77::{i}"), "eth0") for i in (100, 101)),
    Client("pod-3-1", _pod(3, 1).addresses, "eth0"),
)
LOOPBACK_CLIENT = Client("node-1", Addresses("127.0.0.1", "::1"), "")


class Row(NamedTuple):
    """A packet, and who sends it."""

    client: Client
    packet: Packet

    def probe(self, scene: Scene) -> Probe:
        """Return it as the lab sends it."""
        packet = self.packet
        to, source = format_address(packet.destination), format_address(packet.source)
        host = scene.cluster.host(self.client.host)
        return Probe(host, to, packet.port, Protocol(packet.protocol), source)

    def __str__(self) -> str:
        """Return who asks for what."""
        packet = self.packet
        source, to = format_address(packet.source), format_address(packet.destination)
        port = f"port {packet.port}/{Protocol(packet.protocol).word}"
        return f"{self.client.host} {source} to {to} {port}"


def rows(family: Family) -> Iterator[Row]:
    """Yield every packet of a family that may be sent in a case."""
    addresses = (*CLUSTER_IPS, UNALLOCATED, *OUTER_IPS)
    targets = [(pair.of(family), port) for pair in addresses for port in (*PORTS, UNKNOWN_PORT)]
    own = (PLACES["node-1"].addresses.of(family), SECOND_IP.of(family))
    targets += [(address, port) for address in own for port in NODE_PORTS]
    for protocol in Protocol:
        for client in CLIENTS:
            for address, port in targets:
                yield _row(client, family, address, port, protocol)
        for port in NODE_PORTS:
            to = LOOPBACK_CLIENT.address.of(family)
            yield _row(LOOPBACK_CLIENT, family, to, port, protocol)


def _row(client: Client, family: Family, address: str, port: int, protocol: Protocol) -> Row:
    source, to = parse_address(client.address.of(family)), parse_address(address)
    return Row(client, Packet(source, to, protocol, port, client.interface))


_ROWS = [row for family in FAMILIES for row in rows(family)]


def sample(seed: int, count: int) -> list[Row]:
    """Return some of all packets, the same for the same seed."""
    return random.Random(seed).sample(_ROWS, count)


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
