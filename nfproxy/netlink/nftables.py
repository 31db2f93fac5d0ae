"""
nf_tables messages: transactions, and listings of tables, chains, sets and rules as typed rows.

Source: ``linux/netfilter/nf_tables.h`` and ``nfnetlink.h``. Elements of sets are in ``elements``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nfproxy.netlink.messages import (
    GENERIC_SIZE,
    NLM_F_ACK,
    NLM_F_REQUEST,
    attribute,
    attributes,
    family_of,
    generic,
    number,
    string,
    text,
    values,
)

SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES

# NFT_MSG_…
NEW_TABLE, GET_TABLE, DELETE_TABLE, DESTROY_TABLE = 0, 1, 2, 26
NEW_CHAIN, GET_CHAIN, DELETE_CHAIN, DESTROY_CHAIN = 3, 4, 5, 27
NEW_RULE, GET_RULE, DELETE_RULE, DESTROY_RULE = 6, 7, 8, 28
NEW_SET, GET_SET, DELETE_SET = 9, 10, 11
NEW_ELEMENTS, GET_ELEMENTS, DELETE_ELEMENTS, DESTROY_ELEMENTS = 12, 13, 14, 30
NEW_GENERATION, GET_GENERATION = 15, 16
NEW_OBJECT, GET_OBJECT, DELETE_OBJECT = 18, 19, 20
NEW_FLOWTABLE, GET_FLOWTABLE, DELETE_FLOWTABLE = 22, 23, 24

#: The table's name in nearly every kind of message: NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, …
TABLE_NAME = 1
_TABLE_FLAGS, _TABLE_USERDATA = 2, 6  # NFTA_TABLE_…
_CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE = 3, 4, 5, 7  # NFTA_CHAIN_…
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2  # NFTA_HOOK_HOOKNUM, NFTA_HOOK_PRIORITY
_HOOK_DEVICE, _HOOK_DEVICES = 3, 4  # NFTA_HOOK_DEV, NFTA_HOOK_DEVS
_RULE_CHAIN, _RULE_HANDLE, _RULE_EXPRESSIONS, _RULE_USERDATA = 2, 3, 4, 7  # NFTA_RULE_…
_SET_NAME, _SET_FLAGS, _SET_KEY_LENGTH = 2, 3, 5  # NFTA_SET_…
_SET_DATA_TYPE, _SET_DATA_LENGTH, _SET_COUNT = 6, 7, 20
_OBJECT_NAME, _OBJECT_TYPE, _OBJECT_DATA = 2, 3, 4  # NFTA_OBJ_…
_COUNTER_PACKETS = 2  # NFTA_COUNTER_PACKETS
_EXPRESSION_NAME, _EXPRESSION_DATA = 1, 2  # NFTA_EXPR_…
IMMEDIATE_DATA = 2  # NFTA_IMMEDIATE_DATA
XT_NAME, XT_INFO = 1, 3  # NFTA_MATCH_…, and NFTA_TARGET_… likewise
_COMMENT = 0  # NFTNL_UDATA_TABLE_COMMENT, …_RULE_COMMENT, …_SET_ELEM_COMMENT
_GENERATION_PID, _GENERATION_NAME = 2, 3  # NFTA_GEN_PROC_…

_DORMANT, _OWNED, _PERSISTENT = 1, 2, 4  # NFT_TABLE_F_…
_COUNTER = 1  # NFT_OBJECT_COUNTER
_ANONYMOUS = 1  # NFT_SET_ANONYMOUS
_VERDICT_TYPE = 0xFFFFFF00  # NFT_DATA_VERDICT

#: NF_INET_… numbers of hooks, in order.
HOOKS = ("prerouting", "input", "forward", "output", "postrouting")

#: nft's words for NFPROTO_… numbers.
FAMILY_WORDS = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}

_HEAD = struct.Struct("=IHHIIBB2s")  # nlmsghdr and nfgenmsg
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_BATCH_RESOURCE = SUBSYSTEM.to_bytes(2, "big")


class Request(NamedTuple):
    """One message of a transaction; `kind` is a constant of this module."""

    kind: int
    family: int
    payload: bytes
    flags: int = 0


def batch(requests: Sequence[Request], first: int) -> bytes:
    """
    Return requests as one transaction; the first is number `first`, the last asks for an ACK.

    Begin and end of the batch have the numbers before and after.
    """
    last = len(requests) - 1
    parts = [_HEAD.pack(20, _BATCH_BEGIN, NLM_F_REQUEST, first - 1, 0, 0, 0, _BATCH_RESOURCE)]
    for index, (kind, family, payload, flags) in enumerate(requests):
        parts.append(
            _HEAD.pack(
                20 + len(payload),
                SUBSYSTEM << 8 | kind,
                flags | NLM_F_REQUEST | (NLM_F_ACK if index == last else 0),
                first + index,
                0,
                family,
                0,
                b"\0\0",
            )
        )
        parts.append(payload)
    end = first + len(requests)
    parts.append(_HEAD.pack(20, _BATCH_END, NLM_F_REQUEST, end, 0, 0, 0, _BATCH_RESOURCE))
    return b"".join(parts)


def delete_table(family: int, table: str) -> Request:
    """Return the request to delete a table with everything in it."""
    return Request(DELETE_TABLE, family, string(TABLE_NAME, table))


def delete_chain(family: int, table: str, chain: str) -> Request:
    """Return the request to delete a chain that no rule leads to."""
    return Request(DELETE_CHAIN, family, string(TABLE_NAME, table) + string(_CHAIN_NAME, chain))


def chain_question(family: int, table: str, chain: str) -> bytes:
    """Return the payload that asks for one chain."""
    return generic(family) + string(TABLE_NAME, table) + string(_CHAIN_NAME, chain)


def flush_chain(family: int, table: str, chain: str) -> Request:
    """Return the request to delete all rules of a chain."""
    return Request(DELETE_RULE, family, string(TABLE_NAME, table) + string(_RULE_CHAIN, chain))


def delete_named(kind: int, family: int, table: str, name: str, type: int = 0) -> Request:
    """Return the request to delete a set, an object of a type or a flowtable; `kind` says which."""
    of_type = attribute(_OBJECT_TYPE, type.to_bytes(4, "big")) if kind == DELETE_OBJECT else b""
    return Request(kind, family, string(TABLE_NAME, table) + string(_SET_NAME, name) + of_type)


def delete_rule(family: int, table: str, chain: str, handle: int) -> Request:
    """Return the request to delete one rule."""
    flush = flush_chain(family, table, chain)
    return flush._replace(
        payload=flush.payload + attribute(_RULE_HANDLE, handle.to_bytes(8, "big"))
    )


class TableRow(NamedTuple):
    """
    A table in a listing. The kernel does not run the chains of a dormant one.

    An orphan outlived the process that owned it (flag persist). The kernel refuses every script
    that names it without this flag, but for its deletion.
    """

    family: int
    name: str
    is_dormant: bool
    comment: str = ""
    is_orphan: bool = False

    @classmethod
    def read(cls, data: bytes) -> TableRow:
        """Read a listed message, its nfgenmsg included. Raises DataplaneError."""
        found = values(data, GENERIC_SIZE)
        flags = number(found.get(_TABLE_FLAGS, b""))
        return cls(
            family_of(data),
            text(found.get(TABLE_NAME, b"")),
            bool(flags & _DORMANT),
            comment_in(found.get(_TABLE_USERDATA, b"")),
            flags & (_OWNED | _PERSISTENT) == _PERSISTENT,
        )


class Hook(NamedTuple):
    """
    Where a base chain is attached: ``nat``, the hook's number (see HOOKS), the priority.

    `devices` are the interfaces that it is for, () where it is for all.
    """

    type: str
    number: int
    priority: int
    devices: tuple[str, ...] = ()


class ChainRow(NamedTuple):
    """
    A chain in a listing.

    `hook` is None for a regular chain. So is `policy`, the code of a base chain's verdict on
    packets that reach its end: 0 drops them.
    """

    family: int
    table: str
    name: str
    hook: Hook | None
    policy: int | None

    @property
    def ip_hook(self) -> str:
        """The hook's name in the families ip, ip6 and inet; else "", as for regular chains."""
        if self.hook is None or FAMILY_WORDS.get(self.family) not in ("ip", "ip6", "inet"):
            return ""
        return HOOKS[self.hook.number] if self.hook.number < len(HOOKS) else "other"

    @classmethod
    def read(cls, data: bytes) -> ChainRow:
        """Read a listed message, its nfgenmsg included. Raises DataplaneError."""
        found = values(data, GENERIC_SIZE)
        hook = None
        if _CHAIN_HOOK in found:
            place = values(found[_CHAIN_HOOK])
            priority = place.get(_HOOK_PRIORITY, b"")
            hook = Hook(
                text(found.get(_CHAIN_TYPE, b"")),
                number(place.get(_HOOK_NUMBER, b"")),
                int.from_bytes(priority, "big", signed=True),
                _devices(place),
            )
        return cls(
            family_of(data),
            text(found.get(TABLE_NAME, b"")),
            text(found.get(_CHAIN_NAME, b"")),
            hook,
            number(found[_CHAIN_POLICY]) if _CHAIN_POLICY in found else None,
        )


