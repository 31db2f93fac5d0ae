"""
Entries of conntrack as connections of Services: where to, by whom, and how far they have come.

Entries are read by offset, as in ``conntrack``: 200,000 of them in about a second.

Source: ``nf_conntrack_netlink.c``, ``linux/netfilter/nf_conntrack_tcp.h``.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.netlink.messages import GENERIC_SIZE, attributes

_STATUS, _PROTOCOL_INFO, _TIMEOUT = 3, 4, 7  # CTA_…
_SEEN_REPLY = 0x2  # IPS_SEEN_REPLY
_TCP = 6
_SYN_RECEIVED, _ESTABLISHED, _SYN_SENT_2 = 2, 3, 9  # TCP_CONNTRACK_…
# Those between the last two are of a connection that ends.

_LENGTH = struct.Struct("=H")
_STATUS_HEAD, _TIMEOUT_HEAD = (struct.pack("=HH", 8, kind) for kind in (_STATUS, _TIMEOUT))
_INFO_BEFORE_STATE = 8  # CTA_PROTOINFO_TCP, CTA_PROTOINFO_TCP_STATE


class Progress(enum.Enum):
    """
    How far a connection has come: established, without an answer yet, or ending.

    A half open one has the endpoint's answer, and nothing more of the client since then.
    """

    OPEN = "open"
    UNANSWERED = "unanswered"
    HALF_OPEN = "half open"
    CLOSING = "closing"


class Tracked(NamedTuple):
    """
    A translated connection.

    `frontend` is the key of an element of map ``frontends``, `endpoint` a value of an endpoint map.
    `source` is the client, `seen_source` the address from which the endpoint sees it. `timeout_s`
    is after how long without a packet the kernel forgets the connection.
    """

    frontend: bytes
    endpoint: bytes
    source: bytes
    seen_source: bytes
    progress: Progress
    timeout_s: int


class _Layout(NamedTuple):
    """Offsets within a tuple, from the header of its attribute; see ``conntrack``."""

    source: int
    destination: int
    protocol: int
    source_port: int
    destination_port: int
    size: int

    @classmethod
    def of(cls, family: Family) -> _Layout:
        protocol = 12 + family.size + 4 + family.size + 8
        return cls(12, 16 + family.size, protocol, protocol + 8, protocol + 16, protocol + 20)


_LAYOUTS = {family: _Layout.of(family) for family in FAMILIES}


def read_tracked(data: bytes, start: int, end: int, family: Family) -> Tracked | None:
    """
    Return the connection of one listed entry, None if its destination was not translated.

    `start` and `end` are those of the message's payload. Raises DataplaneError.
    """
    layout = _LAYOUTS[family]
    at = start + GENERIC_SIZE
    if at + 2 * layout.size > end:
        return None
    reply = at + _LENGTH.unpack_from(data, at)[0]
    if reply + layout.size > end:
        return None
    size = family.size
    destination, to_port = at + layout.destination, at + layout.destination_port
    address, port = data[destination : destination + size], data[to_port : to_port + 4]
    source, source_port = reply + layout.source, reply + layout.source_port
    endpoint = data[source : source + size] + data[source_port : source_port + 4]
    if endpoint == address + port:
        return None
    protocol = data[at + layout.protocol]
    status, state, timeout_s = _progress(data, reply + _LENGTH.unpack_from(data, reply)[0], end)
    if not status & _SEEN_REPLY:
        progress = Progress.UNANSWERED
    elif protocol == _TCP and state == _SYN_RECEIVED:
        progress = Progress.HALF_OPEN
    elif protocol == _TCP and _ESTABLISHED < state < _SYN_SENT_2:
        progress = Progress.CLOSING
    else:
        progress = Progress.OPEN
    client, seen = at + layout.source, reply + layout.destination
    return Tracked(
        address + bytes((protocol, 0, 0, 0)) + port,
        endpoint,
        data[client : client + size],
        data[seen : seen + size],
        progress,
        timeout_s,
    )


def _progress(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """Return status, state and timeout from the attributes behind the tuples."""
    # The usual order, with a mark or without: read by offset, this takes a third of the time.
    if data[at : at + 4] == _STATUS_HEAD:
        for timeout_at in (at + 32, at + 24):
            if data[timeout_at : timeout_at + 4] == _TIMEOUT_HEAD:
                info_at = timeout_at + 8
                has_info = info_at + 17 <= end and data[info_at + 2] == _PROTOCOL_INFO
                state = data[info_at + 4 + _INFO_BEFORE_STATE] if has_info else 0
                timeout_s = int.from_bytes(data[timeout_at + 4 : info_at], "big")
                return data[at + 7], state, timeout_s
    status = state = timeout_s = 0
    for kind, start, stop in attributes(data, at, end):
        if kind == _STATUS:
            status = data[stop - 1]
        elif kind == _TIMEOUT:
            timeout_s = int.from_bytes(data[start:stop], "big")
        elif kind == _PROTOCOL_INFO and start + _INFO_BEFORE_STATE < stop:
            state = data[start + _INFO_BEFORE_STATE]
    return status, state, timeout_s
