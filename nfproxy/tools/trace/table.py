"""The table that traces: chains that mark packets, and empty ones for packets to pass."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator

import msgspec

from nfproxy.model.addresses import Family, format_address
from nfproxy.model.service import Protocol

TRACE_TABLE = "nfproxy-trace"

#: Packets of all connections that are traced, a second; and the same for answers. One packet makes
#: a message for each rule that it meets, in a cluster's node some hundred.
_RATE = "limit rate 20/second burst 20 packets"
#: The first packets of connections, and of answers to them (or a refusal). SCTP's is the type of
#: the first chunk, behind 12 bytes of header: INIT, and INIT ACK or ABORT.
_FIRST = {Protocol.TCP: ["tcp flags & (syn | ack) == syn"], Protocol.SCTP: ["@th,96,8 1"]}
_ANSWER = {Protocol.TCP: ["tcp flags & (syn | rst) != 0x0"], Protocol.SCTP: ["@th,96,8 { 2, 6 }"]}


class Waypoint(enum.StrEnum):
    """Where packets pass one of the table's chains, by the chain's name."""

    PREROUTING = "prerouting"
    OUTPUT = "output"
    TRANSLATED = "translated"  # behind all destination NAT
    OUTPUT_TRANSLATED = "output-translated"
    INPUT = "input"
    DELIVERED = "delivered"
    FORWARD = "forward"
    POSTROUTING = "postrouting"
    SENT = "sent"  # behind all source NAT

    @property
    def hook(self) -> str:
        """The hook in which packets are, from here to the next place."""
        return _WAYPOINTS[self][0]


_WAYPOINTS = {
    Waypoint.PREROUTING: ("prerouting", -350),
    Waypoint.OUTPUT: ("output", -350),
    Waypoint.TRANSLATED: ("prerouting", -90),
    Waypoint.OUTPUT_TRANSLATED: ("output", -90),
    Waypoint.INPUT: ("input", -350),
    Waypoint.DELIVERED: ("input", 350),
    Waypoint.FORWARD: ("forward", -350),
    Waypoint.POSTROUTING: ("postrouting", -350),
    Waypoint.SENT: ("postrouting", 350),
}


class TraceTarget(msgspec.Struct, frozen=True, order=True):
    """
    What packets are asked for: an address, a protocol, a port; 0 and None mean any.

    `address` is b"" for a node port, which is one of every local address. With `arriving`, only
    packets count that come in by an interface, and none of this node's own processes. With a
    `client`, only its packets count.
    """

    family: Family
    address: bytes
    protocol: Protocol | None = None
    port: int = 0
    client: bytes = b""
    arriving: bool = False


def table_text(targets: Iterable[TraceTarget]) -> str:
    """Return the table as nft's text: one of family inet, with all families' targets."""
    wanted = sorted(targets)
    first = {target: [*_first_packets(target)] for target in wanted}
    arriving = [rule for rules in first.values() for rule in rules]
    local = [rule for target in wanted if not target.arriving for rule in first[target]]
    answers = [rule for target in wanted for rule in _answers(target)]
    rules = {Waypoint.PREROUTING: arriving, Waypoint.OUTPUT: local}
    chains = [_chain(place, *where, rules.get(place, [])) for place, where in _WAYPOINTS.items()]
    chains += [_chain(f"answers-{hook}", hook, -150, answers) for hook in ("prerouting", "output")]
    return f"add table inet {TRACE_TABLE} {{ flags owner; }}\n" + "".join(chains)


def _chain(name: str, hook: str, priority: int, rules: Iterable[str]) -> str:
    head = f"{{ type filter hook {hook} priority {priority}; policy accept; }}"
    lines = [f"add chain inet {TRACE_TABLE} {name} {head}"]
    lines += [f"add rule inet {TRACE_TABLE} {name} {rule} meta nftrace set 1" for rule in rules]
    return "\n".join(lines) + "\n"


def _first_packets(target: TraceTarget) -> Iterator[str]:
    """Yield matches of first packets; of UDP any packet may be one."""
    words = target.family.table
    parts = [f"{words} saddr {format_address(target.client)}"] if target.client else []
    if target.address:
        parts.append(f"{words} daddr {format_address(target.address)}")
    else:
        parts += [f"meta nfproto ipv{4 if target.family is Family.IPV4 else 6}"]
        parts += ["fib daddr type local"]
    for protocol in _protocols(target):
        port = [f"{protocol.word} dport {target.port}"] if target.port else []
        first = _FIRST.get(protocol, [])
        yield " ".join((*parts, f"meta l4proto {protocol.word}", *port, *first, _RATE))


def _answers(target: TraceTarget) -> Iterator[str]:
    words = target.family.table
    parts = ["ct direction reply"]
    if target.client:
        parts.append(f"ct original {words} saddr {format_address(target.client)}")
    if target.address:
        parts.append(f"ct original {words} daddr {format_address(target.address)}")
    else:
        parts.append(f"meta nfproto ipv{4 if target.family is Family.IPV4 else 6}")
    for protocol in _protocols(target):
        port = [f"ct original proto-dst {target.port}"] if target.port else []
        first = _ANSWER.get(protocol, [])
        yield " ".join((*parts, f"meta l4proto {protocol.word}", *port, *first, _RATE))


def _protocols(target: TraceTarget) -> tuple[Protocol, ...]:
    return (target.protocol,) if target.protocol else tuple(Protocol)