def _devices(hook: dict[int, bytes]) -> tuple[str, ...]:
    listed = hook.get(_HOOK_DEVICES, b"")
    names = [listed[a:b] for _, a, b in attributes(listed, 0, len(listed))]
    return tuple(text(name) for name in (hook.get(_HOOK_DEVICE, b""), *names) if name)


class SetRow(NamedTuple):
    """
    A set or map in a listing; lengths in bytes, `data_length` 0 for a set.

    An anonymous set is part of a rule, and has a generated name. `held` is the number of elements,
    None where the kernel does not give it: before Linux 6.16.
    """

    table: str
    name: str
    flags: int
    key_length: int
    has_verdicts: bool
    data_length: int
    held: int | None = None

    @property
    def is_anonymous(self) -> bool:
        """Return whether the set is part of a rule."""
        return bool(self.flags & _ANONYMOUS)

    @classmethod
    def read(cls, data: bytes) -> SetRow:
        """Read a listed message, its nfgenmsg included. Raises DataplaneError."""
        found = values(data, GENERIC_SIZE)
        return cls(
            text(found.get(TABLE_NAME, b"")),
            text(found.get(_SET_NAME, b"")),
            number(found.get(_SET_FLAGS, b"")),
            number(found.get(_SET_KEY_LENGTH, b"")),
            number(found.get(_SET_DATA_TYPE, b"")) == _VERDICT_TYPE,
            number(found.get(_SET_DATA_LENGTH, b"")),
            number(found[_SET_COUNT]) if _SET_COUNT in found else None,
        )


