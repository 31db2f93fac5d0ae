"""A traced connection in words: what was asked, where it was led, how it ended and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from nfproxy.insight.diagnosis import Code
from nfproxy.insight.nodefacts import Route
from nfproxy.model.addresses import format_address
from nfproxy.model.service import Protocol
from nfproxy.netlink.nftables import FAMILY_WORDS
from nfproxy.netlink.tracing import TraceEvent, TraceKind
from nfproxy.nft.schema import port_bytes
from nfproxy.plan.endpoints import Destination
from nfproxy.plan.frontends import FrontendKey
from nfproxy.text import one_line, plural, shown_name
from nfproxy.tools.trace.endings import LostBetween, TraceEnding, lost_between
from nfproxy.tools.trace.headers import PacketPeer
from nfproxy.tools.trace.table import Waypoint
from nfproxy.tools.trace.traced import TracedConnection


class DroppingRule(msgspec.Struct, frozen=True, rename="camel"):
    """The rule that dropped a packet; `handle` 0 and `text` "policy" for the policy of a chain."""

    family: str
    table: str
    chain: str
    handle: int
    text: str

    def __str__(self) -> str:
        """Return ``table inet cni-policy, chain forward, handle 3``."""
        place = f"table {self.family} {shown_name(self.table)}, chain {shown_name(self.chain)}"
        return f"{place}, handle {self.handle}" if self.handle else f"{place}, its policy"


class TraceRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    One connection.

    `at` is the time since the trace began, in seconds. `service` is ``shop/web:http``, `endpoint`
    where the connection was led, `pod` its pod; each "" where that is unknown. `hook` is where the
    packet was last. `because` are the reasons of `ending`, a line each.
    """

    at: float
    client: str
    asked: str
    protocol: str
    service: str = ""
    endpoint: str = ""
    pod: str = ""
    source_changed: bool = False
    interface_in: str = ""
    interface_out: str = ""
    hook: str = ""
    ending: TraceEnding
    text: str
    code: Code | None = None
    answered_ms: float | None = None
    first_packets: int = 1
    dropped_by: DroppingRule | None = None
    lost: LostBetween | None = None
    because: tuple[str, ...] = ()


class Names(msgspec.Struct, frozen=True):
    """Names for what packets carry: of service ports by frontend, of pods by endpoint."""

    services: Mapping[FrontendKey, str]
    pods: Mapping[Destination, str]

    def service(self, connection: TracedConnection) -> str:
        """Return the service port that was asked for, "" where none is known."""
        asked, protocol = connection.asked, Protocol(connection.protocol)
        family = connection.way.headers.family
        by_address = FrontendKey(family, asked.address, protocol, asked.port)
        node_port = FrontendKey(family, b"", protocol, asked.port)
        return self.services.get(by_address) or self.services.get(node_port, "")

    def pod(self, peer: PacketPeer) -> str:
        """Return the pod of an endpoint, "" where it is unknown."""
        return self.pods.get(peer.address + port_bytes(peer.port), "")


class Surroundings(msgspec.Struct, frozen=True):
    """
    What else the node knows, for packets that no rule dropped.

    `legacy_tables` are iptables' own, whose rules no trace shows.
    """

    routes: Mapping[bytes, Route]
    legacy_tables: tuple[str, ...] = ()


def trace_row(
    connection: TracedConnection,
    ending: TraceEnding,
    names: Names,
    around: Surroundings,
    rule_text: Callable[[TraceEvent], str],
    interface: Callable[[int], str],
) -> TraceRow:
    """Return a connection in words."""
    way = connection.way
    last = connection.failed_way
    lost = lost_between(last) if ending in (TraceEnding.LOST, TraceEnding.ANSWER_LOST) else None
    dropping = _dropping(last.dropped_by, rule_text) if last.dropped_by else None
    led_to = connection.destination if connection.is_translated else None
    answered_ms = None
    if connection.answered_s is not None and ending in (
        TraceEnding.ANSWERED,
        TraceEnding.REFUSED_BY_ENDPOINT,
    ):
        answered_ms = round((connection.answered_s - connection.began_s) * 1000, 1)
    text, code, because = _words(connection, ending, around, dropping, lost, answered_ms, interface)
    return TraceRow(
        at=round(connection.began_s, 3),
        client=str(connection.client),
        asked=str(connection.asked),
        protocol=Protocol(connection.protocol).word,
        service=names.service(connection),
        endpoint=str(led_to) if led_to else "",
        pod=names.pod(led_to) if led_to else "",
        source_changed=way.headers.source.address != connection.client.address,
        interface_in=interface(way.interface_in),
        interface_out=interface(way.interface_out),
        hook=way.place.hook,
        ending=ending,
        text=text,
        code=code,
        answered_ms=answered_ms,
        first_packets=connection.packets,
        dropped_by=dropping,
        lost=lost,
        because=because,
    )


