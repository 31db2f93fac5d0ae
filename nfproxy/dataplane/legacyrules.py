"""
The chains of iptables-legacy, read from the kernel without its programs.

A table that does not exist is not asked for, as the kernel would make it.

Source: ``linux/netfilter_ipv4/ip_tables.h``, ``linux/netfilter_ipv6/ip6_tables.h``.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from nfproxy.dataplane.foreignwalk import ForeignChains, Meeting, ReadRule
from nfproxy.dataplane.samplepackets import Octets, SamplePacket, interface_name
from nfproxy.dataplane.xtparts import Condition, all_of, match_of, names_address, target_of
from nfproxy.insight.nodefacts import Certainty, RuleEffect
from nfproxy.model.addresses import Family
from nfproxy.netlink.nftables import HOOKS
from nfproxy.nft.schema import DROP, Verdict, goto, jump, verdict

_INFO, _ENTRIES = 64, 65  # IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES; the same for IPv6
_INFO_FORM = struct.Struct("=32sI5I5III")  # name, hooks, their entries, policies, rules, bytes
_HEAD_SIZE = 40  # of struct ipt_get_entries, before the rules
_PART_HEAD = 32  # of a match or a target: its size, name and revision
_MOST_BYTES = 4 << 20
_INTERFACE_SIZE = 16  # IFNAMSIZ
_NOT_IN, _NOT_OUT, _NOT_SOURCE, _NOT_DESTINATION, _NOT_PROTOCOL = 1, 2, 8, 16, 64  # IPT_INV_…

#: The priority of each table's chains; nat has another for sources.
_PRIORITIES = {"raw": -300, "mangle": -150, "nat": -100, "filter": 0}
_SOURCE_NAT, _SOURCE_HOOKS = 100, ("input", "postrouting")


class _RuleForm(NamedTuple):
    """Where things are in one rule of a family's table."""

    tables: str
    level: int
    kind: socket.AddressFamily
    protocol: int
    flags: int
    inverted: int
    offsets: int  # of target_offset and next_offset
    counters: int
    is_goto: int
    is_fragment: int


_LAYOUTS = {
    Family.IPV4: _RuleForm(
        "net/ip_tables_names", socket.SOL_IP, socket.AF_INET, 80, 82, 83, 88, 96, 2, 1
    ),
    Family.IPV6: _RuleForm(
        "net/ip6_tables_names", socket.IPPROTO_IPV6, socket.AF_INET6, 128, 131, 132, 140, 152, 4, 0
    ),
}


class BaseChain(NamedTuple):
    """A chain of a hook; `drops_rest` is its policy."""

    family: Family
    name: str
    hook: str
    priority: int
    drops_rest: bool


class LegacyTable(NamedTuple):
    """A table's chains by name; `table` is its name."""

    table: str
    chains: ForeignChains


def legacy_chains(
    families: Collection[int], proc: Path = Path("/proc")
) -> Iterator[tuple[LegacyTable, BaseChain]]:
    """Yield the chains of hooks that some families have; nothing where that cannot be read."""
    for family, layout in _LAYOUTS.items():
        if family not in families:
            continue
        for table in _PRIORITIES:
            try:
                if table in _names(layout, proc):
                    rules, numbers = _read_table(layout, table)
                    yield from chains_of(table, rules, numbers, family)
            except (OSError, ValueError, struct.error):  # no such table, or it changes just now
                continue


def has_legacy_chain(table: str, chain: str, proc: Path = Path("/proc")) -> bool:
    """Return whether a table of iptables-legacy has a chain; False where that cannot be read."""
    for layout in _LAYOUTS.values():
        try:
            if table not in _names(layout, proc):
                continue
            if chain.encode() + b"\0" in _read_table(layout, table)[0]:
                return True
        except (OSError, ValueError):
            continue
    return False


def _names(layout: _RuleForm, proc: Path) -> list[str]:
    return (proc / layout.tables).read_text("ascii").split()


