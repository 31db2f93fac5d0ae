"""
IP addresses and prefixes as the API writes them.

An address is packed: 4 or 16 bytes in network order. That is what nf_tables keys hold; it hashes
fast and takes little memory.
"""

from __future__ import annotations

import enum
import ipaddress
import re
import socket
from typing import NamedTuple

from nfproxy.errors import InputError
from nfproxy.text import quoted

_IPV4 = re.compile(r"\d{1,10}(?:\.\d{1,10}){3}", re.ASCII)
_MAPPED = b"\0" * 10 + b"\xff\xff"


class Family(enum.IntEnum):
    """An IP family; the value is nf_tables' family number (NFPROTO_IPV4, NFPROTO_IPV6)."""

    #: Length of a packed address in bytes.
    size: int

    IPV4 = 2
    IPV6 = 10

    def __init__(self, number: int) -> None:
        """Set what is asked for with every address: a property takes several times as long."""
        self.size = 4 if number == 2 else 16

    @property
    def table(self) -> str:
        """The family's word in nft syntax: ``ip`` or ``ip6``."""
        return "ip" if self is Family.IPV4 else "ip6"

    @property
    def label(self) -> str:
        """The API's name of the family (``spec.ipFamilies``, ``addressType``)."""
        return "IPv4" if self is Family.IPV4 else "IPv6"


FAMILIES = (Family.IPV4, Family.IPV6)


def family_of(packed: bytes) -> Family:
    """Return the family of a packed address."""
    return Family.IPV4 if len(packed) == 4 else Family.IPV6


def parse_address(text: str) -> bytes:
    """
    Return the packed form of an address.

    Accepts what Kubernetes accepts: octets are decimal and may have leading zeros, and an
    IPv4-mapped IPv6 address is IPv4. Refuses a zone (``%eth0``). Raises InputError.
    """
    try:
        return socket.inet_pton(socket.AF_INET, text)  # nearly all of them, and five times as fast
    except (OSError, ValueError, UnicodeError):
        pass
    if _IPV4.fullmatch(text):
        octets = [int(part) for part in text.split(".")]
        if max(octets) > 255:
            raise InputError(f"{quoted(text)} is not an IP address")
        return bytes(octets)
    try:
        packed = socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError, UnicodeError):
        raise InputError(f"{quoted(text)} is not an IP address") from None
    return packed[12:] if packed.startswith(_MAPPED) else packed


def format_address(packed: bytes) -> str:
    """Return the canonical text of a packed address."""
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed)
    return str(ipaddress.IPv6Address(packed))


class Prefix(NamedTuple):
    """A CIDR prefix: packed network address (host bits zero) and length in bits."""

    network: bytes
    length: int

    @property
    def family(self) -> Family:
        """The family of the prefix."""
        return family_of(self.network)

    @property
    def last(self) -> bytes:
        """The highest address in the prefix, packed."""
        bits = len(self.network) * 8
        value = int.from_bytes(self.network, "big") | ((1 << (bits - self.length)) - 1)
        return value.to_bytes(len(self.network), "big")

    def __contains__(self, packed: object) -> bool:
        """Return whether a packed address is in the prefix; one of another family is not."""
        return (
            isinstance(packed, bytes)
            and len(packed) == len(self.network)
            and self.network <= packed <= self.last
        )

    def __str__(self) -> str:
        """Return the usual ``address/length`` text."""
        return f"{format_address(self.network)}/{self.length}"


def parse_prefix(text: str) -> Prefix:
    """
    Return a CIDR as a Prefix.

    Trims surrounding blanks and masks host bits, as Kubernetes does. Raises InputError.
    """
    address, slash, bits = text.strip().partition("/")
    if not slash or not (bits.isascii() and bits.isdigit()) or len(bits) > 3:
        raise InputError(f"{quoted(text)} is not a CIDR (address/length)")
    packed = parse_address(address)
    length = int(bits)
    if len(packed) == 4 and ":" in address:  # ::ffff:10.0.0.0/104 is 10.0.0.0/8
        length -= 96
    total = len(packed) * 8
    if not 0 <= length <= total:
        raise InputError(f"{quoted(text)} is not a CIDR: length must be 0 to {total}")
    mask = ((1 << length) - 1) << (total - length)
    value = int.from_bytes(packed, "big") & mask
    return Prefix(value.to_bytes(len(packed), "big"), length)


def collapse(prefixes: list[Prefix]) -> list[Prefix]:
    """
    Return the fewest disjoint prefixes that cover the same addresses, sorted.

    All prefixes are of one family. nf_tables refuses overlapping intervals in one set, so every
    list of prefixes passes this function before it becomes elements.
    """
    networks = [ipaddress.ip_network((p.network, p.length)) for p in prefixes]
    merged = ipaddress.collapse_addresses(networks)  # type: ignore[type-var]
    return [Prefix(net.network_address.packed, net.prefixlen) for net in merged]
