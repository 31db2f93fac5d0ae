"""
Matches and targets of xtables that iptables-nft and iptables-legacy share, as far as understood.

Source: ``linux/netfilter/x_tables.h`` and the ``xt_*.h`` beside it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

from nfproxy.dataplane.samplepackets import SamplePacket
from nfproxy.insight.nodefacts import Certainty, RuleEffect
from nfproxy.nft.schema import DROP, Verdict, verdict

#: How certain it is that a packet meets a condition, None where it does not.
Condition = Callable[[SamplePacket, bool], Certainty | None]

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
_TCP_PARTS_AT = 8  # option, flag mask, wanted flags, what is inverted
_NOT_FLAGS = 4  # XT_TCP_INV_FLAGS
_RANGES = struct.Struct("=16s16s16s16sB")  # xt_iprange_mtinfo: source, destination, flags
_RANGE_SOURCE, _RANGE_DESTINATION = 1, 2  # IPRANGE_…
_RANGE_NOT_SOURCE, _RANGE_NOT_DESTINATION = 16, 32  # IPRANGE_…_INV
#: Matches that hold for some packets: by a rate, a number of connections, or chance.
_BY_RATE = ("limit", "hashlimit", "connlimit", "statistic", "quota", "recent")
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


def all_of(found: Iterable[bool | None]) -> Certainty | None:
    """Return how certain it is that all of some hold, where None is not known."""
    parts = set(found)
    if False in parts:
        return None
    return Certainty.PERHAPS if None in parts else Certainty.SURE


def names_address(name: str, info: bytes) -> bool:
    """Return whether a match that holds is about the addresses of a packet."""
    if name != "iprange" or len(info) < _RANGES.size:
        return False
    flags: int = _RANGES.unpack_from(info)[-1]
    return not flags & (_RANGE_NOT_SOURCE | _RANGE_NOT_DESTINATION)


def match_of(name: str, info: bytes) -> Condition:
    """Return the condition of a match; of one that is not understood nothing is known."""
    made = _MATCHES.get(name)
    try:
        return made(info) if made is not None else _open
    except (struct.error, IndexError):  # another revision
        return _open


def _open(packet: SamplePacket, is_tracked: bool) -> Certainty:
    return Certainty.PERHAPS


def _by_rate(packet: SamplePacket, is_tracked: bool) -> Certainty:
    return Certainty.SOME


def _ports(info: bytes, inverted_at: int) -> Condition:
    first, last, low, high = _PORTS.unpack_from(info)
    inverted = info[inverted_at]

    def holds(packet: SamplePacket, is_tracked: bool) -> Certainty | None:
        found: list[bool | None] = []
        for port, (start, end), flag in (
            (packet.source_port, (first, last), _NOT_SOURCE),
            (packet.port, (low, high), _NOT_DESTINATION),
        ):
            if (start, end) != (0, 0xFFFF):
                found.append((start <= port <= end) is not bool(inverted & flag) if port else None)
        return all_of(found)

    return holds


def _tcp(info: bytes) -> Condition:
    ports = _ports(info, _INVERTED_AT["tcp"])
    option, mask, wanted, inverted = info[_TCP_PARTS_AT : _TCP_PARTS_AT + 4]

    def holds(packet: SamplePacket, is_tracked: bool) -> Certainty | None:
        found = ports(packet, is_tracked)
        flags = packet.tcp_flags
        if flags is not None and (flags & mask == wanted) is bool(inverted & _NOT_FLAGS):
            return None
        is_open = option or (flags is None and mask)
        return Certainty.PERHAPS if found is not None and is_open else found

    return holds


def _address_range(info: bytes) -> Condition:
    *ends, flags = _RANGES.unpack_from(info)

    def holds(packet: SamplePacket, is_tracked: bool) -> Certainty | None:
        size, found = packet.family.size, list[bool | None]()
        for address, (low, high), asked, inverted in (
            (packet.source, ends[:2], _RANGE_SOURCE, _RANGE_NOT_SOURCE),
            (packet.destination, ends[2:], _RANGE_DESTINATION, _RANGE_NOT_DESTINATION),
        ):
            if flags & asked:
                is_known, is_in = len(address) == size, low[:size] <= address <= high[:size]
                found.append(is_in is not bool(flags & inverted) if is_known else None)
        return all_of(found)

    return holds


def _address_type(info: bytes) -> Condition:
    source, destination, flags = _ADDRESS_TYPES.unpack_from(info)

    def holds(packet: SamplePacket, is_tracked: bool) -> Certainty | None:
        if not packet.destination or not destination:
            return Certainty.PERHAPS
        found = bool(destination >> packet.address_type & 1) is not bool(
            flags & _INVERT_DESTINATION
        )
        return all_of((found, None if source else True))

    return holds


def _conntrack(info: bytes) -> Condition:
    matches, inverted, states, status = _CONNTRACK.unpack_from(info)

    def holds(packet: SamplePacket, is_tracked: bool) -> Certainty | None:
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
        return all_of(found)

    return holds


def _state(info: bytes) -> Condition:
    (states,) = struct.unpack_from("=I", info)
    return lambda packet, is_tracked: all_of(
        [bool(states & packet.tracking_state(is_tracked=is_tracked))]
    )


def _multiport(info: bytes) -> Condition:
    which, count, *rest = _MULTIPORT.unpack_from(info)
    ports, ranges, is_inverted = rest[:15], rest[15:30], rest[30]
    if any(ranges) or which not in (0, 1):  # XT_MULTIPORT_SOURCE, XT_MULTIPORT_DESTINATION
        return _open

    def holds(packet: SamplePacket, is_tracked: bool) -> Certainty | None:
        port = packet.port if which else packet.source_port
        return all_of([(port in ports[:count]) is not bool(is_inverted) if port else None])

    return holds


_MATCHES: dict[str, Callable[[bytes], Condition]] = {
    "comment": lambda info: lambda packet, is_tracked: Certainty.SURE,
    "tcp": _tcp,
    "udp": lambda info: _ports(info, _INVERTED_AT["udp"]),
    "addrtype": _address_type,
    "conntrack": _conntrack,
    "state": _state,
    "multiport": _multiport,
    "iprange": _address_range,
    **dict.fromkeys(_BY_RATE, lambda info: _by_rate),
}
