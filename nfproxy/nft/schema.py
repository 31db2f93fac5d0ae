"""
The sets and maps of an nfproxy table, and the layout of their keys and values.

Keys and values are bytes exactly as nf_tables holds them: each field is padded to a multiple of
4 bytes, addresses and ports are in network order, numbers (slots, affinity lists) in host order.
A verdict map's values are instances of Verdict. ``rulesets/table.nft.j2`` declares the sets and
maps; a test compares it with this module.
"""

from __future__ import annotations

import enum
import functools
import struct
from collections.abc import Iterator, Sequence

import msgspec

from nfproxy.model.addresses import Family, Prefix, format_address
from nfproxy.model.service import Protocol

TABLE = "nfproxy"

#: A table of ours that is in force for a moment while tables change their layout.
NEXT_TABLE = "nfproxy-next"
OUR_TABLES = (TABLE, NEXT_TABLE)

#: The name of kube-proxy's tables in nftables mode.
KUBE_PROXY_TABLE = "kube-proxy"

#: A frontend with externalTrafficPolicy Local has its local endpoints in slots from 0. Those for
#: pods and the node itself are in slots from here.
CLUSTER_BASE = 32768

#: The most clients in a map ``clients-…``: what the kernel allows where none is declared.
MOST_CLIENTS = 65_535

#: A hash of an address, to recognise a pod that reached itself, is less than this.
HASHES = 16

_JUMP = -3
_VERDICT_WORDS = {-5: "return", -4: "goto", _JUMP: "jump", 0: "drop", 1: "accept"}


