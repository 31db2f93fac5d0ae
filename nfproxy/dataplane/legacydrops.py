"""
What iptables-legacy drops of forwarded packets, read from the kernel without its programs.

Only the chain FORWARD of table ``filter``: its policy, and rules that name one of some addresses. A
table that does not exist is not asked for, as the kernel would make it.

Source: ``linux/netfilter_ipv4/ip_tables.h``, ``linux/netfilter_ipv6/ip6_tables.h``.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from nfproxy.insight.nodefacts import ForeignDrop
from nfproxy.model.addresses import Family, family_of

_TABLE = "filter"
_CHAIN = "FORWARD"
_HOOK = 2  # NF_INET_FORWARD
_INFO, _ENTRIES = 64, 65  # IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES; the same for IPv6
_INFO_FORM = struct.Struct("=32sI5I5III")  # name, hooks, their entries, policies, rules, bytes
_HEAD_SIZE = 40  # of struct ipt_get_entries, before the rules
_MOST_BYTES = 4 << 20
_DROP = -1  # the verdict NF_DROP, in a standard target
_NOT_SOURCE, _NOT_DESTINATION = 0x08, 0x10  # IPT_INV_…


class _RuleForm(NamedTuple):
    """Where things are in one rule of a family's table."""

    tables: str
    level: int
    kind: socket.AddressFamily
    table: str
    offsets: int  # of target_offset and next_offset
    counters: int
    inverted: int


_LAYOUTS = {
    Family.IPV4: _RuleForm("net/ip_tables_names", socket.SOL_IP, socket.AF_INET, "ip", 88, 96, 83),
    Family.IPV6: _RuleForm(
        "net/ip6_tables_names", socket.IPPROTO_IPV6, socket.AF_INET6, "ip6", 140, 152, 132
    ),
}


def read_legacy_drops(
    addresses: Collection[bytes], proc: Path = Path("/proc")
) -> tuple[ForeignDrop, ...]:
    """Return what may drop packets of some addresses; nothing where that cannot be read."""
    found: list[ForeignDrop] = []
    for family in {family_of(address) for address in addresses}:
        layout = _LAYOUTS[family]
        try:
            if _TABLE not in (proc / layout.tables).read_text("ascii").split():
                continue
            rules, places = _read_table(layout, _TABLE)
            first, last = places[_HOOK], places[5 + _HOOK]
            found += read_forward_chain(rules, first, last, family, addresses)
        except (OSError, ValueError, struct.error):  # no such table, or it changes just now
            continue
    return tuple(found)


def has_legacy_chain(table: str, chain: str, proc: Path = Path("/proc")) -> bool:
    """Return whether a table of iptables-legacy has a chain; False where that cannot be read."""
    for layout in _LAYOUTS.values():
        try:
            if table not in (proc / layout.tables).read_text("ascii").split():
                continue
            if chain.encode() + b"\0" in _read_table(layout, table)[0]:
                return True
        except (OSError, ValueError):
            continue
    return False


def _read_table(layout: _RuleForm, table: str) -> tuple[bytes, tuple[int, ...]]:
    """Return the rules of a table, and where chains begin and their policies are, by hook."""
    name = table.encode()
    with socket.socket(layout.kind, socket.SOCK_DGRAM) as asked:
        info = _ask(asked, layout.level, _INFO, name.ljust(_INFO_FORM.size, b"\0"))
        numbers = _INFO_FORM.unpack(info)[1:]
        size = numbers[12]
        if size > _MOST_BYTES:
            raise ValueError("too many rules")
        question = struct.pack("=32sI4x", name, size) + bytes(size)
        rules = _ask(asked, layout.level, _ENTRIES, question)[_HEAD_SIZE:]
    return rules, numbers[1:11]


def _ask(asked: socket.socket, level: int, option: int, question: bytes) -> bytes:
    """Return what the kernel writes over a question; Python's getsockopt passes none."""
    buffer = ctypes.create_string_buffer(question, len(question))
    length = ctypes.c_uint32(len(question))
    library = ctypes.CDLL(None, use_errno=True)
    if library.getsockopt(asked.fileno(), level, option, buffer, ctypes.byref(length)):
        raise OSError(ctypes.get_errno(), "getsockopt")
    return buffer.raw[: length.value]


def read_forward_chain(
    rules: bytes, first: int, last: int, family: Family, addresses: Collection[bytes]
) -> Iterator[ForeignDrop]:
    """Yield the drops of a chain, of which `last` is the policy."""
    layout, at = _LAYOUTS[family], first
    while first <= at <= last:
        target, size = struct.unpack_from("=HH", rules, at + layout.offsets)
        (packets,) = struct.unpack_from("=Q", rules, at + layout.counters)
        name = rules[at + target + 2 : at + target + 31].split(b"\0")[0]
        (verdict,) = struct.unpack_from("=i", rules, at + target + 32)
        does_drop = verdict == _DROP if not name else name == b"REJECT"
        place = f"{layout.table} {_TABLE} (iptables-legacy)"
        if at == last:
            if does_drop:
                yield ForeignDrop(place, _CHAIN, packets=packets, drops_all=first == last)
            return
        for address in sorted(addresses) if does_drop else ():
            if len(address) == family.size and _names(rules, at, address):
                yield ForeignDrop(place, _CHAIN, address, packets=packets)
        if not size:
            return
        at += size


def _names(rules: bytes, at: int, address: bytes) -> bool:
    """Return whether a rule has a source or a destination that holds an address."""
    size = len(address)
    fields = [rules[at + size * n : at + size * (n + 1)] for n in range(4)]
    inverted = rules[at + _LAYOUTS[family_of(address)].inverted]
    for value, mask, flag in (
        (fields[0], fields[2], _NOT_SOURCE),
        (fields[1], fields[3], _NOT_DESTINATION),
    ):
        masked = bytes(a & b for a, b in zip(address, mask, strict=True))
        if any(mask) and masked == value and not inverted & flag:
            return True
    return False
