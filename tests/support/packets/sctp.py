"""
The first two packets of an SCTP association, by hand.

The kernel may lack SCTP itself (CONFIG_IP_SCTP) and still track and translate it.
A client's INIT and a server's INIT ACK, with the right checksums and verification
tags, are all that it takes to see where a connection goes: RFC 9260, section 3.
"""

import ctypes
import ipaddress
import random
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from nfproxy.model.service import Protocol
from nfproxy.tools.lab import Namespace

INIT, INIT_ACK, ABORT = 1, 2, 6

_STATE_COOKIE = 7
_TEXT = 0x8777  # of the parameters a receiver skips when it does not know them

# <asm/socket.h>, <linux/in.h>, <linux/in6.h>: not all of these are in the socket module
SO_ATTACH_FILTER = 26
IP_PKTINFO = 8
IPV6_RECVPKTINFO = 49
IPV6_PKTINFO = 50


class Packet(NamedTuple):
    """One packet with one chunk; `tag` is the initiate tag, `text` a server's line."""

    source: str
    source_port: int
    destination: str
    destination_port: int
    chunk: int
    verification_tag: int
    tag: int
    text: bytes = b""

    def reply(self, chunk: int, text: bytes = b"") -> "Packet":
        """Return the answer to this INIT; its verification tag is the INIT's tag."""
        return Packet(
            source=self.destination,
            source_port=self.destination_port,
            destination=self.source,
            destination_port=self.source_port,
            chunk=chunk,
            verification_tag=self.tag,
            tag=new_tag(),
            text=text,
        )

    def encode(self) -> bytes:
        """Return the bytes after the IP header."""
        if self.chunk == ABORT:
            body = b""
        else:
            # advertised window, streams out and in, first sequence number
            body = struct.pack("!IIHHI", self.tag, 65536, 1, 1, self.tag)
        if self.chunk == INIT_ACK:
            body += _parameter(_STATE_COOKIE, b"none") + _parameter(_TEXT, self.text)
        header = struct.pack("!HHI", self.source_port, self.destination_port, self.verification_tag)
        chunk = struct.pack("!BBH", self.chunk, 0, 4 + len(body)) + body
        checksum = struct.pack("<I", crc32c(header + bytes(4) + chunk))
        return header + checksum + chunk


def new_tag() -> int:
    """Return a random tag; zero is not allowed."""
    return random.randrange(1, 1 << 32)


def decode(source: str, destination: str, data: bytes) -> Packet | None:
    """Return the packet, or None if it is none of ours or its checksum is wrong."""
    if len(data) < 16:
        return None
    source_port, destination_port, verification_tag = struct.unpack_from("!HHI", data)
    (checksum,) = struct.unpack_from("<I", data, 8)
    if checksum != crc32c(data[:8] + bytes(4) + data[12:]):
        return None
    chunk, _, length = struct.unpack_from("!BBH", data, 12)
    body = data[16 : 12 + length]
    tag, text = 0, b""
    if chunk in (INIT, INIT_ACK) and len(body) >= 16:
        (tag,) = struct.unpack_from("!I", body)
        text = dict(_parameters(body[16:])).get(_TEXT, b"")
    return Packet(
        source, source_port, destination, destination_port, chunk, verification_tag, tag, text
    )


def open_socket(namespace: Namespace, family: int) -> socket.socket:
    """Open a raw socket that receives all SCTP packets to the namespace."""
    sock = namespace.socket(family, socket.SOCK_RAW, Protocol.SCTP)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
    return sock


def only_to_port(sock: socket.socket, port: int) -> None:
    """
    Let the kernel throw away packets to other ports, with a classic BPF program.

    Every raw socket of a namespace gets a copy of every packet; with a hundred
    probes at once that would be most of the work.
    """
    if_port = [(0x15, 0, 1, port), (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0)]
    # IPv4, beginning with the IP header: X = its length, A = the half-word at X + 2
    skip_header = [(0xB1, 0, 0, 0), (0x48, 0, 0, 2)]
    no_header = [(0x28, 0, 0, 2)]
    program = (skip_header if sock.family == socket.AF_INET else no_header) + if_port
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *op) for op in program))
    filter_ = struct.pack("HL", len(program), ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filter_)


def receive(sock: socket.socket) -> Packet | None:
    """Read one packet; None if it is none of ours. Raises OSError, as recv(2) does."""
    data, ancillary, _, address = sock.recvmsg(65536, 64)
    if sock.family == socket.AF_INET:  # an IPv4 raw socket gives the IP header, too
        size = (data[0] & 15) * 4
        destination = socket.inet_ntoa(data[16:20])
        return decode(address[0], destination, data[size:])
    for level, kind, value in ancillary:
        if (level, kind) == (socket.IPPROTO_IPV6, IPV6_PKTINFO):
            destination = socket.inet_ntop(socket.AF_INET6, value[:16])
            return decode(address[0], destination, data)
    return None


def send(sock: socket.socket, packet: Packet) -> None:
    """Send from the address that the packet names. Raises OSError."""
    if sock.family == socket.AF_INET:
        # in_pktinfo: interface, source address, (header address)
        info = struct.pack("=I4s4s", 0, socket.inet_aton(packet.source), bytes(4))
        ancillary = (socket.IPPROTO_IP, IP_PKTINFO, info)
        target: tuple[str, int] = (packet.destination, 0)
    else:
        info = ipaddress.IPv6Address(packet.source).packed + bytes(4)
        ancillary = (socket.IPPROTO_IPV6, IPV6_PKTINFO, info)
        target = (packet.destination, 0)
    sock.sendmsg([packet.encode()], [ancillary], 0, target)


def crc32c(data: bytes) -> int:
    """Return the checksum of RFC 9260, appendix A (Castagnoli's polynomial, reflected)."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def _table() -> Iterator[int]:
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        yield value


_TABLE = tuple(_table())


def _parameter(kind: int, value: bytes) -> bytes:
    padding = bytes(-len(value) % 4)
    return struct.pack("!HH", kind, 4 + len(value)) + value + padding


def _parameters(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        kind, length = struct.unpack_from("!HH", data)
        if length < 4:
            return
        yield kind, data[4:length]
        data = data[(length + 3) & ~3 :]
