"""
One sample of what ``explain`` says for each code: message, facts behind it, where to look.

After a wanted change: ``pytest tests/golden --update-golden``, then read the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from support.insight import SHOP as MANIFESTS
from support.insight import changed, explained, shop, sight
from support.onnode import (
    CLIENT,
    LOCAL,
    NEXT_HOP,
    REMOTE,
    SETTINGS,
    SHOP,
    UPLINK,
    WEB,
    end,
    held,
    joined,
    routes,
    rule_of,
    traffic,
)
from support.processes.commands import endpoint_slice, node_object, service

from nfproxy.insight.diagnosis import Code, Diagnosis
from nfproxy.insight.explanation import Explanation
from nfproxy.insight.nodefacts import (
    ConnectionCounts,
    HealthAnswer,
    HeldState,
    InterfaceProgram,
    NodeLink,
    PacketStage,
    ProbeAnswer,
    ProbeResult,
    ProxyRuns,
    Route,
    RuleEffect,
    TrackedUse,
)
from nfproxy.model.addresses import FAMILIES, Family, parse_address
from nfproxy.model.nodeconfig import ServiceLimits
from nfproxy.nft.schema import NEXT_TABLE
from nfproxy.nft.stages import FamilyTables
from nfproxy.reconcile.observed import Observed

SECOND = frozenset({NEXT_TABLE})

PIECE = endpoint_slice("web", "10.244.1.5")
NODE_PORT = {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}
PROXY_MODE = {"loadBalancer": {"ingress": [{"ip": "203.0.113.7", "ipMode": "Proxy"}]}}
SILENT = ConnectionCounts(unanswered=2, overdue=2, waiting={CLIENT: 2})
CNI0 = NodeLink(3, "cni0", 1500, "bridge")
BRIDGE_PORTS = (NodeLink(8, "veth8", 1500, "veth", 3, False), NodeLink(9, "veth9", 1500, "veth", 3))


def objects(*some: dict[str, Any], ask: str = "web", **flags: str) -> Explanation:
    """Explain a Service, by default without anything wrong but for what is given."""
    return explained(ask, sight(node_object(), *some, **flags))


def shared(what: str, name: str, **spec: Any) -> Explanation:
    return explained(what, sight(*changed(shop(), name, **spec)))


def hints(*zones: str, node: str = "") -> Explanation:
    here = node_object()
    if node:
        here["metadata"]["labels"] = {"topology.kubernetes.io/zone": node}
    piece = PIECE | {
        "endpoints": [
            {"addresses": [f"10.244.1.{5 + n}"], "hints": {"forZones": [{"name": zone}]}}
            for n, zone in enumerate(zones)
        ]
    }
    return explained("web", sight(here, service(), piece))


def limited() -> Explanation:
    addresses = [f"203.0.113.{n}" for n in (7, 8, 9)]
    seen = sight(node_object(), service(externalIPs=addresses), PIECE)
    config = msgspec.structs.replace(seen.planner.config, limits=ServiceLimits(frontends=2))
    seen.planner.apply(seen.planner.reconfigure(config))
    return explained("web", seen)


def bridged(**port: Any) -> dict[bytes, Route]:
    first = msgspec.structs.replace(BRIDGE_PORTS[0], **port)
    way = Route(CNI0, mtu=1500, port=first, ports=(first, BRIDGE_PORTS[1]))
    return {**routes(), parse_address(LOCAL): way}


def settings(**some: Any) -> Any:
    return msgspec.structs.replace(SETTINGS, **some)


def way(**fields: Any) -> dict[bytes, Route]:
    return {**routes(), parse_address(REMOTE): Route(UPLINK, NEXT_HOP, **{"mtu": 1500, **fields})}


NO_ADDRESS = service(externalIPs=["203.0.113.9"])
#: What is asked of each code.
SAMPLES: dict[Code, Callable[[], Explanation]] = {
    Code.UNKNOWN_SERVICE: lambda: explained("shop/wbe", SHOP),
    Code.UNKNOWN_PORT: lambda: explained("shop/web:81", SHOP),
    Code.UNALLOCATED_ADDRESS: lambda: explained("10.96.0.77:80", SHOP),
    Code.NOT_A_SERVICE: lambda: explained("192.168.77.12:22", SHOP),
    Code.HEADLESS: lambda: explained("shop/peers", SHOP),
    Code.EXTERNAL_NAME: lambda: explained("shop/elsewhere", SHOP),
    Code.PROXIED_BY_OTHER: lambda: explained("shop/mesh", SHOP),
    Code.INVALID_FIELD: lambda: objects(service(port=99999), PIECE),
    Code.UNKNOWN_NODE: lambda: explained(
        "web", sight(service(internalTrafficPolicy="Local"), endpoint_slice("web", "10.244.2.5"))
    ),
    Code.NO_SLICES: lambda: explained("shop/orders", SHOP),
    Code.NO_ENDPOINTS: lambda: objects(service(), endpoint_slice("web")),
    Code.PORT_NOT_IN_SLICES: lambda: explained("shop/catalog", SHOP),
    Code.PORT_NAME_DIFFERS: lambda: explained("shop/billing", SHOP),
    Code.PORT_PROTOCOL_DIFFERS: lambda: objects(
        service(ports=[{"port": 53, "protocol": "UDP"}]), PIECE
    ),
    Code.NONE_READY: lambda: explained("shop/search", SHOP),
    Code.TERMINATING_ONLY: lambda: explained("shop/jobs", SHOP),
    Code.NO_LOCAL_EXTERNAL: lambda: explained("shop/audit", SHOP),
    Code.NO_LOCAL_INTERNAL: lambda: explained("shop/logs", SHOP),
    Code.HINTS_ELSEWHERE: lambda: hints("a", "b"),
    Code.HINTS_IGNORED: lambda: hints("a", "b", node="c"),
    Code.FAMILY_NOT_SERVED: lambda: objects(service(externalIPs=["2001:db8::9"]), PIECE),
    Code.FRONTEND_CONFLICT: lambda: explained("team-b/mail2", SHOP),
    Code.FRONTEND_REFUSED: lambda: objects(
        service(port=10256, externalIPs=["192.168.77.11"]), PIECE
    ),
    Code.ENDPOINT_IS_SERVICE: lambda: objects(
        service(), endpoint_slice("web", "10.96.0.1", port=80), ask="web"
    ),
    Code.FRONTEND_SHADOWS: lambda: objects(service(externalIPs=["192.168.77.11"]), PIECE),
    Code.SERVICE_LIMITED: limited,
    Code.EXTERNAL_IPS_OFF: lambda: objects(
        NO_ADDRESS, PIECE, feature_gates="AllowServiceExternalIPs=false"
    ),
    Code.NODE_PORT_LOOPBACK: lambda: explained("127.0.0.1:30080", SHOP),
    Code.NODE_PORT_OTHER_ADDRESS: lambda: objects(
        service(**NODE_PORT), PIECE, ask="192.168.77.11:30080", nodeport_addresses="10.9.0.0/16"
    ),
    Code.NO_LOAD_BALANCER: lambda: objects(service(type="LoadBalancer"), PIECE),
    Code.IP_MODE_PROXY: lambda: objects(
        service(type="LoadBalancer", status=PROXY_MODE), PIECE, ask="203.0.113.7:80"
    ),
    Code.CLUSTER_CIDR_MISSES_PODS: lambda: objects(service(), PIECE, cluster_cidr="10.245.0.0/16"),
    Code.CLUSTER_CIDR_HOLDS_NODE: lambda: objects(service(), PIECE, cluster_cidr="0.0.0.0/0"),
    Code.NO_CLUSTER_CIDR: lambda: objects(service(), PIECE, cluster_cidr=""),
    Code.KERNEL_DIFFERS: lambda: joined(
        held=held(msgspec.structs.replace(held().observed, shared_elements=set()))
    ),
    Code.NOT_PROGRAMMED: lambda: joined(held=HeldState(frozenset(FAMILIES), Observed(), {}, {})),
    Code.NO_NFPROXY: lambda: joined(runs=ProxyRuns()),
    Code.LAYOUT_CHANGE: lambda: joined(
        held=held(second={Family.IPV4: FamilyTables(SECOND, SECOND)}),
        runs=ProxyRuns(),
    ),
    Code.NFPROXY_SILENT: lambda: joined(runs=ProxyRuns("nfproxy (pid 9)", is_silent=True)),
    Code.OTHER_PROXY_RULES: lambda: joined(
        runs=ProxyRuns("process 1", "process 2", leftovers=("chains KUBE-…",))
    ),
    Code.HEALTH_CHECK_PORT: lambda: joined("shop/audit", health={32060: HealthAnswer(404)}),
    Code.CONNTRACK_FULL: lambda: joined(tracked=TrackedUse(262_144, 262_144)),
    Code.NO_ROUTE: lambda: joined(
        routes={**routes(), parse_address(REMOTE): Route(error="blackhole")}
    ),
    Code.POD_NOT_HERE: lambda: joined(
        routes={**routes(), parse_address(LOCAL): Route(UPLINK, NEXT_HOP, 1500, is_default=True)}
    ),
    Code.NO_NEIGHBOUR: lambda: joined(routes=way(is_answered=False)),
    Code.NO_HAIRPIN: lambda: joined(routes=bridged()),
    Code.BRIDGE_NETFILTER_OFF: lambda: joined(
        routes=bridged(), settings=settings(bridge_netfilter=dict.fromkeys(FAMILIES, False))
    ),
    Code.MTU_SMALLER: lambda: joined(routes=way(mtu=1450)),
    Code.UNANSWERED: lambda: joined(connections=traffic(remote=SILENT)),
    Code.ENDPOINT_REFUSES: lambda: joined(probes={end(REMOTE): ProbeAnswer(ProbeResult.REFUSED)}),
    Code.STALE_TCP: lambda: joined(
        connections=traffic(left=ConnectionCounts(open=3, clients={CLIENT: 3}))
    ),
    Code.AFFINITY_PINS: lambda: joined(held=held(remembered={end(LOCAL): 12})),
    Code.NOT_TRACKED: lambda: joined(
        rules=(rule_of(RuleEffect.NOT_TRACKED, PacketStage.ASKED, is_sure=True, packets=7),)
    ),
    Code.TRANSLATED_BY_OTHERS: lambda: joined(
        rules=(rule_of(RuleEffect.TRANSLATED, PacketStage.ASKED, is_sure=True, packets=7),)
    ),
    Code.SOURCE_CHANGED: lambda: joined(
        connections=traffic(remote=ConnectionCounts(unanswered=1, sources={b"\xcb\0q\xc8": 1})),
        own_addresses=frozenset({parse_address("192.168.77.11")}),
        rules=(rule_of(RuleEffect.SOURCE, packets=1),),
    ),
    Code.NOT_MASQUERADED: lambda: joined(
        connections={WEB._replace(address=b"", port=30080): {end(REMOTE): SILENT}},
        own_addresses=frozenset({parse_address("192.168.77.11")}),
    ),
    Code.DROPPED_BY_OTHERS: lambda: joined(
        rules=(rule_of(packets=7, comment="NetworkPolicy shop/deny-all", is_sure=True),)
    ),
    Code.REVERSE_PATH: lambda: joined(
        settings=settings(reverse_path_drops=9), arrived={WEB: 2}, turned_back=1
    ),
    Code.NOT_FOLLOWED: lambda: joined(
        programs=(InterfaceProgram("eth0", "a tc filter (u32) at ingress", takes_packets=True),)
    ),
    Code.LOST_ON_NODE: lambda: joined(arrived={WEB: 2}, rules=(rule_of(is_policy=True, handle=0),)),
    Code.FORWARD_POLICY: lambda: joined(
        settings=settings(forwarding=dict.fromkeys(FAMILIES, False))
    ),
}
#: It needs a client that is followed through the rules: ``explain/from-no-range.txt``.
ELSEWHERE = {Code.SOURCE_RANGE}


def lines(code: Code, found: Explanation) -> Iterator[str]:
    for one in found.findings:
        if one.code is code:
            yield from finding_lines(one)
            return
    raise AssertionError(f"no finding has code {code.value}")


def finding_lines(one: Diagnosis) -> Iterator[str]:
    yield f"{one.code.value}: {one.level.value}"
    yield f"  message  {one.message}"
    yield from (f"  because  {line}" for line in one.because)
    yield from (f"  look     {line}" for line in one.look)
    yield f"  brief    {one.brief}"


def test_each_code_has_a_sample() -> None:
    """A new code needs one, and so a reader for its words."""
    assert set(Code) - ELSEWHERE == set(SAMPLES)
    assert "SourceRange" in MANIFESTS.with_name("from-no-range.txt").read_text("utf-8")


def test_samples(pytestconfig: pytest.Config) -> None:
    parts = ("\n".join(lines(code, SAMPLES[code]())) for code in Code if code in SAMPLES)
    written = "\n\n".join(parts) + "\n"
    expected = MANIFESTS.with_name("findings.txt")
    if pytestconfig.getoption("update_golden"):
        expected.write_text(written, "utf-8")
    assert written == expected.read_text("utf-8")
