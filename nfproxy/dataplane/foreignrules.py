"""
Reads one rule of another program: whether it drops, and which of some addresses and ports it names.

It follows what rules compare: parts of headers, masked or not, with a value, a set or a map of
verdicts. Other conditions are passed over, so a rule that is read here may still not match.

Source: ``linux/netfilter/nf_tables.h``.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Collection, Sequence

import msgspec

from nfproxy.errors import DataplaneError
from nfproxy.model.addresses import Family
from nfproxy.netlink.elements import (
    VERDICT,
    key_question,
    listed_elements,
    read_verdict,
)
from nfproxy.netlink.messages import generic, number, text, values
from nfproxy.netlink.nftables import (
    GET_ELEMENTS,
    IMMEDIATE_DATA,
    SUBSYSTEM,
    RuleRow,
    expressions_of,
)
from nfproxy.netlink.sockets import NftSocket
from nfproxy.nft.schema import DROP

_TARGET, _BASE, _OFFSET, _LENGTH = 1, 2, 3, 4  # NFTA_PAYLOAD_…
_NETWORK, _TRANSPORT = 1, 2  # NFT_PAYLOAD_…_HEADER
_MASK_TARGET, _MASK, _XOR = 2, 4, 5  # NFTA_BITWISE_…
_SOURCE, _OPERATOR, _VALUE = 1, 2, 3  # NFTA_CMP_…; the first is that of bitwise and lookup, too
_SET, _SET_SOURCE, _SET_TARGET, _SET_FLAGS = 1, 2, 3, 5  # NFTA_LOOKUP_…
_IS_INVERTED = 1  # NFT_LOOKUP_F_INV
_INSIDE = 1  # NFTA_DATA_VALUE
_COUNTED_PACKETS = 2  # NFTA_COUNTER_PACKETS
_NAME = 1  # NFTA_TARGET_NAME

#: Where source and destination are, in a header of IPv4 and of IPv6.
_ADDRESSES_AT = {
    Family.IPV4.size: (12, 16),
    Family.IPV6.size: (8, 24),
}
_PORTS_AT = (0, 2)

#: The most keys for which one set is asked.
_MOST_KEYS = 4_096


class RuleMeaning(msgspec.Struct):
    """
    What a rule does with packets of some addresses and ports.

    `addresses` are those that it names, and `port` one that it names, 0 for none. `packets` is what
    its counter says, None without one.
    """

    does_drop: bool = False
    addresses: frozenset[bytes] = frozenset()
    port: int = 0
    packets: int | None = None


class _Field(msgspec.Struct, frozen=True):
    """What a register holds: `length` bytes of an address or a port of `size` bytes, masked."""

    is_address: bool
    is_source: bool
    size: int
    length: int
    mask: int


#: The fields of a condition, and the combinations of their values with which it lets packets pass.
_Matching = tuple[tuple[_Field, ...], list[tuple[bytes, ...]]]


class RuleReader:
    """Reads rules of one table. The addresses are packed."""

    def __init__(
        self,
        netlink: NftSocket,
        family: int,
        table: str,
        addresses: Collection[bytes],
        ports: Collection[int],
    ) -> None:
        self._netlink = netlink
        self._family, self._table = family, table
        self._addresses = sorted(addresses)
        self._ports = sorted(port.to_bytes(2, "big") for port in ports)

    def read(self, rule: RuleRow) -> RuleMeaning:
        """Return what a rule means; one that is for other addresses or ports does nothing."""
        found = RuleMeaning()
        held: dict[int, _Field] = {}
        for name, data in expressions_of(rule):
            if name == "payload":
                _load(held, data)
            elif name == "bitwise":
                _mask(held, data)
            elif name in ("cmp", "lookup"):
                matching = self._compare(held, data) if name == "cmp" else None
                if name == "lookup":
                    matching = self._look_up(held, data, found)
                if matching is not None and not _narrow(found, matching):
                    return RuleMeaning()
            elif name == "counter":
                found.packets = number(data.get(_COUNTED_PACKETS, b""))
            elif name in ("immediate", "reject", "target"):
                found.does_drop |= _drops(name, data)
            else:  # it may load something else
                held.pop(_place(number(data.get(_TARGET, b""))), None)
        return found

    def _candidates(self, field: _Field) -> list[bytes]:
        """Return what a field may hold of a packet of ours, as the register has it."""
        if field.is_address:
            return [one for one in self._addresses if len(one) == field.size]
        return self._ports

    def _compare(self, held: dict[int, _Field], data: dict[int, bytes]) -> _Matching | None:
        """Return what a comparison lets pass, None where it says nothing of addresses or ports."""
        field = held.get(_place(number(data.get(_SOURCE, b""))))
        if field is None or number(data.get(_OPERATOR, b"")):
            return None
        candidates = self._candidates(field)
        if not candidates and not field.is_address:
            return None
        wanted = values(data.get(_VALUE, b"")).get(_INSIDE, b"")[: field.length]
        return (field,), [(one,) for one in candidates if _masked(one, field) == wanted]

    def _look_up(
        self, held: dict[int, _Field], data: dict[int, bytes], found: RuleMeaning
    ) -> _Matching | None:
        """Return what a set lets pass; a map that drops some of it drops it."""
        at = _place(number(data.get(_SET_SOURCE, b"")))
        fields: list[_Field] = []
        while at in held:  # a key of several fields is in registers that follow each other
            fields.append(held[at])
            at += -(-held[at].length // 4) * 4
        if number(data.get(_SET_FLAGS, b"")) & _IS_INVERTED:
            return None
        is_map = _SET_TARGET in data
        for count in range(len(fields), 0, -1):
            held_by_set = self._in_set(text(data.get(_SET, b"")), fields[:count], drops=is_map)
            if held_by_set is not None:
                if is_map and not held_by_set:
                    return None
                found.does_drop |= is_map
                return tuple(fields[:count]), held_by_set
        return None

    def _in_set(
        self, name: str, fields: Sequence[_Field], *, drops: bool
    ) -> list[tuple[bytes, ...]] | None:
        """Return the candidates that a set holds, None where its keys have other fields."""
        each = [self._candidates(field) for field in fields]
        keys = list(itertools.islice(itertools.product(*each), _MOST_KEYS))
        questions = [
            generic(self._family) + key_question(self._table, name, _key(key, fields))
            for key in keys
        ]
        try:
            what = f"elements of {name}"
            answers = self._netlink.ask_each(SUBSYSTEM << 8 | GET_ELEMENTS, questions, what)
        except DataplaneError:  # the set has gone meanwhile
            return None
        if not answers or errno.EINVAL in answers:
            return None
        return [
            key
            for key, answer in zip(keys, answers, strict=True)
            if isinstance(answer, bytes)
            and any(not drops or one.value == DROP for one in listed_elements(answer))
        ]


def _narrow(found: RuleMeaning, matching: _Matching) -> bool:
    """Narrow what a rule names to what a condition lets pass; return whether anything is left."""
    fields, passing = matching
    for index, field in enumerate(fields):
        values_here = {one[index] for one in passing}
        if not values_here and field.is_address and field.is_source:
            continue  # a rule for some clients
        if not values_here:
            return False
        if not field.is_address:
            found.port = int.from_bytes(min(values_here), "big")
        elif found.addresses and not found.addresses & values_here:
            # Source and destination: an endpoint that asks itself, or a rule for some clients.
            return False
        else:
            found.addresses = frozenset(values_here)
    return True


def _key(key: Sequence[bytes], fields: Sequence[_Field]) -> bytes:
    """Return the key of an element; each of several fields is padded."""
    parts = [_masked(one, field) for one, field in zip(key, fields, strict=True)]
    if len(parts) == 1:
        return parts[0]
    return b"".join(part + b"\0" * (-len(part) % 4) for part in parts)


def _place(register: int) -> int:
    """Return the byte at which a register begins: there are two ways to number them."""
    return (register - 1) * 16 if register < 8 else (register - 8) * 4


def _load(held: dict[int, _Field], data: dict[int, bytes]) -> None:
    """Note what an expression loads from a header."""
    at = _place(number(data.get(_TARGET, b"")))
    held.pop(at, None)
    base, offset, length = (number(data.get(one, b"")) for one in (_BASE, _OFFSET, _LENGTH))
    whole = (1 << 8 * length) - 1
    if base == _TRANSPORT and offset in _PORTS_AT and length == 2:
        held[at] = _Field(False, offset == _PORTS_AT[0], length, length, whole)
    elif base == _NETWORK:
        for size, starts in _ADDRESSES_AT.items():
            if offset in starts and size >= length > size // 16:  # shorter is no prefix: the TTL
                held[at] = _Field(True, offset == starts[0], size, length, whole)


def _mask(held: dict[int, _Field], data: dict[int, bytes]) -> None:
    field = held.pop(_place(number(data.get(_SOURCE, b""))), None)
    mask = values(data.get(_MASK, b"")).get(_INSIDE, b"")
    xor = values(data.get(_XOR, b"")).get(_INSIDE, b"")
    if field is not None and len(mask) >= field.length and not any(xor):
        at = _place(number(data.get(_MASK_TARGET, b"")))
        bits = int.from_bytes(mask[: field.length], "big")
        held[at] = msgspec.structs.replace(field, mask=bits)


def _masked(one: bytes, field: _Field) -> bytes:
    bits = int.from_bytes(one[: field.length], "big") & field.mask
    return bits.to_bytes(field.length, "big")


def _drops(name: str, data: dict[int, bytes]) -> bool:
    if name == "immediate":
        held = values(data.get(IMMEDIATE_DATA, b"")).get(VERDICT)
        return held is not None and read_verdict(held) == DROP
    return name == "reject" or (name == "target" and text(data.get(_NAME, b"")) == "REJECT")