class ObjectRow(NamedTuple):
    """A named object in a listing. `packets` is what a counter has counted, None for others."""

    table: str
    name: str
    type: int
    packets: int | None

    @classmethod
    def read(cls, data: bytes) -> ObjectRow:
        """Read a listed message, its nfgenmsg included. Raises DataplaneError."""
        found = values(data, GENERIC_SIZE)
        packets = None
        type = number(found.get(_OBJECT_TYPE, b""))
        if type == _COUNTER:
            packets = number(values(found.get(_OBJECT_DATA, b"")).get(_COUNTER_PACKETS, b""))
        names = text(found.get(TABLE_NAME, b"")), text(found.get(_OBJECT_NAME, b""))
        return cls(*names, type, packets)


class RuleRow(NamedTuple):
    """
    A rule in a listing.

    `expressions` are the kernel's bytes, see `expressions_of`; `userdata` is what the program that
    made the rule attached to it, such as a comment.
    """

    table: str
    chain: str
    handle: int
    expressions: bytes
    userdata: bytes

    @classmethod
    def read(cls, data: bytes) -> RuleRow:
        """Read a listed message, its nfgenmsg included. Raises DataplaneError."""
        found = values(data, GENERIC_SIZE)
        return cls(
            text(found.get(TABLE_NAME, b"")),
            text(found.get(_RULE_CHAIN, b"")),
            number(found.get(_RULE_HANDLE, b"")),
            found.get(_RULE_EXPRESSIONS, b""),
            found.get(_RULE_USERDATA, b""),
        )


def comment_in(userdata: bytes) -> str:
    """Return the comment in what a program attached to something, "" for none."""
    at = 0
    while at + 2 <= len(userdata):
        kind, size = userdata[at], userdata[at + 1]
        if kind == _COMMENT:
            return text(userdata[at + 2 : at + 2 + size])
        at += 2 + size
    return ""


def expressions_of(rule: RuleRow) -> Iterator[tuple[str, dict[int, bytes]]]:
    """Yield (name, attributes) of a rule's expressions, in order. Raises DataplaneError."""
    data = rule.expressions
    for _, start, end in attributes(data, 0, len(data)):
        found = values(data, start, end)
        name = text(found.get(_EXPRESSION_NAME, b""))
        yield name, values(found.get(_EXPRESSION_DATA, b""))


def changing_process(data: bytes, start: int, end: int) -> tuple[str, int]:
    """
    Return name and process id of who committed, from the payload of a NEW_GENERATION message.

    The name is "" if the kernel gives none. The id is of the process's own pid namespace.
    """
    found = values(data, start + GENERIC_SIZE, end)
    return text(found.get(_GENERATION_NAME, b"")), number(found.get(_GENERATION_PID, b""))


def is_about_table(table: bytes, data: bytes, start: int, end: int) -> bool:
    """Return whether the payload of a message names a table, given with its closing zero."""
    return any(
        kind == TABLE_NAME and data[a:b] == table
        for kind, a, b in attributes(data, start + GENERIC_SIZE, end)
    )


def chain_of(kind: int, data: bytes, start: int, end: int) -> str:
    """Return the chain that the payload of a deletion of chains or rules names."""
    field = _CHAIN_NAME if kind in (DELETE_CHAIN, DESTROY_CHAIN) else _RULE_CHAIN
    return text(values(data, start + GENERIC_SIZE, end).get(field, b""))


def set_in(data: bytes, start: int, end: int) -> str:
    """Return the set, object or flowtable that the payload of a message is about."""
    return text(values(data, start + GENERIC_SIZE, end).get(_SET_NAME, b""))


def is_dormant(data: bytes, start: int, end: int) -> bool:
    """Return whether the payload of a message about tables says that the table is switched off."""
    return bool(number(values(data, start + GENERIC_SIZE, end).get(_TABLE_FLAGS, b"")) & _DORMANT)


def generation(data: bytes) -> int:
    """Return the low 16 bits of the ruleset's generation, from a payload's nfgenmsg."""
    return number(data[2:GENERIC_SIZE])
