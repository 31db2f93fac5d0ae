"""A packet, the node that it meets, and what becomes of it: the values of the evaluator."""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec

from nfproxy.model.addresses import Family, Prefix, family_of, format_address, parse_prefix

_ALWAYS_LOCAL = {
    Family.IPV4: parse_prefix("127.0.0.0/8"),
    Family.IPV6: parse_prefix("::1/128"),
}
_MULTICAST = {Family.IPV4: parse_prefix("224.0.0.0/4"), Family.IPV6: parse_prefix("ff00::/8")}
_NO_NETWORK = parse_prefix("0.0.0.0/8")
_ALL_HOSTS = b"\xff" * 4


class AddressType(enum.IntEnum):
    """What the routing table ``local`` says of an address (``RTN_…`` in ``linux/rtnetlink.h``)."""

    UNICAST = 1
    LOCAL = 2
    BROADCAST = 3
    ANYCAST = 4
    MULTICAST = 5


class Packet(msgspec.Struct, frozen=True):
    """
    The first packet of a connection.

    `protocol` is its IP number. `interface` is where it comes in: "" for one that a process of the
    node sends, None where it comes in by an interface whose name is not known.
    """

    source: bytes
    destination: bytes
    protocol: int
    port: int
    interface: str | None = None
    source_port: int | None = None
    mark: int = 0

    @property
    def family(self) -> Family:
        """The family of its addresses."""
        return family_of(self.destination)

    @property
    def is_from_process(self) -> bool:
        """Whether a process of the node sends it."""
        return self.interface == ""


class NodeAddresses(msgspec.Struct, frozen=True):
    """
    The addresses of the node, of both families: what ``fib … type`` knows.

    Loopback addresses are local without being named. `anycasts` are those of IPv6 routers.
    """

    addresses: frozenset[bytes]
    prefixes: tuple[Prefix, ...] = ()
    broadcasts: frozenset[bytes] = frozenset()
    anycasts: frozenset[bytes] = frozenset()

    def type_of(self, address: bytes) -> AddressType:
        """Return what kind of address the kernel takes it for, whatever its other routes say."""
        family = family_of(address)
        if address in self.addresses or address in _ALWAYS_LOCAL[family]:
            return AddressType.LOCAL
        if any(address in prefix for prefix in self.prefixes):
            return AddressType.LOCAL
        if address in self.anycasts:
            return AddressType.ANYCAST
        if address in _MULTICAST[family]:
            return AddressType.MULTICAST
        if address in self.broadcasts or address == _ALL_HOSTS or address in _NO_NETWORK:
            return AddressType.BROADCAST
        return AddressType.UNICAST


class Effect(enum.StrEnum):
    """What a rule did."""

    FOUND = "found"  # an element of a verdict map
    JUMP = "jump"
    RETURN = "return"
    MARK = "mark"  # of the packet: source NAT is due
    PRIORITY = "priority"
    TRANSLATE = "translate"
    MASQUERADE = "masquerade"
    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"
    NOTE = "note"  # counted, logged, remembered
    UNKNOWN = "unknown"


class PacketStep(NamedTuple):
    """
    One rule on a packet's way that did something.

    `detail` is what it did it to or with: an element, a chain, an endpoint, a kind of error.
    """

    hook: str
    chain: str
    rule: str
    effect: Effect
    detail: str = ""


class Fate(enum.StrEnum):
    """How the way of a packet through the rules ends."""

    ENDPOINT = "endpoint"  # its destination was translated
    REJECTED = "rejected"
    DROPPED = "dropped"
    UNTOUCHED = "untouched"  # passed on with the destination that it had
    UNKNOWN = "unknown"


class PacketOutcome(msgspec.Struct, frozen=True):
    """
    What may become of a packet.

    With fate ENDPOINT, `address` and `port` are where it goes, `is_local` where that is the node
    itself. `is_masqueraded` says whether it leaves with an address of the node as its source.
    With REJECTED, `answer` is the error that the client gets. The last of `steps` says which rule
    decided.
    """

    fate: Fate
    address: bytes
    port: int
    is_local: bool = False
    is_masqueraded: bool = False
    answer: str = ""
    steps: tuple[PacketStep, ...] = ()

    def __str__(self) -> str:
        """Return it in words, for tests and failures."""
        if self.fate is Fate.REJECTED:
            return f"rejected with {self.answer}"
        if self.fate is Fate.UNKNOWN:
            return f"unknown, at: {self.steps[-1].rule}"
        if self.fate is Fate.DROPPED:
            return "dropped"
        text = format_address(self.address)
        where = f"[{text}]:{self.port}" if ":" in text else f"{text}:{self.port}"
        words = ["untouched, to" if self.fate is Fate.UNTOUCHED else "to", where]
        return " ".join([*words, "masqueraded"] if self.is_masqueraded else words)
