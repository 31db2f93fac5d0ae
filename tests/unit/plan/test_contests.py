"""What it costs that very many Services ask for one frontend."""

import random
from collections import Counter

import pytest
from support.objects.model import changes, gone, service

from nfproxy.model.addresses import Family
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import Service
from nfproxy.plan import contests
from nfproxy.plan.claims import ClaimReason
from nfproxy.plan.planner import Planner

COUNT = 1500


def rivals(order: str) -> list[Service]:
    """Return Services that all ask for one address, in an order of age."""
    made = [
        service(
            f"s{number:04}",
            cluster_ips=(f"10.96.{number // 250}.{number % 250}",),
            external_ips=("192.0.2.1",),
            created=f"2026-01-01T00:{number // 60:02}:{number % 60:02}Z",
        )
        for number in range(COUNT)
    ]
    if order == "youngest first":
        made.reverse()
    elif order == "any":
        random.Random(1).shuffle(made)
    return made


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count how often claims are compared and reported."""
    found: Counter[str] = Counter()
    for name in ("_place", "_finding"):
        real = getattr(contests, name)

        def counting(*given: object, name: str = name, real=real) -> object:
            found[name] += 1
            return real(*given)

        monkeypatch.setattr(contests, name, counting)
    return found


@pytest.mark.parametrize("order", ["oldest first", "youngest first", "any"])
def test_a_claim_costs_the_same_however_many_there_are(counted: Counter[str], order: str):
    """At once, and where the Services go in the same order: the winner changes each time."""
    planner, made = Planner(NodeConfig(node_name="node-1")), rivals(order)
    planner.apply(changes(*made))
    conflicts = [*planner.desired.conflicts()]
    assert len(conflicts) == COUNT - 1
    assert {conflict.winner.name for conflict in conflicts} == {"s0000"}
    assert planner.desired.findings.counts[ClaimReason.CONFLICT] == COUNT - 1
    size = planner.desired.sizes[Family.IPV4]
    assert size.frontends == len(planner.desired.frontends) == COUNT + 1
    planner.apply(gone(*made))
    assert planner.desired.sizes[Family.IPV4].frontends == 0

    assert not planner.desired.frontends
    assert not planner.desired.findings.counts[ClaimReason.CONFLICT]
    assert counted["_finding"] < 2 * COUNT
    assert counted["_place"] < 4 * COUNT


def test_a_loser_that_comes_and_goes_costs_itself(counted: Counter[str]):
    """However many others there are."""
    planner, made = Planner(NodeConfig(node_name="node-1")), rivals("any")
    planner.apply(changes(*made))
    counted.clear()
    loser = next(one for one in made if one.name.name == "s0700")
    planner.apply(gone(loser))
    planner.apply(changes(loser))

    assert counted["_finding"] <= 1
    assert counted["_place"] <= 3
