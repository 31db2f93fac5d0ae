"""The packets that an explanation asks about: of which client, to which frontend or endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from nfproxy.dataplane.foreignreader import Sample
from nfproxy.dataplane.samplepackets import SamplePacket
from nfproxy.insight.explanation import EndpointRow, ExplainedPort, FrontendRow, Reaction, SourceNAT
from nfproxy.insight.nodefacts import ConnectionMap, FailedWay, NodeLink, PacketStage, Route
from nfproxy.insight.waycauses import ANSWERS, family_of_port, used_rows
from nfproxy.model.addresses import Family, family_of, parse_address
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import Protocol
from nfproxy.plan.frontends import FrontendKind

#: Stands for a client outside the cluster: an address for documentation.
OUTSIDE = {
    Family.IPV4: parse_address("198.51.100.1"),
    Family.IPV6: parse_address("2001:db8:1::1"),
}
PODS, FROM_OUTSIDE = "pods of this node", "clients from outside"

_MOST_ENDPOINTS, _MOST_FRONTENDS, _MOST_CLIENTS = 8, 8, 4
#: How much of a pod's address all pods of its node have.
_POD_PREFIX = {Family.IPV4: 3, Family.IPV6: 8}


class NodeLooks(msgspec.Struct, frozen=True):
    """
    What the questions follow from.

    `client` is b"" unless the operator named one. `neighbours` are pods of this node that have
    sent something of late, and where they come in.
    """

    ports: tuple[ExplainedPort, ...]
    routes: Mapping[bytes, Route]
    own: set[bytes] | frozenset[bytes]
    connections: ConnectionMap
    config: NodeConfig
    client: bytes = b""
    neighbours: tuple[tuple[bytes, NodeLink], ...] = ()

    def link(self, address: bytes) -> NodeLink | None:
        """Return the interface that leads to an address, None where there is none."""
        route = self.routes.get(address)
        return route.interface if route is not None and not route.is_local else None


class _Client(msgspec.Struct, frozen=True):
    """A kind of client: its address, or the first octets of it, and where it comes in."""

    words: str = ""
    source: bytes = b""
    came_by: NodeLink | None = None


def samples_of(looks: NodeLooks) -> list[Sample]:
    """Return the packets that are followed through the rules of other programs."""
    found: list[Sample] = []
    for port in looks.ports:
        clients = list(_clients(looks, port))
        for row in [row for row in port.frontends if row.answer.node is not Reaction.ABSENT][
            :_MOST_FRONTENDS
        ]:
            found += _to_frontend(looks, port, row, clients)
        for end in used_rows(port)[:_MOST_ENDPOINTS]:
            found += _to_endpoint(looks, port, end, clients)
        found += _to_health_check(looks, port)
    return found


def _to_health_check(looks: NodeLooks, port: ExplainedPort) -> Iterator[Sample]:
    """Yield the first packet of a load balancer that asks for the health of this node."""
    family = family_of_port(port)
    if port.health_check is None:
        return
    destination = next(
        (parse_address(text) for row in port.frontends for text in row.addresses), b""
    )
    packet = SamplePacket(
        PacketStage.HEALTH,
        family,
        Protocol.TCP,
        destination=destination,
        port=port.health_check_port,
        came_by=looks.link(OUTSIDE[family]),
        is_to_node=True,
        is_local=True,
    )
    yield Sample(packet, health_port=port.health_check_port, clients=FROM_OUTSIDE)


def _clients(looks: NodeLooks, port: ExplainedPort) -> Iterator[_Client]:
    """Yield the kinds of clients that a port has; the first is any of them."""
    family = family_of_port(port)
    if looks.client:
        if len(looks.client) == family.size and looks.client not in looks.own:
            yield _Client("", looks.client, looks.link(looks.client))
        return
    yield _Client()
    pod = _pod(looks, port)
    if pod is not None:
        yield _Client(PODS, parse_address(pod.address)[: _POD_PREFIX[family]], _link(looks, pod))
    if any(row.kind is not FrontendKind.CLUSTER_IP for row in port.frontends):
        link = looks.link(OUTSIDE[family])
        if link is not None:
            yield _Client(FROM_OUTSIDE, came_by=link)


def _pod(looks: NodeLooks, port: ExplainedPort) -> EndpointRow | None:
    """Return a pod of this node, if one is an endpoint."""
    rows = (row for row in port.endpoints if row.local and _link(looks, row) is not None)
    return next(rows, None)


def _link(looks: NodeLooks, row: EndpointRow) -> NodeLink | None:
    route = looks.routes.get(parse_address(row.address))
    is_away = route is None or (row.local and bool(route.via))
    return None if is_away else looks.link(parse_address(row.address))


def _to_frontend(
    looks: NodeLooks, port: ExplainedPort, row: FrontendRow, clients: list[_Client]
) -> Iterator[Sample]:
    texts = (row.address,) if row.address else row.addresses[:1]
    for destination in map(parse_address, texts):
        packet = SamplePacket(
            PacketStage.ASKED,
            family_of_port(port),
            Protocol[port.protocol],
            destination=destination,
            port=row.port,
            is_to_node=destination in looks.own,
        )
        ways_in = () if looks.client else _ways_in(looks, family_of_port(port))
        for client in clients:
            asked = msgspec.structs.replace(
                packet, source=client.source, came_by=client.came_by, ways_in=ways_in
            )
            yield Sample(asked, row.key, clients=client.words)
        yield Sample(msgspec.structs.replace(packet, stage=PacketStage.OWN_ASKED), row.key)


def _ways_in(looks: NodeLooks, family: Family) -> tuple[NodeLink, ...]:
    """Return interfaces by which clients come: those of pods, and the way to the outside."""
    ways = [link for _, link in looks.neighbours]
    ways += [link for link in (looks.link(OUTSIDE[family]),) if link is not None]
    return tuple(dict.fromkeys(ways))


def _to_endpoint(
    looks: NodeLooks, port: ExplainedPort, row: EndpointRow, clients: list[_Client]
) -> Iterator[Sample]:
    address = parse_address(row.address)
    route = looks.routes.get(address)
    is_local = route is not None and route.is_local
    packet = SamplePacket(
        PacketStage.SENT,
        family_of_port(port),
        Protocol[port.protocol],
        destination=address,
        port=row.port or 0,
        leaves_by=looks.link(address),
        is_to_node=is_local,
        is_local=is_local,
    )
    for client in clients:
        sent = msgspec.structs.replace(packet, source=client.source, came_by=client.came_by)
        yield Sample(sent, endpoint=row.destination, clients=client.words)
    own = msgspec.structs.replace(packet, stage=PacketStage.OWN_SENT)
    yield Sample(own, endpoint=row.destination)
    answer = SamplePacket(
        PacketStage.ANSWER,
        packet.family,
        packet.protocol,
        source=address,
        source_port=packet.port,
        came_by=packet.leaves_by,
        is_local=is_local,
    )
    yield Sample(answer, endpoint=row.destination)


def questions_of_ways(looks: NodeLooks) -> Iterator[FailedWay]:
    """Yield the packets whose routes are asked for: to endpoints, and of answers."""
    for port in looks.ports:
        family = family_of_port(port)
        for row in used_rows(port)[:_MOST_ENDPOINTS]:
            address = parse_address(row.address)
            route = looks.routes.get(address)
            if route is None or route.error or route.is_local:
                continue
            for client, link, words, mark in _sources(looks, port, row):
                if len(client) == family.size and client != address:
                    yield FailedWay(client, address, link.name, "", words, mark)
            if route.interface is None:
                continue
            for client in _known_clients(looks, port):
                if client != address and client not in looks.own:
                    yield FailedWay(address, client, route.interface.name, "", ANSWERS)


def _sources(
    looks: NodeLooks, port: ExplainedPort, row: EndpointRow
) -> Iterator[tuple[bytes, NodeLink, str, int]]:
    """Yield packets to an endpoint: source, interface, whose they are, and the mark."""
    family = family_of_port(port)
    mark = looks.config.masquerade_mark if _is_masqueraded(port) else 0
    for client in _known_clients(looks, port):
        if (known := looks.link(client)) is not None:
            yield client, known, "", 0
    if looks.client:
        return
    for address, link in looks.neighbours:
        if len(address) == family.size:
            yield address, link, "", 0
    pods = (each for each in port.endpoints if each.local and each.address != row.address)
    for pod in pods:
        if (end := _link(looks, pod)) is not None:
            yield parse_address(pod.address), end, PODS, 0
            break
    way_in = looks.link(OUTSIDE[family])
    has_more = any(one.kind is not FrontendKind.CLUSTER_IP for one in port.frontends)
    if way_in is not None and has_more:
        yield OUTSIDE[family], way_in, FROM_OUTSIDE, mark


def _is_masqueraded(port: ExplainedPort) -> bool:
    return any(row.source_nat in (SourceNAT.ALWAYS, SourceNAT.NOT_PODS) for row in port.frontends)


def _known_clients(looks: NodeLooks, port: ExplainedPort) -> list[bytes]:
    """Return some clients: the one that was named, or those of connections, waiting ones first."""
    if looks.client:
        return [looks.client] if family_of(looks.client) is family_of_port(port) else []
    keys = {row.key for row in port.frontends}
    return clients_in({key: ends for key, ends in looks.connections.items() if key in keys})


def clients_in(connections: ConnectionMap) -> list[bytes]:
    """Return some clients of connections, those that wait first."""
    found: dict[bytes, None] = {}
    all_ = [counts for ends in connections.values() for counts in ends.values()]
    for kind in ("waiting", "clients", "ended"):
        for one in all_:
            found.update(dict.fromkeys(getattr(one, kind)))
    return list(found)[:_MOST_CLIENTS]
