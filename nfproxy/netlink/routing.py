"""
Messages about routes, interfaces and neighbours: what is between this node and an address.

Source: rtnetlink(7), ``linux/rtnetlink.h``, ``if_link.h``, ``neighbour.h``.
"""

from __future__ import annotations

import errno
import struct
import sys
from typing import NamedTuple

from nfproxy.model.addresses import Family, family_of
from nfproxy.netlink.messages import attribute, malformed, text, values

GET_LINK, GET_ROUTE, GET_NEIGHBOUR = 18, 26, 30  # RTM_GET…

_ROUTE = struct.Struct("=BBBBBBBBI")  # rtmsg: family, lengths …, type, flags
_LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # ndmsg: family, interface, state, flags, type

_DESTINATION, _FROM, _CAME_BY, _INTERFACE, _GATEWAY = 1, 2, 3, 4, 5  # RTA_…
_METRICS, _MARK, _VIA = 8, 16, 18  # RTA_…
_METRIC_MTU = 2  # RTAX_MTU
_LOCAL = 2  # RTN_LOCAL
_NAME, _MTU, _MASTER, _INFO, _XDP = 3, 4, 10, 18, 43  # IFLA_…
_XDP_ATTACHED = 2  # IFLA_XDP_ATTACHED
_INFO_KIND, _PORT_KIND, _PORT_DATA = 1, 4, 5  # IFLA_INFO_…
_PORT_HAIRPIN = 4  # IFLA_BRPORT_MODE
_RUNNING, _PROMISCUOUS = 0x40, 0x100  # IFF_RUNNING, IFF_PROMISC
_FAILED = 0x20  # NUD_FAILED
_NEIGHBOUR_ADDRESS, _HARDWARE_ADDRESS, _BRIDGE = 1, 2, 9  # NDA_DST, NDA_LLADDR, NDA_MASTER
_AF_BRIDGE = 7

#: What the kernel answers to a request for a route, in words of ip-route(8).
NO_ROUTE_WORDS = {
    errno.EINVAL: "blackhole",
    errno.EHOSTUNREACH: "unreachable",
    errno.EACCES: "prohibit",
    errno.ENETUNREACH: "no route",
}


class RouteRow(NamedTuple):
    """
    The route that the kernel takes to an address.

    `interface` is an index, `via` the next hop, b"" for none; `mtu` is the route's own, 0 for none.
    """

    interface: int
    via: bytes
    mtu: int
    is_local: bool


class LinkRow(NamedTuple):
    """
    An interface. `number` is its index, `kind` "" for hardware, `master` 0 for none.

    `hairpin` is whether a bridge port sends packets back, None for what is no bridge port. Without
    `has_carrier` it is down, or its other end is. `has_xdp` says that an XDP program is attached.
    """

    number: int
    name: str
    mtu: int
    kind: str
    master: int
    hairpin: bool | None
    is_promiscuous: bool
    has_carrier: bool
    has_xdp: bool


def route_question(address: bytes, source: bytes = b"", came_by: int = 0, mark: int = 0) -> bytes:
    """
    Return the payload that asks for the route to an address.

    With `came_by`, an interface's index, that is the route of a packet from `source` that the node
    forwards, and the kernel also checks the source (rp_filter).
    """
    head = _ROUTE.pack(family_of(address), 8 * len(address), 8 * len(source), 0, 0, 0, 0, 0, 0)
    question = head + attribute(_DESTINATION, address)
    if source:
        question += attribute(_FROM, source)
    for kind, value in ((_CAME_BY, came_by), (_MARK, mark)):
        if value:
            question += attribute(kind, struct.pack("=I", value))
    return question


