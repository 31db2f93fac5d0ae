"""How packets are followed through chains of other programs, where not all of them is known."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from nfproxy.dataplane.foreignwalk import RETURN, ForeignChains, Meeting, ReadRule
from nfproxy.dataplane.samplepackets import SamplePacket
from nfproxy.insight.nodefacts import Certainty, PacketStage, RuleEffect
from nfproxy.model.addresses import Family
from nfproxy.nft.schema import DROP, Verdict, goto, jump, verdict

PACKET = SamplePacket(PacketStage.SENT, Family.IPV4, 6)
ACCEPT = verdict(1)
YES, NO, OPEN, SOME = Certainty.SURE, None, Certainty.PERHAPS, Certainty.SOME


def rule(matches: Certainty | None, end: Verdict | None, *, handle: int = 0) -> ReadRule:
    effect = RuleEffect.DROP if end == DROP else None
    return ReadRule("base", lambda packet, is_tracked: Meeting(matches, effect, end), handle)


def walked(
    base: Sequence[ReadRule], other: Sequence[ReadRule] = (), *, policy: bool = False
) -> list[tuple[int, Certainty]]:
    """Return the handles of rules that drop, 0 for the policy, and how certain that is."""
    found = {"base": base, "other": other}
    chains = ForeignChains(lambda name: found[name])
    hits = chains.walk("base", PACKET, is_tracked=True, drops_rest=policy)
    return [(hit.rule.handle if hit.rule else 0, hit.certainty) for hit in hits]


@pytest.mark.parametrize(
    ("base", "other", "found"),
    [
        ([], [], [(0, YES)]),
        ([rule(YES, ACCEPT)], [], []),
        ([rule(OPEN, ACCEPT)], [], [(0, OPEN)]),
        ([rule(NO, ACCEPT)], [], [(0, YES)]),
        ([rule(YES, DROP, handle=2)], [], [(2, YES)]),
        ([rule(OPEN, DROP, handle=2)], [], [(2, OPEN), (0, OPEN)]),
        ([rule(OPEN, ACCEPT), rule(YES, DROP, handle=2)], [], [(2, OPEN)]),
        ([rule(OPEN, None), rule(YES, DROP, handle=2)], [], [(2, YES)]),
        ([rule(YES, jump("other"))], [rule(YES, ACCEPT)], []),
        ([rule(YES, jump("other"))], [rule(YES, verdict(RETURN))], [(0, YES)]),
        ([rule(YES, jump("other"))], [rule(OPEN, ACCEPT)], [(0, OPEN)]),
        ([rule(OPEN, jump("other"))], [rule(YES, DROP, handle=2)], [(2, OPEN), (0, OPEN)]),
        ([rule(OPEN, jump("other"))], [rule(NO, DROP)], [(0, YES)]),
        (
            [rule(YES, jump("other"))],
            [rule(OPEN, verdict(RETURN)), rule(YES, DROP, handle=2)],
            [(2, OPEN), (0, OPEN)],
        ),
        ([rule(YES, goto("other")), rule(YES, ACCEPT)], [], [(0, YES)]),
        ([rule(OPEN, goto("other")), rule(YES, ACCEPT)], [], [(0, OPEN)]),
        ([rule(YES, verdict(RETURN)), rule(YES, ACCEPT)], [], [(0, YES)]),
        ([rule(SOME, ACCEPT)], [], [(0, SOME)]),
        ([rule(SOME, DROP, handle=2)], [], [(2, SOME), (0, SOME)]),
        ([rule(SOME, ACCEPT), rule(OPEN, DROP, handle=2)], [], [(2, OPEN), (0, OPEN)]),
        ([rule(YES, jump("other"))], [rule(SOME, ACCEPT)], [(0, SOME)]),
        (
            [rule(YES, jump("other")), rule(YES, DROP, handle=3)],
            [rule(SOME, verdict(RETURN)), rule(YES, ACCEPT)],
            [(3, SOME)],
        ),
        ([rule(SOME, jump("other"))], [rule(YES, ACCEPT)], [(0, SOME)]),
        ([rule(SOME, goto("other")), rule(YES, ACCEPT)], [], [(0, SOME)]),
    ],
)
def test_what_is_sure(
    base: list[ReadRule], other: list[ReadRule], found: list[tuple[int, Certainty]]
) -> None:
    assert walked(base, other, policy=True) == found


def test_chains_that_lead_in_a_circle_end() -> None:
    """The kernel lets no program load them; what is read while rules change may look so."""
    assert walked([rule(YES, jump("other"))], [rule(YES, jump("base"))], policy=True) == [(0, OPEN)]
