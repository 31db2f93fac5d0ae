"""
Follows packets through the chains of another program, where not all of a packet is known.

A condition that depends on something unknown, such as a mark or the client, leaves open whether the
rule matches. What comes behind a rule that may have ended the walk is not sure, either.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import NamedTuple

from nfproxy.dataplane.samplepackets import SamplePacket
from nfproxy.insight.nodefacts import RuleEffect
from nfproxy.nft.schema import Verdict

RETURN = -5  # NFT_RETURN
_JUMP, _GOTO = -3, -4

_DEEPEST = 16
_MOST_RULES = 20_000


class Meeting(NamedTuple):
    """
    What a rule does with a packet.

    `matches` is None where that is not known. `is_named` says that a condition holds for one of its
    addresses, or the interface to it. `verdict` is None where the next rule follows.
    """

    matches: bool | None
    effect: RuleEffect | None = None
    verdict: Verdict | None = None
    is_named: bool = False


#: What a rule does, by packet; the second value says whether connections are tracked already.
Meet = Callable[[SamplePacket, bool], Meeting]


class ReadRule(NamedTuple):
    """A rule of another program; `packets` is None without a counter, `handle` 0 where unknown."""

    chain: str
    meet: Meet
    handle: int = 0
    packets: int | None = None
    comment: str = ""


class Hit(NamedTuple):
    """A rule that does something with a packet; `rule` is None for a chain's policy."""

    rule: ReadRule | None
    effect: RuleEffect
    is_sure: bool
    is_named: bool


class _End(enum.Enum):
    """Whether a packet's walk has ended in a chain, or below it."""

    NO = enum.auto()
    MAYBE = enum.auto()
    YES = enum.auto()


class ForeignChains:
    """
    The chains of one table.

    `rules_of` returns a chain's rules; it is asked for each once. After `_MOST_RULES` rules a walk
    ends, as if nothing were behind.
    """

    def __init__(self, rules_of: Callable[[str], Sequence[ReadRule]]) -> None:
        self._rules_of = rules_of
        self._known: dict[str, Sequence[ReadRule]] = {}
        self._left = _MOST_RULES

    def walk(
        self, chain: str, packet: SamplePacket, *, is_tracked: bool, drops_rest: bool
    ) -> Iterator[Hit]:
        """Yield what happens to a packet in a base chain; `drops_rest` is its policy."""
        end = yield from self._follow(chain, _Step(packet, is_tracked))
        if drops_rest and end is not _End.YES:
            yield Hit(None, RuleEffect.DROP, end is _End.NO, is_named=False)

    def _follow(self, name: str, step: _Step) -> Generator[Hit, None, _End]:
        """Yield what happens in a chain; return whether the walk ends there."""
        if name not in self._known:
            self._known[name] = self._rules_of(name)
        is_sure, may_end, may_return = step.is_sure, False, False
        for rule in self._known[name]:
            self._left -= 1
            if self._left < 0 or step.depth > _DEEPEST:
                return _End.MAYBE
            met = rule.meet(step.packet, step.is_tracked)
            if met.matches is False:
                continue
            below = step.below(is_sure=is_sure and bool(met.matches), is_named=met.is_named)
            if met.effect is not None:
                yield Hit(rule, met.effect, below.is_sure, below.is_named)
            if met.verdict is None:
                continue
            code, end = met.verdict.code, _End.YES
            if code in (_JUMP, _GOTO):
                end = yield from self._follow(met.verdict.chain, below)
            elif code == RETURN:
                end = _End.NO
            if end is _End.YES and met.matches:
                return _End.MAYBE if may_return else _End.YES
            may_end |= end is not _End.NO
            if code in (_GOTO, RETURN):
                if met.matches:
                    break
                may_return = True
            is_sure &= not (may_end or may_return)
        return _End.MAYBE if may_end else _End.NO


class _Step(NamedTuple):
    """Where a packet is on its walk, and what is known of its way to there."""

    packet: SamplePacket
    is_tracked: bool
    is_sure: bool = True
    is_named: bool = False
    depth: int = 0

    def below(self, *, is_sure: bool, is_named: bool) -> _Step:
        return self._replace(
            is_sure=is_sure, is_named=self.is_named or is_named, depth=self.depth + 1
        )