def read_route(data: bytes) -> RouteRow:
    """Read the answer's payload. Raises DataplaneError."""
    if len(data) < _ROUTE.size:
        raise malformed("route")
    kind = _ROUTE.unpack_from(data)[7]
    found = values(data, _ROUTE.size)
    metrics = values(found.get(_METRICS, b""))
    # A next hop of the other family has its family before its address.
    via = found.get(_GATEWAY) or found.get(_VIA, b"")[2:]
    return RouteRow(
        _native(found.get(_INTERFACE, b"")),
        via,
        _native(metrics.get(_METRIC_MTU, b"")),
        kind == _LOCAL,
    )


def link_question(index: int = 0) -> bytes:
    """Return the payload that asks for an interface, 0 for a listing of all."""
    return _LINK.pack(0, 0, index, 0, 0)


def read_link(data: bytes) -> LinkRow:
    """Read the answer's payload. Raises DataplaneError."""
    if len(data) < _LINK.size:
        raise malformed("link")
    _, _, index, flags, _ = _LINK.unpack_from(data)
    found = values(data, _LINK.size)
    info = values(found.get(_INFO, b""))
    hairpin = None
    if text(info.get(_PORT_KIND, b"")) == "bridge":
        hairpin = values(info.get(_PORT_DATA, b"")).get(_PORT_HAIRPIN, b"\0") != b"\0"
    return LinkRow(
        index,
        text(found.get(_NAME, b"")),
        _native(found.get(_MTU, b"")),
        text(info.get(_INFO_KIND, b"")),
        _native(found.get(_MASTER, b"")),
        hairpin,
        bool(flags & _PROMISCUOUS),
        bool(flags & _RUNNING),
        any(values(found.get(_XDP, b"")).get(_XDP_ATTACHED, b"")),
    )


def neighbour_question(address: bytes, interface: int) -> bytes:
    """Return the payload that asks for the hardware address of an address on a link."""
    head = _NEIGHBOUR.pack(family_of(address), interface, 0, 0, 0)
    return head + attribute(_NEIGHBOUR_ADDRESS, address)


def neighbours_question() -> bytes:
    """Return the payload that asks for a listing of all neighbours."""
    return _NEIGHBOUR.pack(0, 0, 0, 0, 0)


def read_neighbour(data: bytes) -> tuple[bytes, int]:
    """Read address and interface of a neighbour, b"" and 0 without. Raises DataplaneError."""
    if len(data) < _NEIGHBOUR.size:
        raise malformed("neighbour")
    family, interface, *_ = _NEIGHBOUR.unpack_from(data)
    address = values(data, _NEIGHBOUR.size).get(_NEIGHBOUR_ADDRESS, b"")
    is_ip = family in (Family.IPV4, Family.IPV6)
    return (address, interface) if is_ip and address else (b"", 0)


def read_hardware_address(data: bytes) -> bytes:
    """Read the answer's payload; b"" while the kernel does not know it. Raises DataplaneError."""
    return values(data, _NEIGHBOUR.size).get(_HARDWARE_ADDRESS, b"")


def has_failed(data: bytes) -> bool:
    """Return whether nothing answered for a neighbour, from the answer's payload."""
    return len(data) >= _NEIGHBOUR.size and bool(_NEIGHBOUR.unpack_from(data)[2] & _FAILED)


def bridge_port_question(hardware_address: bytes, bridge: int) -> bytes:
    """Return the payload that asks for the port of a bridge behind which an address is."""
    head = _NEIGHBOUR.pack(_AF_BRIDGE, 0, 0, 0, 0)
    where = attribute(_BRIDGE, struct.pack("=I", bridge))
    return head + attribute(_HARDWARE_ADDRESS, hardware_address) + where


def read_bridge_port(data: bytes) -> int:
    """Read the index of the port in the answer's payload. Raises DataplaneError."""
    if len(data) < _NEIGHBOUR.size:
        raise malformed("neighbour")
    index: int = _NEIGHBOUR.unpack_from(data)[1]
    return index


def _native(value: bytes) -> int:
    """Return a number in the machine's byte order; 0 for b""."""
    return int.from_bytes(value, sys.byteorder)
