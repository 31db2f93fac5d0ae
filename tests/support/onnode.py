"""Facts of a node on which nothing is wrong, and explanations of what is changed in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from support.insight import codes, explained, shop, sight

from nfproxy.insight.explanation import Explanation
from nfproxy.insight.nodefacts import (
    ConnectionCounts,
    ForeignRule,
    HeldState,
    NodeFacts,
    NodeLink,
    NodeSettings,
    PacketStage,
    ProxyRuns,
    Route,
    RuleEffect,
)
from nfproxy.insight.onnode import on_node
from nfproxy.model.addresses import FAMILIES, Family, parse_address
from nfproxy.model.service import Protocol
from nfproxy.nft.schema import port_bytes
from nfproxy.plan.endpoints import Destination
from nfproxy.plan.frontends import FrontendKey
from nfproxy.reconcile.lists import ListState
from nfproxy.reconcile.observed import Observed
from nfproxy.reconcile.transition import FrontendState

SHOP = sight(*shop())
DESIRED = SHOP.planner.desired
WEB = FrontendKey(Family.IPV4, parse_address("10.96.0.10"), Protocol.TCP, 80)
LOCAL, REMOTE = "10.244.1.11", "10.244.2.11"
VETH = NodeLink(5, "veth1", 1500, "veth")
UPLINK = NodeLink(2, "eth0", 1500)
BRIDGE = NodeLink(3, "cni0", 1500, "bridge")
PORTS = tuple(NodeLink(n, f"veth{n}", 1500, "veth", 3, True) for n in (8, 9))
NEXT_HOP = parse_address("192.168.77.12")
ON = dict.fromkeys(FAMILIES, True)
SETTINGS = NodeSettings(ON, ON, dict.fromkeys(FAMILIES, 0))
CLIENT = parse_address("10.244.1.12")


def end(address: str, port: int = 8080) -> Destination:
    return parse_address(address) + port_bytes(port)


def all_of_it() -> Observed:
    """Return what the kernel holds where all of the desired state is in force."""
    return Observed(
        frontends={
            key: FrontendState(
                f.verdict, f.own_slots, {(e.set, e.key): e.value for e in f.own_elements}
            )
            for key, f in DESIRED.frontends.items()
        },
        lists={key: ListState(slots) for key, slots in DESIRED.lists.items()},
        shared_elements=set(DESIRED.shared_elements),
        affinity_lists=dict(DESIRED.affinity_lists),
    )


def held(observed: Observed | None = None, **more: Any) -> HeldState:
    counters = dict.fromkeys(DESIRED.frontends, 42)
    return HeldState(frozenset(FAMILIES), observed or all_of_it(), counters, {}, **more)


def routes() -> dict[bytes, Route]:
    return {
        parse_address(LOCAL): Route(VETH, mtu=1500),
        parse_address(REMOTE): Route(UPLINK, NEXT_HOP, 1500),
    }


def healthy(**changes: Any) -> NodeFacts:
    """Return facts of a node on which nothing is wrong, but for some."""
    facts = NodeFacts(
        held=held(),
        connections={},
        routes=routes(),
        pod_mtu=1500,
        settings=SETTINGS,
        runs=ProxyRuns(nfproxy="process 1"),
    )
    return msgspec.structs.replace(facts, **changes)


def joined(what: str = "shop/web", **changes: Any) -> Explanation:
    return on_node(explained(what, SHOP), healthy(**changes), DESIRED, SHOP.config)


def result(found: Explanation) -> tuple[str, list[str]]:
    return found.conclusion.value, codes(found)


def traffic(**ends: ConnectionCounts) -> Mapping[FrontendKey, Mapping[Destination, Any]]:
    names = {"local": end(LOCAL), "remote": end(REMOTE), "left": end("10.244.2.99")}
    return {WEB: {names[name]: counts for name, counts in ends.items()}}


def rule_of(
    effect: RuleEffect = RuleEffect.DROP, stage: PacketStage = PacketStage.SENT, **more: Any
) -> ForeignRule:
    """Return a rule of another program, about the second endpoint or about the cluster IP."""
    before = stage in (PacketStage.ASKED, PacketStage.OWN_ASKED)
    about = {"frontend": WEB} if before else {"endpoint": end(REMOTE)}
    fields = {"table": "inet policy", "chain": "forward", "handle": 3, **about, **more}
    return ForeignRule(effect=effect, stage=stage, **fields)
