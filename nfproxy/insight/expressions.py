"""
What a rule reads: fields of packet and connection, look-ups, numbers drawn, hashes.

An expression has several values where it depends on a draw, and the value None where the kernel
ends the rule at it: a look-up that finds nothing, a port of another protocol. Values are numbers,
names of interfaces are text.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from nfproxy.insight.packet import NodeAddresses, Packet
from nfproxy.model.addresses import Family
from nfproxy.nft import schema
from nfproxy.nft.endpointnumbers import jhash
from nfproxy.nft.schema import Value

#: More values than these of one expression are not followed.
MOST_VALUES = 100_000

_NAME_SIZE = 16  # IFNAMSIZ


class ValueKind(enum.Enum):
    """What a value is, and so how it is packed in a key and written in a rule."""

    ADDRESS = "address"
    PROTOCOL = "protocol"
    PORT = "port"
    NUMBER = "number"
    PRIORITY = "priority"
    NAME = "name"
    ADDRESS_TYPE = "address type"
    STATUS = "status"
    STATE = "state"
    DIRECTION = "direction"
    FAMILY = "family"


Scalar = int | str
Values = tuple[Scalar | None, ...]


class UndecidedError(Exception):
    """What a rule does depends on something that is not known; the text says on what."""


class Held(NamedTuple):
    """An element of a set or map; `value` is None in a set."""

    value: Value = None


#: Returns the element of a set or map by its packed key, None if it has none.
Find = Callable[[str, bytes], Held | None]


class State(NamedTuple):
    """What rules may change of a packet. Two packets of one state go one way."""

    source: bytes
    destination: bytes
    port: int
    mark: int
    priority: int = 0
    is_translated: bool = False
    is_masqueraded: bool = False


class Moment(NamedTuple):
    """A packet at a rule, and all that the rule may look at."""

    packet: Packet
    state: State
    node: NodeAddresses
    find: Find


def pack(kind: ValueKind, value: Scalar, family: Family) -> bytes:
    """Return a value as a padded field of a key."""
    if isinstance(value, str):
        return value.encode().ljust(_NAME_SIZE, b"\0")
    if kind is ValueKind.ADDRESS:
        return value.to_bytes(family.size, "big")
    if kind is ValueKind.PROTOCOL or kind is ValueKind.FAMILY:
        return schema.protocol_bytes(value)
    return schema.port_bytes(value) if kind is ValueKind.PORT else schema.number_bytes(value)


def unpack(kinds: tuple[ValueKind, ...], data: bytes, family: Family) -> list[int]:
    """Return the values of packed fields."""
    found, at = [], 0
    for kind in kinds:
        size = family.size if kind is ValueKind.ADDRESS else 4
        field = data[at : at + size]
        at += size
        if kind is ValueKind.ADDRESS:
            found.append(int.from_bytes(field, "big"))
        elif kind is ValueKind.PROTOCOL:
            found.append(field[0])
        else:
            found.append(
                schema.port_of(field, 0) if kind is ValueKind.PORT else schema.number_of(field, 0)
            )
    return found


class Expression(msgspec.Struct, frozen=True):
    """Something with a value. `kinds` has one kind, several for a concatenation."""

    kinds: tuple[ValueKind, ...]

    def values(self, at: Moment) -> Values:
        """Return the values that it may have, each once. Raises UndecidedError."""
        raise NotImplementedError

    def keys(self, at: Moment) -> tuple[bytes | None, ...]:
        """Return the values as packed keys."""
        family = at.packet.family
        return tuple(
            None if value is None else pack(self.kinds[0], value, family)
            for value in self.values(at)
        )


class Constant(Expression, frozen=True):
    """One value that the rule names."""

    value: Scalar

    def values(self, at: Moment) -> Values:
        """Return it."""
        return (self.value,)


class PacketField(Expression, frozen=True):
    """A field of the packet or its connection, by its words in nft's notation."""

    words: str
    read: Callable[[Moment], Scalar | None]

    def values(self, at: Moment) -> Values:
        """Return what the packet has."""
        return (self.read(at),)


class AnyNumber(Expression, frozen=True):
    """``numgen random mod SIZE offset FIRST``: any number of them."""

    size: int
    first: int

    def values(self, at: Moment) -> Values:
        """Return all of them."""
        if self.size > MOST_VALUES:
            raise UndecidedError(f"a draw from {self.size} numbers")
        return tuple(range(self.first, self.first + self.size))


class Hash(Expression, frozen=True):
    """``jhash PARTS mod SIZE seed SEED offset FIRST``; without a seed the kernel chose one."""

    of: Expression
    size: int
    seed: int | None
    first: int

    def values(self, at: Moment) -> Values:
        """Return the number; without a known seed, all that it may be."""
        if self.seed is None:
            return AnyNumber(self.kinds, self.size, self.first).values(at)
        if len(self.of.kinds) == 1 and self.of.kinds[0] in (ValueKind.PORT, ValueKind.PROTOCOL):
            raise UndecidedError("a hash of a field that is shorter than 4 bytes")
        return tuple(
            None if key is None else self.first + (jhash(key, self.seed) * self.size >> 32)
            for key in self.of.keys(at)
        )


class Bits(Expression, frozen=True):
    """``A & B``, ``A | B``, ``A ^ B``, with a constant B."""

    of: Expression
    operator: str
    other: int

    def values(self, at: Moment) -> Values:
        """Return the results."""
        return tuple(self._one(value) for value in self.of.values(at))

    def _one(self, value: Scalar | None) -> Scalar | None:
        if not isinstance(value, int):
            return None
        if self.operator == "&":
            return value & self.other
        return value | self.other if self.operator == "|" else value ^ self.other


