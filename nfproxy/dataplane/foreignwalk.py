"""
Follows packets through the chains of another program, where not all of a packet is known.

A condition that depends on something unknown, such as a mark or the client, leaves open whether the
rule matches. One on a rate, or on chance, holds for some packets. What comes behind a rule that may
have ended the walk is as uncertain.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import NamedTuple

from nfproxy.dataplane.samplepackets import SamplePacket
from nfproxy.insight.nodefacts import Certainty, RuleEffect
from nfproxy.nft.schema import Verdict

RETURN = -5  # NFT_RETURN
_JUMP, _GOTO = -3, -4

_DEEPEST = 16
_MOST_RULES = 20_000


class Meeting(NamedTuple):
    """
    What a rule does with a packet.

    `matches` is None where it does not for the packet, or else how certain it is that it does.
    `is_named` says that a condition holds for one of its addresses, or the interface to it.
    `verdict` is None where the next rule follows.
    """

    matches: Certainty | None
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
    certainty: Certainty
    is_named: bool


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
        goes_on = yield from self._follow(chain, _Step(packet, is_tracked))
        if drops_rest and goes_on is not None:
            yield Hit(None, RuleEffect.DROP, goes_on, is_named=False)

    def _follow(self, name: str, step: _Step) -> Generator[Hit, None, Certainty | None]:
        """Yield what happens in a chain; return whether the walk goes on behind it, None if not."""
        if name not in self._known:
            self._known[name] = self._rules_of(name)
        # How certain it is that the packet comes to the next rule, and to the end of the chain
        # unless it has left it before.
        here, behind, not_left = step.certainty, Certainty.SURE, Certainty.SURE
        for rule in self._known[name]:
            self._left -= 1
            if self._left < 0 or step.depth > _DEEPEST:
                return Certainty.PERHAPS
            met = rule.meet(step.packet, step.is_tracked)
            if met.matches is None:
                continue
            below = step.below(min(here, met.matches), is_named=met.is_named)
            if met.effect is not None:
                yield Hit(rule, met.effect, below.certainty, below.is_named)
            if met.verdict is None:
                continue
            code, goes_on = met.verdict.code, None
            if code in (_JUMP, _GOTO):
                goes_on = yield from self._follow(met.verdict.chain, below)
            elif code == RETURN:
                goes_on = Certainty.SURE
            is_certain = met.matches is Certainty.SURE
            if goes_on is None and is_certain:
                return None if not_left is Certainty.SURE else not_left
            if goes_on is not Certainty.SURE:
                least = min(met.matches, Certainty.SURE if goes_on is None else goes_on)
                here, behind = min(here, least), min(behind, least)
            if code in (_GOTO, RETURN):
                if is_certain:
                    break
                here, not_left = min(here, met.matches), min(not_left, met.matches)
        return behind


class _Step(NamedTuple):
    """Where a packet is on its walk, and what is known of its way to there."""

    packet: SamplePacket
    is_tracked: bool
    certainty: Certainty = Certainty.SURE
    is_named: bool = False
    depth: int = 0

    def below(self, certainty: Certainty, *, is_named: bool) -> _Step:
        return self._replace(
            certainty=certainty, is_named=self.is_named or is_named, depth=self.depth + 1
        )