def _dropping(event: TraceEvent, rule_text: Callable[[TraceEvent], str]) -> DroppingRule:
    is_policy = event.kind == TraceKind.POLICY
    return DroppingRule(
        FAMILY_WORDS.get(event.family, str(event.family)),
        event.table,
        event.chain,
        0 if is_policy else event.handle,
        "policy drop" if is_policy else one_line(rule_text(event), 400),
    )


def _words(
    connection: TracedConnection,
    ending: TraceEnding,
    around: Surroundings,
    dropping: DroppingRule | None,
    lost: LostBetween | None,
    answered_ms: float | None,
    interface: Callable[[int], str],
) -> tuple[str, Code | None, tuple[str, ...]]:
    """Return the end in words, the code of its cause, and the reasons."""
    match ending:
        case TraceEnding.ANSWERED:
            return f"answered in {answered_ms:g} ms", None, ()
        case TraceEnding.REFUSED_BY_ENDPOINT:
            return f"REFUSED by the endpoint in {answered_ms:g} ms", Code.ENDPOINT_REFUSES, ()
        case TraceEnding.NOT_A_SERVICE:
            return "delivered to this node: not a Service's", Code.NOT_A_SERVICE, ()
        case TraceEnding.UNANSWERED if connection.way.place is Waypoint.DELIVERED:
            return "delivered to this node, no answer", Code.UNANSWERED, ()
        case TraceEnding.UNANSWERED:
            where = interface(connection.way.interface_out)
            return f"left by {where}, no answer came back", Code.UNANSWERED, _unanswered(connection)
        case TraceEnding.REFUSED:
            return "REFUSED by nfproxy", None, _by_nfproxy(dropping)
        case TraceEnding.DROPPED:
            return "DROPPED by nfproxy", None, _by_nfproxy(dropping)
        case TraceEnding.DROPPED_BY_OTHERS:
            hook = connection.way.place.hook
            return f"DROPPED in {hook}", Code.DROPPED_BY_OTHERS, _by_rule(dropping)
        case TraceEnding.ANSWER_DROPPED:
            hook = connection.failed_way.place.hook
            return f"its answer was DROPPED in {hook}", Code.DROPPED_BY_OTHERS, _by_rule(dropping)
        case _:
            return _lost(connection, ending, around, lost)


def _by_nfproxy(dropping: DroppingRule | None) -> tuple[str, ...]:
    """Say what the chain of nfproxy's tables that dropped or rejected a packet is for."""
    chain = dropping.chain if dropping else ""
    if chain.startswith("guard-"):
        return ("its source is in none of the Service's loadBalancerSourceRanges",)
    if chain == "unused-service-addresses":
        return ("no Service has this address",)
    if chain == "reject-connection":
        return ("the Service has no endpoint here",)
    if chain == "reject-unknown-port":
        return ("the Service does not have this port",)
    if chain == "reject-loopback":
        return ("node ports are not served on loopback addresses",)
    return ("the Service has no endpoint for this client here",)


def _by_rule(dropping: DroppingRule | None) -> tuple[str, ...]:
    if dropping is None:
        return ()
    return (f"by {dropping}:", dropping.text) if dropping.text else (f"by {dropping}",)


def _unanswered(connection: TracedConnection) -> tuple[str, ...]:
    if connection.packets > 1:
        return (f"the client sent its first packet {plural(connection.packets, 'time')}",)
    return ()


def _lost(
    connection: TracedConnection,
    ending: TraceEnding,
    around: Surroundings,
    lost: LostBetween | None,
) -> tuple[str, Code | None, tuple[str, ...]]:
    place = lost or LostBetween("", "")
    what = "its answer was LOST" if ending is TraceEnding.ANSWER_LOST else "LOST"
    route = around.routes.get(connection.destination.address)
    if ending is TraceEnding.LOST and route is not None and route.error:
        to = format_address(connection.destination.address)
        return f"LOST: no route to {to} ({route.error})", Code.NO_ROUTE, ()
    reasons = []
    if route is not None and route.port is not None and route.port.hairpin is False:
        reasons.append(f"bridge port {route.port.name} has hairpin mode off")
    if around.legacy_tables:
        tables = ", ".join(around.legacy_tables)
        reasons.append(f"rules of iptables-legacy are not traced, and there are some: {tables}")
    return f"{what} between {place.after} and {place.before}", Code.LOST_ON_NODE, tuple(reasons)
