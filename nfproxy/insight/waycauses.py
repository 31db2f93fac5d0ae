"""What is wrong with this node's way to endpoints: routes, bridges, packet sizes, forwarding."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import msgspec

from nfproxy.insight.diagnosis import Code, Diagnosis, Severity
from nfproxy.insight.explanation import EndpointRoute, EndpointRow, ExplainedPort
from nfproxy.insight.nodefacts import (
    REVERSE_PATH,
    FailedWay,
    NodeFacts,
    NodeLink,
    NodeSettings,
    ProbeAnswer,
    Route,
)
from nfproxy.model.addresses import Family, family_of, format_address, parse_address
from nfproxy.plan.endpoints import Destination
from nfproxy.plan.frontends import FrontendKey

_CNI = "the CNI plug-in on this node"

#: The word of :class:`FailedWay` for packets of endpoints.
ANSWERS = "answers"


class NodeCause(NamedTuple):
    """
    Something that is wrong.

    `endpoint` is the address that it breaks, "" for none alone. `breaks_all` says that no
    connection works. `frontends` are those at which no connection works, of any client that was
    asked about.
    """

    finding: Diagnosis
    endpoint: str = ""
    breaks_all: bool = False
    frontends: frozenset[FrontendKey] = frozenset()


def cause(port: ExplainedPort, finding: Diagnosis, endpoint: str = "") -> NodeCause:
    """Return a cause with the service port that it concerns."""
    named = msgspec.structs.replace(
        finding, service=port.service, port=port.name, family=port.family
    )
    return NodeCause(named, endpoint)


def family_of_port(port: ExplainedPort) -> Family:
    """Return the family of a port."""
    return next(family for family in Family if family.label == port.family)


def route_row(route: Route | None) -> EndpointRoute | None:
    """Return a route as explanations show it."""
    if route is None:
        return None
    return EndpointRoute(
        interface=route.interface.name if route.interface else "",
        via=format_address(route.via) if route.via else "",
        mtu=route.mtu or None,
        error=route.error,
    )


def used_rows(port: ExplainedPort) -> list[EndpointRow]:
    """Return the endpoints of a port that new connections may get."""
    return [row for row in port.endpoints if row.used.cluster or row.used.local]


def has_route_error(facts: NodeFacts, row: EndpointRow) -> bool:
    """Return whether this node has no route to an endpoint."""
    route = (facts.routes or {}).get(parse_address(row.address))
    return route is not None and bool(route.error)


def probe_of(facts: NodeFacts, port: ExplainedPort, end: Destination) -> ProbeAnswer | None:
    """Return what an endpoint said to this node, None where it was not asked, or said nothing."""
    probes = {"TCP": facts.probes, "UDP": facts.udp_probes}.get(port.protocol)
    return probes.get(end) if probes else None


def way_causes(
    facts: NodeFacts, port: ExplainedPort, node_addresses: Collection[bytes] = ()
) -> Iterator[NodeCause]:
    """Yield what is wrong with the ways to the endpoints of a port; the Node has the addresses."""
    if facts.routes is None:
        return
    rows = [(row, facts.routes.get(parse_address(row.address))) for row in used_rows(port)]
    known = [(row, route) for row, route in rows if route is not None]
    for row, route in known:
        if route.error:
            yield cause(
                port,
                Diagnosis(
                    Severity.FAIL,
                    Code.NO_ROUTE,
                    f"no route from this node to {row.address} ({route.error}): every connection "
                    "that draws it is lost",
                    look=(f"ip route get {row.address}", _CNI),
                    brief=f"no route to {row.address}",
                ),
                row.address,
            )
        elif route.is_local and _is_away(row) and parse_address(row.address) not in node_addresses:
            yield cause(port, _also_here(row), row.address)
        elif route.interface is not None and not route.interface.has_carrier:
            yield cause(port, _no_carrier(row, route.interface), row.address)
        elif row.local and route.via and route.is_default:
            yield cause(port, _not_here(row), row.address)
        elif not route.is_answered:
            yield cause(port, _no_neighbour(facts, row, route), row.address)
    yield from _failed_ways(facts, port)
    yield from _bridges(facts.settings, port, known)
    yield from _sizes(facts, port, known)
    if any(not route.is_local and not route.error for _, route in known):
        is_all = not any(route.is_local for _, route in known)
        for one in _forwarding(facts, port):
            yield one._replace(breaks_all=is_all)


def _is_away(row: EndpointRow) -> bool:
    return bool(row.node) and not row.local


def _also_here(row: EndpointRow) -> Diagnosis:
    return Diagnosis(
        Severity.FAIL,
        Code.NO_ROUTE,
        f"{row.address} is an address of this node itself, and {row.pod or 'its pod'} should be on "
        f"{row.node}: connections stay here",
        look=(f"ip route get {row.address}; ip address | grep -w {row.address}", _CNI),
        brief=f"{row.address} is an address here",
    )


def _no_carrier(row: EndpointRow, link: NodeLink) -> Diagnosis:
    return Diagnosis(
        Severity.FAIL,
        Code.NO_ROUTE,
        f"the way to {row.address} is interface {link.name}, which is down, or its other end is",
        look=(f"ip link show {link.name}", _CNI),
        brief=f"interface {link.name} is down",
    )


def _no_neighbour(facts: NodeFacts, row: EndpointRow, route: Route) -> Diagnosis:
    """Return that the kernel got no hardware address for an endpoint or its next hop."""
    hop = format_address(route.via) if route.via else row.address
    link = route.interface.name if route.interface else ""
    what = f"the next hop to {row.address}, {hop}," if route.via else row.address
    counts = [
        ends[row.destination]
        for ends in (facts.connections or {}).values()
        if row.destination in ends
    ]
    waits = any(one.unanswered for one in counts) and not any(one.open for one in counts)
    return Diagnosis(
        Severity.FAIL if waits else Severity.WARN,
        Code.NO_NEIGHBOUR,
        f"{what} does not answer on interface {link}: no machine there has that address",
        look=(f"ip neigh show {hop} dev {link}", _CNI),
        brief=f"{hop} does not answer on {link}",
    )


def _failed_ways(facts: NodeFacts, port: ExplainedPort) -> Iterator[NodeCause]:
    """Yield which packets this node would not forward, although it has a route itself."""
    rows = {parse_address(row.address): row for row in used_rows(port)}
    family, seen = family_of_port(port), set[tuple[bytes, str]]()
    for way in facts.failed_ways:
        is_answer = way.clients == ANSWERS
        end = rows.get(way.source if is_answer else way.destination)
        if end is None or family_of(way.destination) is not family:
            continue
        is_reverse = way.error == REVERSE_PATH
        key = (
            way.source if is_reverse else way.destination,
            way.error if is_answer else way.clients,
        )
        if key in seen or (facts.settings and facts.settings.forwarding.get(family) is False):
            continue
        if is_reverse and facts.turned_back:
            continue  # said of all clients, as packets were dropped just now
        seen.add(key)
        yield cause(port, _failed_way(way), "" if is_answer or is_reverse else end.address)


def _failed_way(way: FailedWay) -> Diagnosis:
    source, destination = format_address(way.source), format_address(way.destination)
    family = "ipv4" if len(way.source) == Family.IPV4.size else "ipv6"
    mark = f" mark {way.mark:#x}" if way.mark else ""
    whose = f"packets of {way.clients or source} to {destination}"
    if way.clients == ANSWERS:
        whose = f"answers of {source} to client {destination}"
    is_reverse = way.error == REVERSE_PATH
    message = f"this node does not forward {whose} that come in by {way.came_by} ({way.error})"
    if is_reverse:
        message = (
            f"this node drops {whose} that come in by {way.came_by}: its route back to {source} "
            "is another one (rp_filter)"
        )
    return Diagnosis(
        Severity.FAIL,
        Code.REVERSE_PATH if is_reverse else Code.NO_ROUTE,
        message,
        look=(
            f"ip route get {destination} from {source} iif {way.came_by}{mark}",
            f"ip rule; sysctl net.{family}.conf.{way.came_by}.forwarding",
        ),
        brief=f"no way for {whose}",
    )


def _not_here(row: EndpointRow) -> Diagnosis:
    """Return that this node looks elsewhere for an endpoint that should be its own."""
    return Diagnosis(
        Severity.WARN,
        Code.POD_NOT_HERE,
        f"{row.pod or row.address} should be on this node, and packets to {row.address} leave by "
        "the default route",
        because=("the pod has left, the slice names a wrong node, or the CNI plug-in failed",),
        look=(f"ip route get {row.address}; kubectl get pods -A -o wide | grep -w {row.address}",),
        brief=f"{row.address} is not on this node",
    )


def _bridges(
    settings: NodeSettings | None, port: ExplainedPort, rows: list[tuple[EndpointRow, Route]]
) -> Iterator[NodeCause]:
    """Yield what keeps pods behind one bridge from reaching each other, or themselves."""
    family = family_of_port(port)
    on_bridges = [
        (row, route)
        for row, route in rows
        if route.interface is not None and route.interface.kind == "bridge" and not route.via
    ]
    sees_bridged = settings.bridge_netfilter.get(family) if settings else True
    for row, route in on_bridges:
        bridge = route.interface.name if route.interface else ""
        if not sees_bridged:
            if len(route.ports) > 1:
                name = f"net.bridge.bridge-nf-call-{family.table}tables"
                yield cause(
                    port,
                    Diagnosis(
                        Severity.FAIL,
                        Code.BRIDGE_NETFILTER_OFF,
                        f"other pods on bridge {bridge} get no usable answer from {row.address}: "
                        "it comes from the pod itself, as nftables does not see bridged packets",
                        because=(f"{name} is {'off' if sees_bridged is False else 'not there'}",),
                        look=(f"modprobe br_netfilter; sysctl -w {name}=1",),
                        brief=f"bridge {bridge}: netfilter is off",
                    ),
                )
            continue
        # Without br_netfilter the packet passes through the bridge's own device, and comes back.
        is_off = route.port is not None and route.port.hairpin is False
        is_promiscuous = route.interface is not None and route.interface.is_promiscuous
        if is_off and not is_promiscuous:
            name = route.port.name if route.port else ""
            yield cause(
                port,
                Diagnosis(
                    Severity.WARN,
                    Code.NO_HAIRPIN,
                    f"pod {row.pod or row.address} cannot reach itself through this Service: port "
                    f"{name} of bridge {bridge} sends no packet back",
                    look=(
                        f"bridge -d link show dev {name}",
                        "hairpinMode of the CNI plug-in",
                    ),
                    brief=f"no hairpin mode for {row.address}",
                ),
            )


def _sizes(
    facts: NodeFacts, port: ExplainedPort, rows: list[tuple[EndpointRow, Route]]
) -> Iterator[NodeCause]:
    """Yield that packets of pods here do not fit the way to endpoints on other nodes."""
    local = [route.mtu for _, route in rows if route.mtu and not route.via and not route.is_local]
    size = max((*local, facts.pod_mtu))
    failed = facts.settings.fragments_failed.get(family_of_port(port), 0) if facts.settings else 0
    for row, route in rows:
        if route.via and 0 < route.mtu < size:
            yield cause(
                port,
                Diagnosis(
                    Severity.WARN if failed else Severity.NOTE,
                    Code.MTU_SMALLER,
                    f"the way to {row.address} takes packets of {route.mtu} bytes, pods here "
                    f"send {size}: large answers hang where ICMP is filtered",
                    because=(f"{failed:,} packets were too large for their way (FragFails)",)
                    if failed
                    else (),
                    look=(f"ip route get {row.address}; the MTU of the CNI plug-in",),
                    brief=f"smaller packets to {row.address}",
                ),
            )


def _forwarding(facts: NodeFacts, port: ExplainedPort) -> Iterator[NodeCause]:
    """Yield that this node forwards no packets, by its own setting."""
    family = family_of_port(port)
    if facts.settings is not None and facts.settings.forwarding.get(family) is False:
        name = "ipv4.ip_forward" if family is Family.IPV4 else "ipv6.conf.all.forwarding"
        found = Diagnosis(
            Severity.FAIL,
            Code.FORWARD_POLICY,
            f"this node forwards no {family.label} packets (net.{name} is 0): only its own "
            "processes reach endpoints",
            look=(f"sysctl -w net.{name}=1",),
            brief="forwarding is off",
        )
        yield cause(port, found)