def _read_table(layout: _RuleForm, table: str) -> tuple[bytes, tuple[int, ...]]:
    """Return the rules of a table; then bits of its hooks, where each begins, and its policy."""
    name = table.encode()
    with socket.socket(layout.kind, socket.SOCK_DGRAM) as asked:
        info = _ask(asked, layout.level, _INFO, name.ljust(_INFO_FORM.size, b"\0"))
        numbers = _INFO_FORM.unpack(info)[1:]
        size = numbers[12]
        if size > _MOST_BYTES:
            raise ValueError("too many rules")
        question = struct.pack("=32sI4x", name, size) + bytes(size)
        rules = _ask(asked, layout.level, _ENTRIES, question)[_HEAD_SIZE:]
    return rules, numbers[:11]


def _ask(asked: socket.socket, level: int, option: int, question: bytes) -> bytes:
    """Return what the kernel writes over a question; Python's getsockopt passes none."""
    buffer = ctypes.create_string_buffer(question, len(question))
    length = ctypes.c_uint32(len(question))
    library = ctypes.CDLL(None, use_errno=True)
    if library.getsockopt(asked.fileno(), level, option, buffer, ctypes.byref(length)):
        raise OSError(ctypes.get_errno(), "getsockopt")
    return buffer.raw[: length.value]


def chains_of(
    table: str, rules: bytes, numbers: tuple[int, ...], family: Family
) -> Iterator[tuple[LegacyTable, BaseChain]]:
    """
    Yield the chains of hooks in the bytes of a table.

    `numbers` are the hooks' bits, where their chains begin, and where their policies are.
    """
    hooks, starts, policies = numbers[0], numbers[1:6], numbers[6:11]
    names = {starts[n]: name.upper() for n, name in enumerate(HOOKS) if hooks >> n & 1}
    ends = {policies[n] for n in range(len(HOOKS)) if hooks >> n & 1}
    found = _by_chain(rules, family, names, ends)
    read = LegacyTable(table, ForeignChains(lambda name: found.get(name, ())))
    for number, hook in enumerate(HOOKS):
        if hooks >> number & 1:
            is_source = table == "nat" and hook in _SOURCE_HOOKS
            priority = _SOURCE_NAT if is_source else _PRIORITIES[table]
            policy = _target(rules, policies[number], family)[2]
            yield read, BaseChain(family, hook.upper(), hook, priority, policy == DROP)


def _by_chain(
    rules: bytes, family: Family, names: dict[int, str], ends: set[int]
) -> dict[str, list[ReadRule]]:
    """
    Return rules by chain; `names` are those of chains by where they begin, `ends` the policies.

    A rule with target ERROR comes before each chain of an operator, and has its name.
    """
    layout, at = _LAYOUTS[family], 0
    places: list[int] = []
    while at + layout.counters < len(rules):
        (size,) = struct.unpack_from("=H", rules, at + layout.offsets + 2)
        if not size:
            break
        name, info, _ = _target(rules, at, family)
        if name == "ERROR":
            names[at + size] = info.split(b"\0")[0].decode("ascii", "replace")
        elif at not in ends:
            places.append(at)
        at += size
    found: dict[str, list[ReadRule]] = {}
    chain = ""
    for at in places:
        chain = names.get(at, chain)
        found.setdefault(chain, []).append(_rule(rules, at, chain, family, names))
    return found


def _target(rules: bytes, at: int, family: Family) -> tuple[str, bytes, Verdict | int | None]:
    """Return name and data of a rule's target; of a standard one also its verdict, or where to."""
    layout = _LAYOUTS[family]
    offset, size = struct.unpack_from("=HH", rules, at + layout.offsets)
    target = at + offset
    name = rules[target + 2 : target + 31].split(b"\0")[0].decode("ascii", "replace")
    info = rules[target + _PART_HEAD : at + size]
    if name:
        return name, info, None
    (number,) = struct.unpack_from("=i", info)
    return name, info, number if number >= 0 else verdict(number if number == -5 else -number - 1)


