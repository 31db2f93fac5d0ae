"""
Conntrack messages: listing and deleting UDP and SCTP entries.

Entries are read by offset, as a node may have hundreds of thousands. 200,000 take 0.85 s of
processor time, half of it in the kernel; pyroute2's generic decoder needs 15 s. The kernel has
always written the attributes of a tuple in one order; each entry is checked for that order.

Source: ``linux/netfilter/nfnetlink_conntrack.h``, ``nf_conntrack_netlink.c``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from nfproxy.errors import DataplaneError
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.service import Protocol
from nfproxy.netlink.messages import (
    GENERIC_SIZE,
    NESTED,
    NLM_F_DUMP,
    attribute,
    attributes,
    generic,
    message,
)
from nfproxy.nft.schema import port_bytes

_NEW, _GET, _DELETE = 0x100, 0x101, 0x102  # NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_…
_GET_STATS = 0x105

_ORIGINAL, _REPLY, _ID, _ZONE, _FILTER = 1, 2, 12, 18, 25  # CTA_…
_IP, _PROTOCOL = 1, 2  # CTA_TUPLE_…
_SOURCES = {Family.IPV4: 1, Family.IPV6: 3}  # CTA_IP_V4_SRC, CTA_IP_V6_SRC; …_DST is one more
_NUMBER, _DESTINATION_PORT = 1, 3  # CTA_PROTO_…
_ORIGINAL_FLAGS = 1  # CTA_FILTER_ORIG_FLAGS

#: Which fields of a request's tuple have to match: bits of the kernel's CTA_FILTER_F_….
_MATCH_DESTINATION, _MATCH_PROTOCOL, _MATCH_DESTINATION_PORT = 1 << 1, 1 << 3, 1 << 5

_LENGTH = struct.Struct("=H")


class Flow(NamedTuple):
    """
    An entry: its protocol, where the client sends to, and where its answers come from.

    The latter two are an address and a port each, as an endpoint map's value.
    """

    protocol: Protocol
    destination: bytes
    source: bytes


class _Offsets(NamedTuple):
    """
    The offsets of a tuple's parts, counted from the header of the tuple's attribute.

    ::

        TUPLE { IP { SRC, DST }, PROTO { NUM, SRC_PORT, DST_PORT } }, perhaps a ZONE
    """

    address_head: bytes
    source: int
    destination: int
    protocol: int
    protocol_head: bytes
    number: int
    source_port: int
    destination_port: int
    size: int

    @classmethod
    def of(cls, family: Family) -> _Offsets:
        size = family.size
        source = attribute(_SOURCES[family], bytes(size))
        protocol = 12 + size + 4 + size
        return cls(
            address_head=struct.pack("=HH", 4 + 2 * len(source), _IP | NESTED) + source[:4],
            source=12,
            destination=12 + size + 4,
            protocol=protocol,
            protocol_head=struct.pack("=HHHH", 28, _PROTOCOL | NESTED, 5, _NUMBER),
            number=protocol + 8,
            source_port=protocol + 16,
            destination_port=protocol + 24,
            size=protocol + 28,
        )


#: The protocols whose entries are read. Their tuples have the same layout.
_PROTOCOLS = {int(protocol): protocol for protocol in (Protocol.UDP, Protocol.SCTP)}

_OFFSETS = {family: _Offsets.of(family) for family in FAMILIES}


def list_request(
    family: Family, address: bytes, port: int, protocol: Protocol, sequence: int
) -> bytes:
    """
    Return the request for a protocol's entries whose original destination matches.

    b"" is any address, 0 any port. The kernel compares since Linux 5.8; an older kernel lists
    every entry.
    """
    flags = _MATCH_PROTOCOL
    ports = attribute(_NUMBER, bytes((protocol,)))
    wanted = b""
    if address:
        flags |= _MATCH_DESTINATION
        wanted = attribute(_IP | NESTED, attribute(_SOURCES[family] + 1, address))
    if port:
        flags |= _MATCH_DESTINATION_PORT
        ports += attribute(_DESTINATION_PORT, port_bytes(port)[:2])
    wanted += attribute(_PROTOCOL | NESTED, ports)
    matching = attribute(_ORIGINAL_FLAGS, struct.pack("=I", flags))
    payload = attribute(_ORIGINAL | NESTED, wanted) + attribute(_FILTER | NESTED, matching)
    return message(_GET, NLM_F_DUMP, sequence, generic(family) + payload)


def stats_request(sequence: int) -> bytes:
    """Return the request for the number of entries, which costs the kernel least."""
    return message(_GET_STATS, 0, sequence, generic(Family.IPV4))


def is_entry(kind: int) -> bool:
    """Return whether a message of this type holds an entry."""
    return kind == _NEW


def read_flow(data: bytes, start: int, end: int, family: Family) -> Flow | None:
    """
    Return the flow of one listed entry, None if it is neither UDP nor SCTP.

    `start` and `end` are those of the message's payload. Raises DataplaneError if the entry has
    another layout than this module expects.
    """
    off = _OFFSETS[family]
    at = start + GENERIC_SIZE
    if at + 2 * off.size > end:
        raise _unknown_layout()
    # The original tuple comes first; its length includes a conntrack zone, if it has one.
    reply = at + _LENGTH.unpack_from(data, at)[0]
    if data[at + 4 : at + 12] != off.address_head:
        raise _unknown_layout()
    # Tuples of other protocols have other attributes (ICMP has no ports), so ask this first.
    protocol = _PROTOCOLS.get(data[at + off.number])
    if protocol is None:
        return None
    # Wrong offsets would make wrong flows stale, and cut connections. So compare the headers of
    # all attributes on the way to the fields that are read.
    head = data[at + off.protocol : at + off.number]
    has_same_layout = data[reply + 4 : reply + 12] == off.address_head
    if not has_same_layout or head != off.protocol_head or reply + off.size > end:
        raise _unknown_layout()
    destination = at + off.destination
    port = at + off.destination_port
    source = reply + off.source
    source_port = reply + off.source_port
    return Flow(
        protocol,
        data[destination : destination + family.size] + data[port : port + 4],
        data[source : source + family.size] + data[source_port : source_port + 4],
    )


def entry_key(data: bytes, start: int, end: int) -> bytes:
    """
    Return the attributes that identify one listed entry: its reply tuple, zone and id.

    The id is a hash of the original tuple and of the entry's place in memory. A later entry of the
    same client may have both in common with a stale one, but it leads to another endpoint, so its
    reply tuple differs.
    """
    return b"".join(
        attribute(kind | NESTED if kind == _REPLY else kind, data[at:stop])
        for kind, at, stop in attributes(data, start + GENERIC_SIZE, end)
        if kind in (_REPLY, _ID, _ZONE)
    )


def has_zone(data: bytes, start: int, end: int) -> bool:
    """Return whether one listed entry is in a conntrack zone other than the default one."""
    return any(kind == _ZONE for kind, _, _ in attributes(data, start + GENERIC_SIZE, end))


def delete_requests(keys: Sequence[bytes], family: Family, sequence: int) -> bytes:
    """
    Return one request for each entry to delete; the kernel carries out each on its own.

    It answers those that fail: with ENOENT if the entry is gone, or another entry has its place.
    """
    head = generic(family)
    return b"".join(message(_DELETE, 0, sequence, head + key) for key in keys)


def _unknown_layout() -> DataplaneError:
    return DataplaneError(
        "the kernel lists connections in a layout that nfproxy does not know, so stale flows "
        "stay until they time out",
        "report this, with the kernel's version",
    )
