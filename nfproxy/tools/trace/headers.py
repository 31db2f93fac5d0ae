"""The addresses, ports and flags in the first bytes of a packet."""

from __future__ import annotations

import struct
from typing import NamedTuple

from nfproxy.model.addresses import Family, family_of, format_address
from nfproxy.model.service import Protocol

_PORTS = struct.Struct("!HH")
_TCP = struct.Struct("!HHI4xBB")  # ports, sequence number, offset, flags
_SYN, _RST, _ACK = 0x02, 0x04, 0x10
_SCTP_ABORT = 6
_PORTS_WITH = frozenset(Protocol)


class PacketPeer(NamedTuple):
    """An address, packed, and a port."""

    address: bytes
    port: int

    def __str__(self) -> str:
        """Return ``10.96.0.10:80`` or ``[fd00::1]:80``."""
        text = format_address(self.address)
        return f"[{text}]:{self.port}" if ":" in text else f"{text}:{self.port}"


class Headers(NamedTuple):
    """
    What a packet says of itself.

    `number` tells packets between the same ports apart: IP's identification and TCP's sequence
    number. The kernel's id of a packet does not, where a bridge copies it.
    """

    source: PacketPeer
    destination: PacketPeer
    protocol: int
    number: tuple[int, int]
    is_refusal: bool  # a reset, or SCTP's ABORT

    @property
    def family(self) -> Family:
        """The family of its addresses."""
        return family_of(self.source.address)

    @property
    def likeness(self) -> tuple[int, int, tuple[int, int]]:
        """What stays the same when the destination is translated, or the packet is copied."""
        return self.protocol, self.source.port, self.number


def read_headers(network: bytes, transport: bytes) -> Headers | None:
    """Read a packet's headers; None for other protocols, fragments and what is cut short."""
    if len(network) >= 20 and network[0] >> 4 == 4:
        if int.from_bytes(network[6:8], "big") & 0x1FFF:
            return None  # a later fragment has no ports
        protocol, source, destination = network[9], network[12:16], network[16:20]
        identification = int.from_bytes(network[4:6], "big")
    elif len(network) >= 40 and network[0] >> 4 == 6:
        protocol, source, destination = network[6], network[8:24], network[24:40]
        identification = 0
    else:
        return None
    if protocol not in _PORTS_WITH or len(transport) < _PORTS.size:
        return None
    ports = _PORTS.unpack_from(transport)
    sequence, is_refusal = 0, False
    if protocol == Protocol.TCP and len(transport) >= _TCP.size:
        _, _, sequence, _, flags = _TCP.unpack_from(transport)
        is_refusal = bool(flags & _RST)
    elif protocol == Protocol.SCTP and len(transport) > 12:
        is_refusal = transport[12] == _SCTP_ABORT
    return Headers(
        PacketPeer(source, ports[0]),
        PacketPeer(destination, ports[1]),
        protocol,
        (identification, sequence),
        is_refusal,
    )
