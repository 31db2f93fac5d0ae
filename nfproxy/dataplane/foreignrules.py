"""
Reads nf_tables rules of another program: what each does with a packet, as far as that is known.

Source: ``linux/netfilter/nf_tables.h``. What conditions ask is in ``foreignsteps``, what xtables
adds in ``xtparts``.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import NamedTuple

from nfproxy.dataplane.foreignsteps import KEY, Data, RuleRun, Step, step_of
from nfproxy.dataplane.foreignwalk import Meeting, ReadRule
from nfproxy.dataplane.samplepackets import SamplePacket
from nfproxy.dataplane.xtparts import target_of
from nfproxy.errors import DataplaneError
from nfproxy.insight.nodefacts import RuleEffect
from nfproxy.netlink.elements import VERDICT, key_question, listed_elements, read_verdict
from nfproxy.netlink.messages import generic, number, text, values
from nfproxy.netlink.nftables import (
    GET_ELEMENTS,
    IMMEDIATE_DATA,
    SUBSYSTEM,
    XT_INFO,
    XT_NAME,
    RuleRow,
    comment_in,
    expressions_of,
)
from nfproxy.netlink.sockets import NftSocket
from nfproxy.nft.schema import DROP, Verdict, verdict

_COUNTED_PACKETS = 2  # NFTA_COUNTER_PACKETS
_SET, _SET_SOURCE, _SET_TARGET, _SET_FLAGS = 1, 2, 3, 5  # NFTA_LOOKUP_…
_IS_INVERTED = 1  # NFT_LOOKUP_F_INV
_CT_STORED, _CT_ZONE = 4, 17  # NFTA_CT_SREG, NFT_CT_ZONE
_NAT_TYPE, _DESTINATION_NAT = 1, 1  # NFTA_NAT_TYPE, NFT_NAT_DNAT

_ACCEPT = verdict(1)
#: What these expressions do, and whether the packet goes on in its chain.
_STATEMENTS = {
    "reject": (RuleEffect.DROP, DROP),
    "queue": (RuleEffect.QUEUE, _ACCEPT),
    "notrack": (RuleEffect.NOT_TRACKED, None),
    "redir": (RuleEffect.TRANSLATED, _ACCEPT),
    "tproxy": (RuleEffect.TRANSLATED, None),
    "masq": (RuleEffect.SOURCE, _ACCEPT),
}


class _Verdict(NamedTuple):
    """What a rule comes to: by itself, or by a map that is looked up."""

    effect: RuleEffect | None = None
    verdict: Verdict | None = None


class RuleReader:
    """Reads rules of one table; `key_lengths` are those of its sets."""

    def __init__(
        self, netlink: NftSocket, family: int, table: str, key_lengths: Mapping[str, int]
    ) -> None:
        self._netlink = netlink
        self._family, self._table, self._key_lengths = family, table, key_lengths
        self._found: dict[tuple[str, bytes], Verdict | bool | None] = {}

    def read(self, rule: RuleRow) -> ReadRule:
        """Return what a rule does. Raises DataplaneError."""
        steps: list[Step] = []
        ends: list[_Verdict | tuple[str, int]] = []
        packets: int | None = None
        for name, data in expressions_of(rule):
            if name == "counter":
                packets = number(data.get(_COUNTED_PACKETS, b""))
            elif name == "lookup" and _SET_TARGET in data:
                ends.append((text(data.get(_SET, b"")), number(data.get(_SET_SOURCE, b""))))
            elif (end := _end(name, data)) is not None:
                ends.append(end)
            elif (step := self._step(name, data)) is not None:
                steps.append(step)

        def meet(packet: SamplePacket, is_tracked: bool) -> Meeting:
            return self._meet(steps, ends, RuleRun(packet, is_tracked=is_tracked))

        return ReadRule(rule.chain, meet, rule.handle, packets, comment_in(rule.userdata))

    def _meet(
        self, steps: list[Step], ends: list[_Verdict | tuple[str, int]], run: RuleRun
    ) -> Meeting:
        for step in steps:
            if not step(run):
                return Meeting(None)
        effect: RuleEffect | None = None
        verdict_: Verdict | None = None
        for end in ends:
            if not isinstance(end, _Verdict):
                found = self._look_up(run, *end)
                if found is False:
                    return Meeting(None)
                if not isinstance(found, Verdict):
                    run.judge(found, end[1])
                    continue
                run.judge(True, end[1])
                end = _verdict_end(found)
            effect, verdict_ = end.effect or effect, end.verdict or verdict_
        return Meeting(run.certainty, effect, verdict_, run.is_named)

    def _look_up(self, run: RuleRun, name: str, register: int) -> Verdict | bool | None:
        """Return what a set or map has for a packet: a verdict, whether anything, or None."""
        key = run.load(register, self._key_lengths.get(name, 0))
        if key is None:
            return None
        if (name, key) not in self._found:
            question = generic(self._family) + key_question(self._table, name, key)
            try:
                kind = SUBSYSTEM << 8 | GET_ELEMENTS
                (answer,) = self._netlink.ask_each(kind, [question], f"elements of {name}")
            except DataplaneError:
                answer = errno.EIO
            found: Verdict | bool | None = None
            if isinstance(answer, bytes):
                verdicts = [one.value for one in listed_elements(answer)]
                found = next((one for one in verdicts if isinstance(one, Verdict)), True)
            elif answer == errno.ENOENT:
                found = False
            self._found[name, key] = found
        return self._found[name, key]

    def _step(self, name: str, data: Data) -> Step | None:
        """Return what runs an expression, None for one that changes nothing."""
        return self._membership(data) if name == "lookup" else step_of(name, data)

    def _membership(self, data: Data) -> Step:
        name, register = text(data.get(_SET, b"")), number(data.get(_SET_SOURCE, b""))
        is_inverted = bool(number(data.get(_SET_FLAGS, b"")) & _IS_INVERTED)

        def step(run: RuleRun) -> bool:
            found = self._look_up(run, name, register)
            holds = None if found is None else bool(found) is not is_inverted
            return run.judge(holds, register, is_naming=not is_inverted)

        return step


def _verdict_end(found: Verdict) -> _Verdict:
    return _Verdict(RuleEffect.DROP if found == DROP else None, found)


def _end(name: str, data: Data) -> _Verdict | None:
    """Return what a statement comes to, None for an expression that is none."""
    if name == "immediate":
        held = values(data.get(IMMEDIATE_DATA, b"")).get(VERDICT)
        return _verdict_end(read_verdict(held)) if held is not None else None
    if name == "nat":
        is_destination = number(data.get(_NAT_TYPE, b"")) == _DESTINATION_NAT
        return _Verdict(RuleEffect.TRANSLATED if is_destination else RuleEffect.SOURCE, _ACCEPT)
    if name == "ct" and _CT_STORED in data:
        is_zone = number(data.get(KEY, b"")) == _CT_ZONE
        return _Verdict(RuleEffect.ZONE if is_zone else None)
    if name == "target":
        found = target_of(text(data.get(XT_NAME, b"")), data.get(XT_INFO, b""))
        return _Verdict(*found) if found is not None else None
    found = _STATEMENTS.get(name)
    return _Verdict(*found) if found is not None else None