def _rule(rules: bytes, at: int, chain: str, family: Family, names: dict[int, str]) -> ReadRule:
    layout = _LAYOUTS[family]
    conditions = [(_head(rules, at, family), False), *_matches(rules, at, family)]
    name, info, where = _target(rules, at, family)
    effect: RuleEffect | None = None
    end: Verdict | None = None
    if name:
        effect, end = target_of(name, info) or (None, None)
    elif isinstance(where, int):
        is_goto = rules[at + layout.flags] & layout.is_goto
        if where in names:
            end = goto(names[where]) if is_goto else jump(names[where])
    elif where is not None:
        effect, end = (RuleEffect.DROP if where == DROP else None), where
    (packets,) = struct.unpack_from("=Q", rules, at + layout.counters)

    def meet(packet: SamplePacket, is_tracked: bool) -> Meeting:
        certainty, is_named = Certainty.SURE, _is_named(rules, at, packet)
        for condition, is_naming in conditions:
            holds = condition(packet, is_tracked)
            if holds is None:
                return Meeting(None)
            certainty = min(certainty, holds)
            is_named |= is_naming and holds is Certainty.SURE
        return Meeting(certainty, effect, end, is_named)

    return ReadRule(chain, meet, packets=packets)


def _head(rules: bytes, at: int, family: Family) -> Condition:
    """Return the condition that a rule has by itself: addresses, interfaces, protocol."""
    layout, size = _LAYOUTS[family], family.size
    source, destination, source_mask, destination_mask = (
        rules[at + size * n : at + size * (n + 1)] for n in range(4)
    )
    names = at + 4 * size
    came_by, leaves_by, came_mask, leaves_mask = (
        rules[names + _INTERFACE_SIZE * n : names + _INTERFACE_SIZE * (n + 1)] for n in range(4)
    )
    (protocol,) = struct.unpack_from("=H", rules, at + layout.protocol)
    flags, inverted = rules[at + layout.flags], rules[at + layout.inverted]

    def holds(packet: SamplePacket, is_tracked: bool) -> Certainty | None:
        if flags & layout.is_fragment:
            return None
        header = packet.network
        parts: list[tuple[Octets, bytes, bytes, int]] = [
            (header[-2 * size : -size], source, source_mask, _NOT_SOURCE),
            (header[-size:], destination, destination_mask, _NOT_DESTINATION),
            (interface_name(packet.came_by), came_by, came_mask, _NOT_IN),
            (interface_name(packet.leaves_by), leaves_by, leaves_mask, _NOT_OUT),
        ]
        found = [
            None if equal is None else equal is not bool(inverted & flag)
            for held, wanted, mask, flag in parts
            if any(mask)
            for equal in (_equal(held, wanted, mask),)
        ]
        if protocol:
            found.append((protocol == packet.protocol) is not bool(inverted & _NOT_PROTOCOL))
        return all_of(found)

    return holds


def _equal(held: Octets, wanted: bytes, mask: bytes) -> bool | None:
    """Return whether octets are equal under a mask, None where one of them is not known."""
    is_open = False
    for one, other, bits in zip(held, wanted, mask, strict=True):
        if bits and one is None:
            is_open = True
        elif one is not None and one & bits != other & bits:
            return False
    return None if is_open else True


def _is_named(rules: bytes, at: int, packet: SamplePacket) -> bool:
    """Return whether a rule is about an address of a packet, or the interface to it."""
    size = packet.family.size
    inverted = rules[at + _LAYOUTS[packet.family].inverted]
    sides = (
        (packet.source, 2, _NOT_SOURCE),
        (packet.destination, 3, _NOT_DESTINATION),
    )
    for address, mask, flag in sides:
        has_mask = any(rules[at + size * mask : at + size * (mask + 1)])
        if has_mask and len(address) == size and not inverted & flag:
            return True
    leaves_mask = at + 4 * size + 3 * _INTERFACE_SIZE
    has_interface = any(rules[leaves_mask : leaves_mask + _INTERFACE_SIZE])
    return bool(packet.leaves_by and has_interface and not inverted & _NOT_OUT)


def _matches(rules: bytes, at: int, family: Family) -> Iterator[tuple[Condition, bool]]:
    """Yield the conditions of a rule's matches, and whether each is about an address."""
    layout = _LAYOUTS[family]
    (end,) = struct.unpack_from("=H", rules, at + layout.offsets)
    place, end = at + layout.counters + 16, at + end
    while place + _PART_HEAD <= end:
        (size,) = struct.unpack_from("=H", rules, place)
        if size < _PART_HEAD:
            return
        name = rules[place + 2 : place + 31].split(b"\0")[0].decode("ascii", "replace")
        info = rules[place + _PART_HEAD : place + size]
        yield match_of(name, info), names_address(name, info)
        place += size
