"""Packets of a Service as rules of other programs meet them, with what is known of each."""

from __future__ import annotations

import functools
import sys

import msgspec

from nfproxy.insight.nodefacts import NodeLink, PacketStage
from nfproxy.model.addresses import Family

#: A register or a header, an octet each; None where it is not known.
Octets = list[int | None]

_TCP = 6
_SYN, _SYN_ACK = 0x02, 0x12
_INVALID, _ESTABLISHED, _NEW = 1, 2, 8  # NF_CT_STATE_BIT
_DNAT = 0x20  # IPS_DST_NAT
_UNICAST, _LOCAL = 1, 2  # RTN_…

#: Where a header of IPv4 and of IPv6 has its protocol, source and destination, and its size.
_PLACES = {Family.IPV4: (9, 12, 16, 20), Family.IPV6: (6, 8, 24, 40)}
_FLAGS_AT, _TRANSPORT_SIZE = 13, 20
_INTERFACE_SIZE = 16  # IFNAMSIZ
_TRANSLATED = (PacketStage.SENT, PacketStage.OWN_SENT, PacketStage.ANSWER)


class SamplePacket(msgspec.Struct, frozen=True, dict=True):
    """
    The first packet of a connection, or the answer to it.

    Addresses are packed, and b"" where unknown; of `source` the first octets alone may be known.
    Ports are 0 where unknown. `came_by` and `leaves_by` are interfaces, None where unknown;
    then `ways_in` are some by which it may come.
    `is_to_node` says that the destination is an address of the node, `is_local` that the endpoint
    is one of its processes.
    """

    stage: PacketStage
    family: Family
    protocol: int
    source: bytes = b""
    destination: bytes = b""
    source_port: int = 0
    port: int = 0
    came_by: NodeLink | None = None
    leaves_by: NodeLink | None = None
    ways_in: tuple[NodeLink, ...] = ()
    is_to_node: bool = False
    is_local: bool = False

    @property
    def is_answer(self) -> bool:
        """Whether it comes from an endpoint."""
        return self.stage is PacketStage.ANSWER

    @functools.cached_property
    def network(self) -> Octets:
        """What is known of its IP header."""
        protocol, source, destination, size = _PLACES[self.family]
        found: Octets = [None] * size
        found[protocol] = self.protocol
        for at, address in ((source, self.source), (destination, self.destination)):
            found[at : at + len(address)] = address
        return found

    @functools.cached_property
    def transport(self) -> Octets:
        """What is known of its TCP, UDP or SCTP header."""
        found: Octets = [None] * _TRANSPORT_SIZE
        for at, port in ((0, self.source_port), (2, self.port)):
            if port:
                found[at : at + 2] = port.to_bytes(2, "big")
        if self.protocol == _TCP:
            found[_FLAGS_AT] = _SYN_ACK if self.is_answer else _SYN
        return found

    @property
    def tcp_flags(self) -> int | None:
        """Its TCP flags, None where it is no TCP."""
        return self.transport[_FLAGS_AT]

    def names_at(self, start: int, length: int) -> bool:
        """Return whether a part of its IP header is of an address that is known as a whole."""
        _, source, destination, _ = _PLACES[self.family]
        size = self.family.size
        places = ((source, self.source), (destination, self.destination))
        return length > 1 and any(
            len(address) == size and at <= start < at + size for at, address in places
        )

    def tracking_state(self, *, is_tracked: bool) -> int:
        """Return the bit of ``ct state``; before connections are tracked there is none."""
        if not is_tracked:
            return _INVALID
        return _ESTABLISHED if self.is_answer else _NEW

    @property
    def tracking_status(self) -> int:
        """What is known of ``ct status``: whether the destination was translated."""
        return _DNAT if self.stage in _TRANSLATED else 0

    @property
    def address_type(self) -> int:
        """What ``fib daddr type`` says."""
        return _LOCAL if self.is_to_node else _UNICAST


def interface_name(link: NodeLink | None) -> Octets:
    """Return the name of an interface as a register has it."""
    if link is None:
        return [None] * _INTERFACE_SIZE
    return list(link.name.encode().ljust(_INTERFACE_SIZE, b"\0"))


def native(number: int) -> Octets:
    """Return a number of four octets as a register has it."""
    return list(number.to_bytes(4, sys.byteorder))
