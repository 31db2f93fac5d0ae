"""
Matches and targets of xtables that iptables-nft and iptables-legacy share, as far as understood.

Source: ``linux/netfilter/x_tables.h`` and the ``xt_*.h`` beside it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from nfproxy.dataplane.samplepackets import SamplePacket
from nfproxy.insight.nodefacts import RuleEffect
from nfproxy.nft.schema import DROP, Verdict, verdict

#: Whether a packet meets a condition, None where that is not known.
Condition = Callable[[SamplePacket, bool], bool | None]

_ACCEPT = verdict(1)
_TARGETS: dict[str, tuple[RuleEffect | None, Verdict | None]] = {
    "REJECT": (RuleEffect.DROP, DROP),
    "NFQUEUE": (RuleEffect.QUEUE, _ACCEPT),
    "NOTRACK": (RuleEffect.NOT_TRACKED, None),
    "DNAT": (RuleEffect.TRANSLATED, _ACCEPT),
    "REDIRECT": (RuleEffect.TRANSLATED, _ACCEPT),
    "TPROXY": (RuleEffect.TRANSLATED, _ACCEPT),
    "SNAT": (RuleEffect.SOURCE, _ACCEPT),
    "MASQUERADE": (RuleEffect.SOURCE, _ACCEPT),
}
_CT = struct.Struct("=HH")  # xt_ct_target_info: flags, zone
_NOTRACK = 1  # XT_CT_NOTRACK

_PORTS = struct.Struct("=4H")  # xt_tcp, xt_udp: source from, to; destination from, to
_INVERTED_AT = {"tcp": 11, "udp": 8}
_NOT_SOURCE, _NOT_DESTINATION = 1, 2  # XT_TCP_INV_SRCPT, XT_UDP_INV_SRCPT …
_TCP_PARTS_AT = 8  # option, flag mask, wanted flags
_ADDRESS_TYPES = struct.Struct("=HHI")  # xt_addrtype_info_v1: source, destination, flags
_INVERT_DESTINATION = 2  # XT_ADDRTYPE_INVERT_DEST
_CONNTRACK = struct.Struct("=146xHHHH")  # xt_conntrack_mtinfo3: matches, inverted, states, status
_STATE, _STATUS = 1, 64  # XT_CONNTRACK_STATE, XT_CONNTRACK_STATUS
_TRANSLATED_STATE = 1 << 7  # XT_CONNTRACK_STATE_DNAT
_MULTIPORT = struct.Struct("=BB15H15BB")  # xt_multiport_v1: which, count, ports, ranges, inverted


def target_of(name: str, info: bytes) -> tuple[RuleEffect | None, Verdict | None] | None:
    """Return what a target does, and how the packet goes on; None for one that changes neither."""
    if name == "CT" and len(info) >= _CT.size:
        flags, zone = _CT.unpack_from(info)
        if flags & _NOTRACK:
            return RuleEffect.NOT_TRACKED, None
        return (RuleEffect.ZONE, None) if zone else None
    return _TARGETS.get(name)


def match_of(name: str, info: bytes) -> Condition:
    """Return the condition of a match; of one that is not understood nothing is known."""
    made = _MATCHES.get(name)
    try:
        return made(info) if made is not None else _open
    except (struct.error, IndexError):  # another revision
        return _open


def _open(packet: SamplePacket, is_tracked: bool) -> None:
    return None


def _ports(info: bytes, inverted_at: int) -> Condition:
    first, last, low, high = _PORTS.unpack_from(info)
    inverted = info[inverted_at]

    def holds(packet: SamplePacket, is_tracked: bool) -> bool | None:
        found: list[bool | None] = []
        for port, (start, end), flag in (
            (packet.source_port, (first, last), _NOT_SOURCE),
            (packet.port, (low, high), _NOT_DESTINATION),
        ):
            if (start, end) != (0, 0xFFFF):
                found.append((start <= port <= end) is not bool(inverted & flag) if port else None)
        return False if False in found else None if None in found else True

    return holds


def _tcp(info: bytes) -> Condition:
    ports = _ports(info, _INVERTED_AT["tcp"])
    has_more = any(info[_TCP_PARTS_AT : _TCP_PARTS_AT + 2])

    def holds(packet: SamplePacket, is_tracked: bool) -> bool | None:
        found = ports(packet, is_tracked)
        return None if found and has_more else found

    return holds


def _address_type(info: bytes) -> Condition:
    source, destination, flags = _ADDRESS_TYPES.unpack_from(info)

    def holds(packet: SamplePacket, is_tracked: bool) -> bool | None:
        if not packet.destination or not destination:
            return None
        found = bool(destination >> packet.address_type & 1) is not bool(
            flags & _INVERT_DESTINATION
        )
        return None if found and source else found

    return holds


def _conntrack(info: bytes) -> Condition:
    matches, inverted, states, status = _CONNTRACK.unpack_from(info)

    def holds(packet: SamplePacket, is_tracked: bool) -> bool | None:
        found: list[bool | None] = [None] if matches & ~(_STATE | _STATUS) else []
        seen = packet.tracking_state(is_tracked=is_tracked)
        if packet.tracking_status and is_tracked:
            seen |= _TRANSLATED_STATE
        for wanted, have, flag in (
            (states, seen, _STATE),
            (status, packet.tracking_status, _STATUS),
        ):
            if matches & flag:
                found.append(bool(wanted & have) is not bool(inverted & flag))
        return False if False in found else None if None in found else True

    return holds


def _state(info: bytes) -> Condition:
    (states,) = struct.unpack_from("=I", info)
    return lambda packet, is_tracked: bool(states & packet.tracking_state(is_tracked=is_tracked))


def _multiport(info: bytes) -> Condition:
    which, count, *rest = _MULTIPORT.unpack_from(info)
    ports, ranges, is_inverted = rest[:15], rest[15:30], rest[30]
    if any(ranges) or which not in (0, 1):  # XT_MULTIPORT_SOURCE, XT_MULTIPORT_DESTINATION
        return _open

    def holds(packet: SamplePacket, is_tracked: bool) -> bool | None:
        port = packet.port if which else packet.source_port
        return (port in ports[:count]) is not bool(is_inverted) if port else None

    return holds


_MATCHES: dict[str, Callable[[bytes], Condition]] = {
    "comment": lambda info: lambda packet, is_tracked: True,
    "tcp": _tcp,
    "udp": lambda info: _ports(info, _INVERTED_AT["udp"]),
    "addrtype": _address_type,
    "conntrack": _conntrack,
    "state": _state,
    "multiport": _multiport,
}