class Joined(Expression, frozen=True):
    """``A . B . C``: a key of several fields."""

    parts: tuple[Expression, ...]

    def values(self, at: Moment) -> Values:
        """Raise: it has keys only."""
        raise UndecidedError("a concatenation that is no key")

    def keys(self, at: Moment) -> tuple[bytes | None, ...]:
        """Return every combination of the parts' values."""
        parts = [part.keys(at) for part in self.parts]
        count = 1
        for values in parts:
            count *= len(values)
        if count > MOST_VALUES:
            raise UndecidedError(f"{count} combinations of values")
        return tuple(
            None if None in fields else b"".join(field for field in fields if field is not None)
            for fields in itertools.product(*parts)
        )


class Mapped(Expression, frozen=True):
    """``KEY map @NAME``: the value of the element with that key. Its `kinds` are the map's."""

    key: Expression
    name: str

    def rows(self, at: Moment) -> Iterator[list[int] | None]:
        """Yield each value that it may have once, as its fields; None for "no element"."""
        seen: set[bytes | None] = set()
        for key in self.key.keys(at):
            held = None if key is None else at.find(self.name, key)
            data = held.value if held is not None and isinstance(held.value, bytes) else None
            if data not in seen:
                seen.add(data)
                yield None if data is None else unpack(self.kinds, data, at.packet.family)

    def values(self, at: Moment) -> Values:
        """Return the first field of each."""
        return tuple(None if row is None else row[0] for row in self.rows(at))


def _number(packed: bytes) -> int:
    return int.from_bytes(packed, "big")


def _interface(at: Moment) -> str:
    if at.packet.interface is None:
        raise UndecidedError("by which interface the packet comes in")
    return at.packet.interface


def _source_port(at: Moment) -> int:
    if at.packet.source_port is None:
        raise UndecidedError("the source port")
    return at.packet.source_port


def _unknown(what: str) -> Callable[[Moment], int]:
    def read(at: Moment) -> int:
        raise UndecidedError(what)

    return read


def _if_family(family: Family, read: Callable[[Moment], int]) -> Callable[[Moment], int | None]:
    return lambda at: read(at) if at.packet.family is family else None


def _if_protocol(protocol: int, read: Callable[[Moment], int]) -> Callable[[Moment], int | None]:
    return lambda at: read(at) if at.packet.protocol == protocol else None


def _status(at: Moment) -> int:
    """Return the bits IPS_SRC_NAT and IPS_DST_NAT of ``linux/nf_conntrack_common.h``."""
    return at.state.is_translated << 5 | at.state.is_masqueraded << 4


def _make_fields() -> Iterator[PacketField]:
    def field(kind: ValueKind, words: str, read: Callable[[Moment], Scalar | None]) -> PacketField:
        return PacketField((kind,), words, read)

    for family in Family:
        word = family.table
        for words, read in (
            (f"{word} saddr", lambda at: _number(at.state.source)),
            (f"{word} daddr", lambda at: _number(at.state.destination)),
            (f"ct original {word} saddr", lambda at: _number(at.packet.source)),
            (f"ct original {word} daddr", lambda at: _number(at.packet.destination)),
        ):
            yield field(ValueKind.ADDRESS, words, _if_family(family, read))
        nexthdr = "protocol" if family is Family.IPV4 else "nexthdr"
        protocol = _if_family(family, lambda at: at.packet.protocol)
        yield field(ValueKind.PROTOCOL, f"{word} {nexthdr}", protocol)
    yield field(ValueKind.PORT, "th dport", lambda at: at.state.port)
    yield field(ValueKind.PORT, "th sport", _source_port)
    for name, protocol_number in PROTOCOLS.items():
        if name in ("tcp", "udp", "sctp"):
            dport = _if_protocol(protocol_number, lambda at: at.state.port)
            yield field(ValueKind.PORT, f"{name} dport", dport)
            yield field(
                ValueKind.PORT, f"{name} sport", _if_protocol(protocol_number, _source_port)
            )
    yield field(ValueKind.PORT, "ct original proto-dst", lambda at: at.packet.port)
    yield field(ValueKind.PORT, "ct original proto-src", _source_port)
    yield field(ValueKind.PROTOCOL, "meta l4proto", lambda at: at.packet.protocol)
    yield field(ValueKind.FAMILY, "meta nfproto", lambda at: at.packet.family)
    yield field(ValueKind.NUMBER, "meta mark", lambda at: at.state.mark)
    yield field(ValueKind.PRIORITY, "meta priority", lambda at: at.state.priority)
    yield field(ValueKind.NAME, "iifname", _interface)
    yield field(ValueKind.NAME, "oifname", _unknown("by which interface the packet goes out"))
    yield field(ValueKind.STATUS, "ct status", _status)
    yield field(ValueKind.STATE, "ct state", lambda at: STATES["new"])
    yield field(ValueKind.DIRECTION, "ct direction", lambda at: DIRECTIONS["original"])
    yield field(ValueKind.NUMBER, "ct mark", lambda at: 0)
    yield field(
        ValueKind.ADDRESS_TYPE, "fib saddr type", lambda at: at.node.type_of(at.state.source)
    )
    yield field(
        ValueKind.ADDRESS_TYPE, "fib daddr type", lambda at: at.node.type_of(at.state.destination)
    )


PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1, "ipv6-icmp": 58, "udplite": 136}
STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
STATUSES = {"expected": 1, "seen-reply": 2, "assured": 4, "confirmed": 8, "snat": 16, "dnat": 32}
DIRECTIONS = {"original": 0, "reply": 1}

#: By their words in nft's notation.
FIELDS = {field.words: field for field in _make_fields()}