class Verdict(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """
    What the kernel does with a packet: the value of an element of a verdict map.

    `code` is the kernel's number (NFT_GOTO, NFT_JUMP, NF_DROP …), `chain` the chain it leads to,
    "" where it leads to none. Thousands of elements share one verdict: make them with `goto`,
    `jump` and `verdict`, which return the same instance for the same arguments.
    """

    code: int
    chain: str = ""

    @property
    def is_jump(self) -> bool:
        """Whether the packet comes back from the chain."""
        return self.code == _JUMP

    def __str__(self) -> str:
        """Return the verdict in nft's notation: ``goto CHAIN``, ``drop``."""
        word = _VERDICT_WORDS.get(self.code, f"verdict {self.code}")
        return f"{word} {self.chain}" if self.chain else word


@functools.lru_cache(maxsize=4096)
def verdict(code: int, chain: str = "") -> Verdict:
    """Return the verdict with a code of the kernel's."""
    return Verdict(code, chain)


def goto(chain: str) -> Verdict:
    """Return the verdict that leads to a chain for good."""
    return verdict(-4, chain)


def jump(chain: str) -> Verdict:
    """Return the verdict that leads to a chain and, at its end, back."""
    return verdict(_JUMP, chain)


DROP = verdict(0)

#: What an element maps its key to: packed bytes or a verdict; None in a set.
Value = bytes | Verdict | None


class Field(enum.Enum):
    """One field of a key or of a value."""

    ADDRESS = "address"
    PROTOCOL = "protocol"
    PORT = "port"
    NUMBER = "number"
    PRIORITY = "priority"  # a number as a packet's priority has it


class Interval(enum.Enum):
    """How a set holds ranges."""

    NO = "no"
    ENDS = "ends"  # two elements: the first address, and the one after the last (rbtree)


class SetSchema(msgspec.Struct, frozen=True):
    """A set or map: `value` is None for a set, () for a verdict map, else its data's fields."""

    name: str
    key: tuple[Field, ...]
    value: tuple[Field, ...] | None = None
    interval: Interval = Interval.NO

    @property
    def verdicts(self) -> bool:
        """Whether the values are verdicts."""
        return self.value == ()


_ENDPOINT = (Field.ADDRESS, Field.PORT)
_ADDRESS_FRONTEND = (Field.ADDRESS, Field.PROTOCOL, Field.PORT)
_NODE_PORT = (Field.PROTOCOL, Field.PORT)
_ID = (Field.NUMBER, Field.NUMBER)  # halves of a 64-bit number

FRONTENDS = "frontends"
NODE_PORTS = "node-ports"
NODE_PORT_ADDRESSES = "node-port-addresses"
CLUSTER_IPS = "cluster-ips"
SERVICE_CIDRS = "service-cidrs"
SOURCE_RANGES = "source-ranges"
GUARDED_FRONTENDS = "guarded-frontends"
LOOPBACK_REJECTS = "loopback-rejects"
EQUAL_HASHES = "equal-hashes"
STICKY_FRONTENDS = "sticky-frontends"
STICKY_NODE_PORTS = "sticky-node-ports"
AFFINITY_LOCAL = "affinity-local"

ENDPOINTS = {p: f"endpoints-{p.word}" for p in Protocol}
NODE_PORT_ENDPOINTS = {p: f"node-port-endpoints-{p.word}" for p in Protocol}
#: By protocol, a map for each first digit of a list's number, see `map_of`. Each list has chains
#: that look into its map, and the kernel goes through the rules of all of them for each element
#: that comes. A map for each list would cost more: the kernel looks for a name in a list of all.
LIST_ENDPOINTS = {
    p: tuple(f"list-endpoints-{p.word}-{digit:x}" for digit in range(16)) for p in Protocol
}
AFFINITY_ENDPOINTS = {
    p: tuple(f"affinity-endpoints-{p.word}-{digit:x}" for digit in range(16)) for p in Protocol
}
RECORD_FRONTENDS = {p: f"record-frontends-{p.word}" for p in Protocol}
RECORD_NODE_PORTS = {p: f"record-node-ports-{p.word}" for p in Protocol}


def _schemas() -> Iterator[SetSchema]:
    yield SetSchema(FRONTENDS, _ADDRESS_FRONTEND, ())
    yield SetSchema(NODE_PORTS, _NODE_PORT, ())
    yield SetSchema(NODE_PORT_ADDRESSES, (Field.ADDRESS,), interval=Interval.ENDS)
    yield SetSchema(LOOPBACK_REJECTS, _NODE_PORT)
    yield SetSchema(CLUSTER_IPS, (Field.ADDRESS,))
    yield SetSchema(SERVICE_CIDRS, (Field.ADDRESS,), interval=Interval.ENDS)
    yield SetSchema(SOURCE_RANGES, (Field.ADDRESS, *_ID, Field.NUMBER))
    yield SetSchema(GUARDED_FRONTENDS, _ADDRESS_FRONTEND, ())
    for protocol in Protocol:
        yield SetSchema(ENDPOINTS[protocol], (*_ENDPOINT, Field.NUMBER), _ENDPOINT)
        yield SetSchema(NODE_PORT_ENDPOINTS[protocol], (Field.PORT, Field.NUMBER), _ENDPOINT)
        for name in LIST_ENDPOINTS[protocol]:
            yield SetSchema(name, (*_ID, Field.NUMBER), _ENDPOINT)
        for name in AFFINITY_ENDPOINTS[protocol]:
            yield SetSchema(name, (*_ID, Field.PRIORITY), _ENDPOINT)
        yield SetSchema(RECORD_FRONTENDS[protocol], _ADDRESS_FRONTEND, ())
        yield SetSchema(RECORD_NODE_PORTS[protocol], _NODE_PORT, ())
    yield SetSchema(EQUAL_HASHES, (Field.NUMBER, Field.NUMBER))
    yield SetSchema(STICKY_FRONTENDS, _ADDRESS_FRONTEND, ())
    yield SetSchema(STICKY_NODE_PORTS, _NODE_PORT, ())
    yield SetSchema(AFFINITY_LOCAL, (*_ID, Field.NUMBER))


#: Every set and map whose elements nfproxy writes, by name, in the order of the template. The
#: kernel writes those of the maps ``clients-…``, which belong to the chains of a service port.
SCHEMAS = {schema.name: schema for schema in _schemas()}

#: Maps with the next verdict on what comes back from a jump, in the order of the look-ups: from a
#: guard, from a find chain. The last verdict is the balancing one.
BEHIND = (GUARDED_FRONTENDS, STICKY_FRONTENDS, STICKY_NODE_PORTS)

#: Maps whose elements count connections.
COUNTED = (FRONTENDS, NODE_PORTS)

#: The named counter of what is rejected on loopback addresses, with kube-proxy's name for it.
REJECTED_COUNTERS = {p: f"localhost-nodeport-rejected-{p.word}" for p in Protocol}

#: The named counter of connections whose clients are not remembered, as a map is full.
AFFINITY_FULL = "affinity-full"

#: The named counters of connections that get no endpoint, by reason.
REFUSED_COUNTERS = {
    reason: f"refused-{reason.replace('_', '-')}"
    for reason in (
        "no_endpoints",
        "no_local",
        "source_range",
        "unknown_port",
        "unallocated",
        "empty_slot",
    )
}

#: All named counters.
NAMED_COUNTERS = (*REJECTED_COUNTERS.values(), AFFINITY_FULL, *REFUSED_COUNTERS.values())


def schema_of(name: str) -> SetSchema:
    """Return the schema of a set or map of nfproxy's, those of remembered clients included."""
    found = SCHEMAS.get(name)
    return found or SetSchema(name, (Field.ADDRESS,), (Field.PRIORITY,))


_PORT = struct.Struct("!H2x")
_NUMBER = struct.Struct("=I")


def port_bytes(port: int) -> bytes:
    """Return a port as a padded field."""
    return _PORT.pack(port)


def port_of(data: bytes, at: int) -> int:
    """Return the port in the padded field at an offset."""
    port: int = _PORT.unpack_from(data, at)[0]
    return port


def protocol_bytes(protocol: int) -> bytes:
    """Return an IP protocol number as a padded field."""
    return bytes((protocol, 0, 0, 0))


def number_bytes(number: int) -> bytes:
    """Return a slot or other 32-bit number as a field."""
    return _NUMBER.pack(number)


def halves(number: int) -> tuple[int, int]:
    """Return a 64-bit number in two parts, as nft has no larger numbers than 32 bits."""
    return number >> 32, number & 0xFFFFFFFF


def number64_bytes(number: int) -> bytes:
    """Return a 64-bit number as two fields."""
    high, low = halves(number)
    return number_bytes(high) + number_bytes(low)


def map_of(names: Sequence[str], number: bytes) -> str:
    """Return that map of sixteen which has the list with a packed number: by its first digit."""
    return names[number_of(number, 0) >> 28]


def number_of(data: bytes, at: int) -> int:
    """Return the number in the field at an offset."""
    number: int = _NUMBER.unpack_from(data, at)[0]
    return number


def prefix_key(prefix: Prefix) -> bytes:
    """Return the key of a prefix in an interval set: the first and the last address, joined."""
    return prefix.network + prefix.last


def source_range_key(prefix: Prefix, guard: bytes) -> bytes:
    """Return the key of a guard's source range; `guard` is the guard's number, packed."""
    return prefix.network + guard + number_bytes(prefix.length)


def length(fields: tuple[Field, ...], family: Family) -> int:
    """Return the packed length of fields in bytes."""
    return sum(_size(field, family) for field in fields)


def _size(field: Field, family: Family) -> int:
    return family.size if field is Field.ADDRESS else 4


def format_fields(fields: tuple[Field, ...], data: bytes, family: Family) -> str:
    """Return a packed key or value in nft's notation: ``10.96.0.1 . tcp . 80``."""
    parts, at = [], 0
    for field in fields:
        size = _size(field, family)
        parts.append(_format_field(field, data[at : at + size]))
        at += size
    return " . ".join(parts)


def _format_field(field: Field, data: bytes) -> str:
    if field is Field.ADDRESS:
        return format_address(data)
    if field is Field.PROTOCOL:
        return _protocol_word(data[0])
    if field is Field.PORT:
        return str(port_of(data, 0))
    number = number_of(data, 0)
    return f"{number >> 16:x}:{number & 0xFFFF:x}" if field is Field.PRIORITY else str(number)


def _protocol_word(number: int) -> str:
    try:
        return Protocol(number).word
    except ValueError:
        return str(number)


def format_element(
    schema: SetSchema, key: bytes, value: Value, family: Family, comment: str = ""
) -> str:
    """Return an element as nft writes it: ``key``, ``key : value``, ``key comment "…" : value``."""
    if schema.interval is Interval.NO:
        text = format_fields(schema.key, key, family)
    else:
        half = len(key) // 2
        text = format_span(key[:half], key[half:])
    if comment:
        text = f'{text} comment "{comment}"'
    if value is None:
        return text
    if isinstance(value, Verdict):
        return f"{text} : {value}"
    return f"{text} : {format_fields(schema.value or (), value, family)}"


def format_span(first: bytes, last: bytes) -> str:
    """Return an address range as a prefix where it is one, else as ``first-last``."""
    bits = len(first) * 8
    low, high = int.from_bytes(first, "big"), int.from_bytes(last, "big")
    size = high - low + 1
    if size == 1:
        return format_address(first)
    if size > 0 and size & (size - 1) == 0 and low % size == 0:
        return f"{format_address(first)}/{bits - size.bit_length() + 1}"
    return f"{format_address(first)}-{format_address(last)}"
