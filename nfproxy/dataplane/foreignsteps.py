"""
What expressions of nf_tables rules ask of a packet, as far as that is known.

Source: ``linux/netfilter/nf_tables.h``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from nfproxy.dataplane.samplepackets import Octets, SamplePacket, interface_name, native
from nfproxy.dataplane.xtparts import match_of, names_address
from nfproxy.insight.nodefacts import Certainty
from nfproxy.model.addresses import Family
from nfproxy.netlink.messages import number, text, values
from nfproxy.netlink.nftables import IMMEDIATE_DATA, XT_INFO, XT_NAME

_INSIDE = 1  # NFTA_DATA_VALUE
_TARGET, _BASE, _OFFSET, _LENGTH = 1, 2, 3, 4  # NFTA_PAYLOAD_…
_NETWORK, _TRANSPORT = 1, 2  # NFT_PAYLOAD_…_HEADER
_SOURCE = 1  # NFTA_…_SREG of bitwise, cmp and range
_MASK_TARGET, _MASK, _XOR = 2, 4, 5  # NFTA_BITWISE_…
_OPERATOR, _VALUE = 2, 3  # NFTA_CMP_…
_UNEQUAL, _MOST = 1, 5  # NFT_CMP_NEQ, NFT_CMP_GTE
_FROM, _TO = 3, 4  # NFTA_RANGE_…
KEY, _STORED = 2, 3  # NFTA_META_KEY, NFTA_META_SREG; the key likewise of ct
_PROTOCOL, _IN, _OUT, _IN_NAME, _OUT_NAME, _NFPROTO, _L4PROTO = 1, 4, 5, 6, 7, 15, 16  # NFT_META_…
_CT_STATE, _CT_DIRECTION, _CT_STATUS = 0, 1, 2  # NFT_CT_…
_FIB_RESULT, _FIB_FLAGS = 2, 3  # NFTA_FIB_…
_ADDRESS_TYPE, _OF_DESTINATION = 3, 2  # NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR

#: nft's numbers of the families.
_NFPROTOS = {Family.IPV4: 2, Family.IPV6: 10}
_ETHERTYPES = {Family.IPV4: b"\x08\x00", Family.IPV6: b"\x86\xdd"}
_REGISTERS = 80  # octets

#: Expressions that let every packet pass and load nothing.
_HARMLESS = {"counter", "log", "objref", "dup", "flow_offload", "last"}
_CONDITIONS = (7, 10)  # NFTA_DYNSET_EXPR, NFTA_DYNSET_EXPRESSIONS
#: Expressions that hold for some packets: by a rate, a number of connections, or an amount.
_RATES = {"limit", "connlimit", "quota"}
_OBJECT_TYPE = 1  # NFTA_OBJREF_IMM_TYPE
_LIMITING_OBJECTS = (2, 4, 5)  # NFT_OBJECT_QUOTA, …_LIMIT, …_CONNLIMIT
_TARGET_OF_NUMBER = 1  # NFTA_NG_DREG

#: Attributes of an expression, by number.
Data = dict[int, bytes]


class RuleRun:
    """One packet in one rule: its registers, and what is known of a match."""

    def __init__(self, packet: SamplePacket, *, is_tracked: bool) -> None:
        self.packet, self.is_tracked = packet, is_tracked
        self.registers: Octets = [None] * _REGISTERS
        self.naming: set[int] = set()
        self.by_chance: set[int] = set()
        self.certainty = Certainty.SURE  # that all conditions hold
        self.is_named = False

    def store(
        self, register: int, octets: Octets, *, is_naming: bool = False, by_chance: bool = False
    ) -> None:
        """Load a register; the kernel fills its last four octets."""
        at = _place(register)
        padded = octets + [0] * (-len(octets) % 4) if len(octets) % 4 else octets
        self.registers[at : at + len(padded)] = padded
        for places, holds in ((self.naming, is_naming), (self.by_chance, by_chance)):
            if holds or places:
                loaded = range(at, at + len(padded))
                places.difference_update(loaded)
                places.update(loaded if holds else ())

    def load(self, register: int, length: int) -> bytes | None:
        """Return what a register holds, None where that is not known."""
        at = _place(register)
        held = self.registers[at : at + length]
        # bytes() refuses what is not known, and what is beyond the registers is short.
        try:
            return bytes(cast(list[int], held)) if length and len(held) == length else None
        except TypeError:
            return None

    def forget(self) -> None:
        """Forget all registers: an expression that is not understood may have loaded one."""
        self.registers = [None] * _REGISTERS
        self.naming.clear()
        self.by_chance.clear()

    def judge(self, holds: bool | None, register: int, *, is_naming: bool = True) -> bool:
        """Note a condition; return False where the rule does not match."""
        if holds is None:
            is_chance = _place(register) in self.by_chance
            self.lower(Certainty.SOME if is_chance else Certainty.PERHAPS)
        elif holds and is_naming and _place(register) in self.naming:
            self.is_named = True
        return holds is not False

    def lower(self, certainty: Certainty) -> None:
        """Note a condition that is no more certain than this."""
        self.certainty = min(self.certainty, certainty)


#: Runs one expression; returns False where the rule does not match.
Step = Callable[[RuleRun], bool]


def step_of(name: str, data: Data) -> Step | None:
    """Return what runs an expression that is no statement, None for one that changes nothing."""
    is_object = name == "objref" and number(data.get(_OBJECT_TYPE, b"")) in _LIMITING_OBJECTS
    is_set = name == "dynset" and bool(data.keys() & set(_CONDITIONS))
    if name in _RATES or is_object or is_set:
        return _by_rate
    if name in _HARMLESS or name == "dynset":
        return None
    made = _STEPS.get(name)
    return made(data) if made is not None else _unknown


def _place(register: int) -> int:
    """Return the octet at which a register begins: there are two ways to number them."""
    return (register - 1) * 16 if register < 8 else (register - 8) * 4


def _unknown(run: RuleRun) -> bool:
    run.forget()
    run.lower(Certainty.PERHAPS)
    return True


def _by_rate(run: RuleRun) -> bool:
    run.lower(Certainty.SOME)
    return True


def _immediate(data: Data) -> Step:
    target = number(data.get(_TARGET, b""))
    held = list[int | None](values(data.get(IMMEDIATE_DATA, b"")).get(_INSIDE, b""))

    def step(run: RuleRun) -> bool:
        run.store(target, held)
        return True

    return step


def _payload(data: Data) -> Step | None:
    target, base, offset, length = (
        number(data.get(one, b"")) for one in (_TARGET, _BASE, _OFFSET, _LENGTH)
    )
    if not target:
        return None  # it changes the packet

    def step(run: RuleRun) -> bool:
        header: Octets = []
        if base == _NETWORK:
            header = run.packet.network
        elif base == _TRANSPORT:
            header = run.packet.transport
        octets = header[offset : offset + length]
        if len(octets) < length:
            octets += [None] * (length - len(octets))
        is_naming = base == _NETWORK and run.packet.names_at(offset, length)
        run.store(target, octets, is_naming=is_naming)
        return True

    return step


def _number_generator(data: Data) -> Step:
    target = number(data.get(_TARGET_OF_NUMBER, b""))

    def step(run: RuleRun) -> bool:
        run.store(target, [None] * 4, by_chance=True)
        return True

    return step


def _meta(data: Data) -> Step | None:
    target, key = number(data.get(_TARGET, b"")), number(data.get(KEY, b""))
    if _STORED in data:
        return None

    def step(run: RuleRun) -> bool:
        octets: Octets = [None] * 4
        if key == _L4PROTO:
            octets = [run.packet.protocol]
        elif key == _PROTOCOL:
            octets = list(_ETHERTYPES[run.packet.family])
        elif key == _NFPROTO:
            octets = [_NFPROTOS[run.packet.family]]
        elif key in (_IN_NAME, _OUT_NAME):
            octets = interface_name(run.packet.came_by if key == _IN_NAME else run.packet.leaves_by)
        elif key in (_IN, _OUT):
            link = run.packet.came_by if key == _IN else run.packet.leaves_by
            octets = native(link.index) if link is not None else octets
        is_naming = key in (_OUT, _OUT_NAME) and run.packet.leaves_by is not None
        run.store(target, octets, is_naming=is_naming)
        return True

    return step


def _ct(data: Data) -> Step:
    target, key = number(data.get(_TARGET, b"")), number(data.get(KEY, b""))

    def step(run: RuleRun) -> bool:
        octets: Octets = [None] * 16
        if key == _CT_STATE:
            octets = native(run.packet.tracking_state(is_tracked=run.is_tracked))
        elif key == _CT_STATUS and run.is_tracked:
            octets = native(run.packet.tracking_status)
        elif key == _CT_DIRECTION:
            octets = [int(run.packet.is_answer)]
        run.store(target, octets)
        return True

    return step


def _fib(data: Data) -> Step:
    target = number(data.get(_TARGET, b""))
    result, flags = number(data.get(_FIB_RESULT, b"")), number(data.get(_FIB_FLAGS, b""))
    is_type = result == _ADDRESS_TYPE and flags == _OF_DESTINATION

    def step(run: RuleRun) -> bool:
        known = is_type and run.packet.destination
        run.store(target, native(run.packet.address_type) if known else [None] * 16)
        return True

    return step


def _bitwise(data: Data) -> Step:
    source, target = number(data.get(_SOURCE, b"")), number(data.get(_MASK_TARGET, b""))
    mask = values(data.get(_MASK, b"")).get(_INSIDE, b"")
    xor = values(data.get(_XOR, b"")).get(_INSIDE, b"")

    def step(run: RuleRun) -> bool:
        held = run.load(source, len(mask))
        is_naming = _place(source) in run.naming
        if held is None or len(xor) != len(mask):
            by_chance = _place(source) in run.by_chance
            run.store(target, [None] * (len(mask) or 16), by_chance=by_chance)
        else:
            masked = [a & b ^ c for a, b, c in zip(held, mask, xor, strict=True)]
            run.store(target, list[int | None](masked), is_naming=is_naming)
        return True

    return step


def _cmp(data: Data) -> Step:
    register, operator = number(data.get(_SOURCE, b"")), number(data.get(_OPERATOR, b""))
    wanted = values(data.get(_VALUE, b"")).get(_INSIDE, b"")

    def step(run: RuleRun) -> bool:
        held = run.load(register, len(wanted))
        holds = None if held is None else _compare(held, operator, wanted)
        return run.judge(holds, register, is_naming=operator != _UNEQUAL)

    return step


def _compare(held: bytes, operator: int, wanted: bytes) -> bool:
    """Return whether a comparison holds: NFT_CMP_EQ, NEQ, LT, LTE, GT, GTE."""
    return (
        held == wanted,
        held != wanted,
        held < wanted,
        held <= wanted,
        held > wanted,
        held >= wanted,
    )[min(operator, _MOST)]


def _range(data: Data) -> Step:
    register, operator = number(data.get(_SOURCE, b"")), number(data.get(_OPERATOR, b""))
    low, high = (values(data.get(one, b"")).get(_INSIDE, b"") for one in (_FROM, _TO))

    def step(run: RuleRun) -> bool:
        held = run.load(register, len(low))
        holds = None if held is None else (low <= held <= high) is not bool(operator)
        return run.judge(holds, register, is_naming=not operator)

    return step


def _match(data: Data) -> Step:
    name, info = text(data.get(XT_NAME, b"")), data.get(XT_INFO, b"")
    condition, is_naming = match_of(name, info), names_address(name, info)

    def step(run: RuleRun) -> bool:
        holds = condition(run.packet, run.is_tracked)
        if holds is None:
            return False
        run.lower(holds)
        run.is_named |= is_naming and holds is Certainty.SURE
        return True

    return step


_STEPS: Mapping[str, Callable[[Data], Step | None]] = {
    "immediate": _immediate,
    "payload": _payload,
    "meta": _meta,
    "ct": _ct,
    "fib": _fib,
    "bitwise": _bitwise,
    "cmp": _cmp,
    "range": _range,
    "match": _match,
    "numgen": _number_generator,
}
