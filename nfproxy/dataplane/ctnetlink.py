"""
Conntrack's messages as bytes: listing and deleting UDP entries.

Source: ``linux/netfilter/nfnetlink_conntrack.h`` and ``nf_conntrack_netlink.c``. Entries are read
by offset, as a table may hold hundreds of thousands: the kernel has always written a tuple's
attributes in one order, and each entry is checked for it. 200,000 entries cost 0.85 s of processor
time in this way, half of it the kernel's; pyroute2's generic decoder needs 15 s.
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
    HEADER,
    NESTED,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    attribute,
    attributes,
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
_UNKNOWN_FORM = (
    "the kernel lists connections in a form that nfproxy does not know; stale UDP flows stay "
    "until they time out. Please report this with the kernel's version"
)


class Flow(NamedTuple):
    """A UDP entry: whom the client asked, and whom it gets answers from; address and port."""

    destination: bytes
    source: bytes


class _Offsets(NamedTuple):
    """
    Where things stand in a tuple, from its attribute's header on.

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


_OFFSETS = {family: _Offsets.of(family) for family in FAMILIES}


def list_request(family: Family, address: bytes, port: int, sequence: int) -> bytes:
    """
    Return the request for the UDP entries whose original destination matches.

    b"" is any address, 0 any port. The kernel compares (since Linux 5.8), and hands out only
    what fits; an older one hands out everything.
    """
    flags = _MATCH_PROTOCOL
    protocol = attribute(_NUMBER, bytes((Protocol.UDP,)))
    wanted = b""
    if address:
        flags |= _MATCH_DESTINATION
        wanted = attribute(_IP | NESTED, attribute(_SOURCES[family] + 1, address))
    if port:
        flags |= _MATCH_DESTINATION_PORT
        protocol += attribute(_DESTINATION_PORT, port_bytes(port)[:2])
    wanted += attribute(_PROTOCOL | NESTED, protocol)
    matching = attribute(_ORIGINAL_FLAGS, struct.pack("=I", flags))
    payload = attribute(_ORIGINAL | NESTED, wanted) + attribute(_FILTER | NESTED, matching)
    return _message(_GET, NLM_F_DUMP, sequence, family, payload)


def stats_request(sequence: int) -> bytes:
    """Return the request for how many entries there are: the cheapest one."""
    return _message(_GET_STATS, 0, sequence, Family.IPV4, b"")


def is_entry(kind: int) -> bool:
    """Tell whether a message of this type holds an entry."""
    return kind == _NEW


def udp_flow(data: bytes, start: int, end: int, family: Family) -> Flow | None:
    """
    Return the flow of one listed entry, None if it is not UDP.

    `start` and `end` are of the message without its header. Raises DataplaneError if the
    entry is laid out otherwise than expected.
    """
    off = _OFFSETS[family]
    at = start + GENERIC_SIZE
    if at + 2 * off.size > end:
        raise DataplaneError(_UNKNOWN_FORM)
    reply = at + _LENGTH.unpack_from(data, at)[0]
    if data[at + 4 : at + 12] != off.address_head:
        raise DataplaneError(_UNKNOWN_FORM)
    if data[at + off.number] != Protocol.UDP:
        return None
    head = data[at + off.protocol : at + off.number]
    same = data[reply + 4 : reply + 12] == off.address_head
    if not same or head != off.protocol_head or reply + off.size > end:
        raise DataplaneError(_UNKNOWN_FORM)
    destination = at + off.destination
    port = at + off.destination_port
    source = reply + off.source
    source_port = reply + off.source_port
    return Flow(
        data[destination : destination + family.size] + data[port : port + 4],
        data[source : source + family.size] + data[source_port : source_port + 4],
    )


def entry_key(data: bytes, start: int, end: int) -> bytes:
    """
    Return what names one listed entry and no other: its reply tuple, zone and id.

    The id is made of the original tuple and the entry's place in memory, where a later entry for
    the same client may be. That one has another reply tuple, as it goes to another endpoint.
    """
    return b"".join(
        attribute(kind | NESTED if kind == _REPLY else kind, data[at:stop])
        for kind, at, stop in attributes(data, start + GENERIC_SIZE, end)
        if kind in (_REPLY, _ID, _ZONE)
    )


def delete_requests(keys: Sequence[bytes], family: Family, sequence: int) -> bytes:
    """
    Return one request for each entry to delete; the kernel treats each by itself.

    Only what fails is answered: with ENOENT where the entry is gone, or is another one.
    """
    return b"".join(_message(_DELETE, 0, sequence, family, key) for key in keys)


def _message(kind: int, flags: int, sequence: int, family: Family, payload: bytes) -> bytes:
    head = HEADER.pack(20 + len(payload), kind, flags | NLM_F_REQUEST, sequence, 0)
    return head + bytes((family, 0, 0, 0)) + payload
