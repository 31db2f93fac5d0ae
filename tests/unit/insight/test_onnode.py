"""What the node says of a Service: each cause by values, and none where nothing is wrong."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from support.insight import codes, explained, sight
from support.onnode import (
    BRIDGE,
    CLIENT,
    DESIRED,
    LOCAL,
    NEXT_HOP,
    PORTS,
    REMOTE,
    SETTINGS,
    SHOP,
    UPLINK,
    WEB,
    all_of_it,
    end,
    healthy,
    held,
    joined,
    result,
    routes,
    rule_of,
    traffic,
)
from support.processes.commands import endpoint_slice, node_object, service

from nfproxy.insight.explainwords import verdict_words
from nfproxy.insight.flowcauses import doubtful_endpoints
from nfproxy.insight.nodefacts import (
    ConnectionCounts,
    HealthAnswer,
    HeldState,
    InterfaceProgram,
    NodeLink,
    ProbeAnswer,
    ProbeResult,
    ProxyRuns,
    Route,
    TrackedUse,
)
from nfproxy.insight.onnode import on_node
from nfproxy.model.addresses import FAMILIES, Family, parse_address, parse_prefix
from nfproxy.reconcile.observed import Observed


@pytest.mark.parametrize("name", sorted(map(str, SHOP.details.services)))
def test_a_healthy_node_adds_nothing(name: str) -> None:
    assert codes(joined(name)) == codes(explained(name, SHOP))
    assert joined(name).conclusion == explained(name, SHOP).conclusion


def test_rows_are_filled() -> None:
    counts = ConnectionCounts(open=3, closing=1, source_changed=1)
    probes = {end(LOCAL): ProbeAnswer(ProbeResult.OK, 0.0004)}

    (port,) = joined(connections=traffic(local=counts), probes=probes).ports

    (first, *_), (row, other) = port.frontends, port.endpoints
    assert first.in_kernel is not None
    assert (first.in_kernel.state, first.new_connections) == ("equal", 42)
    assert first.in_kernel.endpoints == (f"{LOCAL}:8080", f"{REMOTE}:8080")
    assert row.connections is not None
    assert (row.connections.open, row.connections.closing) == (3, 1)
    assert row.probe is not None
    assert (row.probe.result, row.probe.ms) == ("ok", 0.4)
    assert other.route is not None
    assert (other.route.interface, other.route.via, other.route.mtu) == (
        "eth0",
        "192.168.77.12",
        1500,
    )
    assert other.connections is not None
    assert other.connections.open == 0


def test_what_was_not_looked_at_is_not_zero() -> None:
    (port,) = joined(held=None, connections=None, routes=None, settings=None, runs=None).ports
    assert port.frontends[0].in_kernel is None
    assert port.endpoints[0].connections is None
    assert port.endpoints[0].route is None


@pytest.mark.parametrize("error", ["blackhole", "no route"])
def test_no_route(error: str) -> None:
    some = joined(routes={**routes(), parse_address(REMOTE): Route(error=error)})
    every = joined(routes={address: Route(error=error) for address in routes()})

    assert result(some) == ("partly", ["fail NoRoute"])
    assert f"{REMOTE} ({error})" in some.findings[0].message
    assert result(every) == ("dropped", ["fail NoRoute", "fail NoRoute"])


def bridged(port: NodeLink | None = PORTS[0], bridge: NodeLink = BRIDGE) -> dict[bytes, Route]:
    way = Route(bridge, mtu=1500, port=port, ports=PORTS)
    return {**routes(), parse_address(LOCAL): way}


@pytest.mark.parametrize(
    ("port", "bridge", "found"),
    [
        (PORTS[0], BRIDGE, []),
        (None, BRIDGE, []),
        (msgspec.structs.replace(PORTS[0], hairpin=False), BRIDGE, ["warn NoHairpin"]),
        (
            msgspec.structs.replace(PORTS[0], hairpin=False),
            msgspec.structs.replace(BRIDGE, is_promiscuous=True),
            [],
        ),
    ],
)
def test_hairpin_mode(port: NodeLink | None, bridge: NodeLink, found: list[str]) -> None:
    assert codes(joined(routes=bridged(port, bridge))) == found


@pytest.mark.parametrize(
    ("value", "found"),
    [(True, []), (False, ["fail BridgeNetfilterOff"]), (None, ["fail BridgeNetfilterOff"])],
)
def test_bridged_packets_pass_by_netfilter(value: bool | None, found: list[str]) -> None:
    settings = msgspec.structs.replace(SETTINGS, bridge_netfilter=dict.fromkeys(FAMILIES, value))
    alone = Route(BRIDGE, mtu=1500, port=PORTS[0], ports=PORTS[:1])

    assert codes(joined(routes=bridged(), settings=settings)) == found
    # Without a bridge, or without another pod on it, that makes no difference.
    assert codes(joined(settings=settings)) == []
    routes_alone = {**routes(), parse_address(LOCAL): alone}
    assert codes(joined(routes=routes_alone, settings=settings)) == []


@pytest.mark.parametrize(
    ("mtu", "failed", "found"),
    [(1500, 15, []), (1450, 0, ["note MTUSmaller"]), (1450, 15, ["warn MTUSmaller"])],
)
def test_a_way_that_takes_smaller_packets(mtu: int, failed: int, found: list[str]) -> None:
    settings = msgspec.structs.replace(SETTINGS, fragments_failed=dict.fromkeys(FAMILIES, failed))
    ways = {**routes(), parse_address(REMOTE): Route(UPLINK, NEXT_HOP, mtu)}
    assert codes(joined(routes=ways, settings=settings)) == found
    assert codes(joined(routes=ways, settings=settings, pod_mtu=0)) == found
    small = {address: msgspec.structs.replace(way, mtu=mtu) for address, way in ways.items()}
    assert codes(joined(routes=small, settings=settings, pod_mtu=mtu)) == []


def test_a_node_that_forwards_nothing() -> None:
    off = msgspec.structs.replace(SETTINGS, forwarding=dict.fromkeys(FAMILIES, False))
    own = {address: Route(is_local=True) for address in routes()}
    assert result(joined(settings=off)) == ("dropped", ["fail ForwardPolicy"])
    one = routes() | {parse_address(LOCAL): Route(is_local=True)}
    assert result(joined(settings=off, routes=one)) == ("partly", ["fail ForwardPolicy"])
    assert "fail ForwardPolicy" not in codes(joined(settings=off, routes=own))


def test_connections_without_an_answer() -> None:
    silent = ConnectionCounts(unanswered=2, overdue=2, waiting={CLIENT: 2})
    fresh = ConnectionCounts(unanswered=2)
    slow = ConnectionCounts(open=5, unanswered=1, overdue=1, waiting={CLIENT: 1})
    fine = ConnectionCounts(open=3)

    found = joined(connections=traffic(local=fine, remote=silent))
    assert result(found) == ("partly", ["fail Unanswered"])
    assert found.findings[0].because == ("clients: 10.244.1.12 x2",)
    assert result(joined(connections=traffic(local=fine, remote=slow))) == (
        "works",
        ["warn Unanswered"],
    )
    assert result(joined(connections=traffic(local=silent, remote=silent)))[0] == "dropped"
    assert codes(joined(connections=traffic(local=fine, remote=fresh))) == []


def test_open_connections_to_an_endpoint_that_left() -> None:
    gone = ConnectionCounts(open=3, clients={CLIENT: 3})
    found = joined(connections=traffic(left=gone))
    assert result(found) == ("works", ["warn StaleTCP"])
    assert "10.244.2.99:8080" in found.findings[0].message
    assert found.ports[0].stale[0].clients == ("10.244.1.12",)
    assert codes(joined(connections=traffic(left=ConnectionCounts(closing=3)))) == []


def test_the_kernel_lacks_an_endpoint() -> None:
    observed = all_of_it()
    state = observed.frontends[WEB]
    observed.frontends[WEB] = state._replace(slot_ranges=(state.slot_ranges[0][:1], ()))

    found = joined(held=held(observed))

    assert result(found) == ("partly", ["fail KernelDiffers"])
    assert any(LOCAL in fact for fact in found.findings[0].because)


def test_the_kernel_lacks_a_frontend() -> None:
    observed = all_of_it()
    del observed.frontends[WEB]
    assert result(joined(held=held(observed))) == ("partly", ["fail NotProgrammed"])
    assert result(joined("10.96.0.10:80", held=held(observed))) == (
        "dropped",
        ["fail NotProgrammed"],
    )


@pytest.mark.parametrize(
    ("runs", "tables", "found"),
    [
        (ProxyRuns(), FAMILIES, "warn NobodyRuns"),
        (ProxyRuns(), (), "fail NobodyRuns"),
        (ProxyRuns(kube_proxy="process 7"), (), "warn NobodyRuns"),
        (ProxyRuns(hidden=True), FAMILIES, ""),
        (ProxyRuns(hidden=True), (), "fail NotProgrammed"),
        (ProxyRuns(nfproxy="process 1"), (), "fail NotProgrammed"),
    ],
)
def test_who_runs(runs: ProxyRuns, tables: tuple[Family, ...], found: str) -> None:
    state = held() if tables else HeldState(frozenset(), Observed(), {}, {})
    assert codes(joined(held=state, runs=runs)) == ([found] if found else [])


def test_a_dormant_table_is_named() -> None:
    """It looks complete, and the kernel does not use it."""
    asleep = msgspec.structs.replace(held(), dormant=frozenset({Family.IPV4}))
    assert codes(joined(held=asleep)) == ["fail NotProgrammed"]
    asleep = msgspec.structs.replace(held(), dormant=frozenset({Family.IPV6}))
    assert codes(joined(held=asleep)) == []


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (ProbeResult.OK, []),
        (ProbeResult.REFUSED, ["fail EndpointRefuses"]),
        (ProbeResult.TIMEOUT, ["fail Unanswered"]),
    ],
)
def test_probes(answer: ProbeResult, found: list[str]) -> None:
    probes = {end(LOCAL): ProbeAnswer(ProbeResult.OK, 0.001), end(REMOTE): ProbeAnswer(answer)}
    assert codes(joined(probes=probes, probed_all=True)) == found


def test_a_probe_that_was_not_asked_for_is_less_sure() -> None:
    """A NetworkPolicy may keep nodes out; a refusal is clear."""
    answers = {end(REMOTE): ProbeAnswer(ProbeResult.TIMEOUT)}
    assert codes(joined(probes=answers)) == ["warn Unanswered"]
    refused = {end(a): ProbeAnswer(ProbeResult.REFUSED) for a in (LOCAL, REMOTE)}
    assert result(joined(probes=refused)) == ("refused", ["fail EndpointRefuses"] * 2)


def test_connections_that_leave_no_trace() -> None:
    lost = joined(arrived={WEB: 2})
    assert result(lost) == ("dropped", ["fail LostOnNode"])
    policy = rule_of(is_policy=True, handle=0)
    named = joined(arrived={WEB: 2}, rules=(policy,))
    assert named.findings[0].because == (
        "policy drop of chain forward of table inet policy, for what no rule accepts",
    )
    assert codes(joined(rules=(policy,))) == ["note DroppedByOthers"]
    counted = rule_of(packets=9)
    assert codes(joined(rules=(counted,))) == ["warn DroppedByOthers"]
    every = tuple(
        rule_of(is_policy=True, is_sure=True, endpoint=end(one)) for one in (LOCAL, REMOTE)
    )
    assert result(joined(rules=every)) == ("dropped", ["fail ForwardPolicy"])
    assert result(joined(rules=every[:1])) == ("partly", ["fail ForwardPolicy"])


def test_packets_turned_back() -> None:
    settings = msgspec.structs.replace(SETTINGS, reverse_path_drops=9)
    assert codes(joined(settings=settings)) == ["note ReversePath"]
    now = joined(settings=settings, arrived={WEB: 2}, turned_back=1)
    assert result(now) == ("dropped", ["fail ReversePath"])
    open_ = traffic(local=ConnectionCounts(open=1))
    assert codes(joined(settings=settings, connections=open_)) == []


@pytest.mark.parametrize(
    ("used", "found"), [(80, []), (90, ["warn ConntrackFull"]), (100, ["fail ConntrackFull"])]
)
def test_the_table_of_connections_is_full(used: int, found: list[str]) -> None:
    assert codes(joined(tracked=TrackedUse(used, 100))) == found


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (HealthAnswer(503, is_ours=True), ""),
        (HealthAnswer(200, is_ours=True), "answers 200;"),
        (HealthAnswer(404), "another program has the port"),
        (HealthAnswer(), "does not answer"),
    ],
)
def test_health_check_node_ports(answer: HealthAnswer, said: str) -> None:
    found = joined("shop/audit", health={32060: answer})
    texts = [one.message for one in found.findings if one.code.value == "HealthCheckPort"]
    assert [said in text for text in texts] == [True] * bool(said)


def test_doubtful_endpoints() -> None:
    """Those without a connection, of a Service that clients have asked for."""
    ports = explained("shop/web", SHOP).ports
    assert set(doubtful_endpoints(ports, healthy())) == {end(LOCAL), end(REMOTE)}
    busy = healthy(connections=traffic(local=ConnectionCounts(closing=1)))
    assert list(doubtful_endpoints(ports, busy)) == [end(REMOTE)]
    quiet = HeldState(frozenset(FAMILIES), all_of_it(), {}, {})
    assert list(doubtful_endpoints(ports, healthy(held=quiet))) == []
    assert codes(joined(arrived={WEB: 0})) == []
    known = ConnectionCounts(closing=1)
    assert codes(joined(arrived={WEB: 2}, connections=traffic(local=known))) == []


def test_pods_that_lose_their_addresses() -> None:
    lost = ConnectionCounts(open=2, source_changed=2, masqueraded={CLIENT: 2})
    outside = ConnectionCounts(open=1, masqueraded={parse_address("192.168.77.100"): 1})
    found = joined(connections=traffic(local=lost))
    assert codes(found) == ["warn ClusterCIDRMissesPods"]
    assert "2 connections of this node's pods (10.244.1.12 x2)" in found.findings[0].message
    assert codes(joined(connections=traffic(local=outside))) == []


def test_session_affinity_that_pins_clients() -> None:
    def pinned(local: int, remote: int, **more: Any) -> list[str]:
        counts = {end(LOCAL): local, end(REMOTE): remote}
        return codes(joined(held=held(remembered=counts), **more))

    assert pinned(0, 0) == []
    assert pinned(6, 6) == []
    assert pinned(1, 0) == ["note AffinityPins"]
    assert pinned(12, 0) == ["warn AffinityPins"]
    silent = ConnectionCounts(unanswered=1, overdue=1, waiting={CLIENT: 1})
    assert pinned(6, 6, connections=traffic(remote=silent)) == [
        "fail Unanswered",
        "warn AffinityPins",
    ]


def test_node_ports_are_accepted_nowhere() -> None:
    """Addresses of interfaces count, too, and not those of the Node alone."""
    prefixes = {Family.IPV4: (parse_prefix("10.9.0.0/16"),)}
    config = msgspec.structs.replace(SHOP.config, node_port_prefixes=prefixes)
    for own, found in (
        ("192.168.77.11", ["warn NodePortOtherAddress"]),
        ("10.9.1.1", []),
    ):
        facts = healthy(own_addresses=frozenset({parse_address(own)}))
        assert codes(on_node(explained("shop/web", SHOP), facts, DESIRED, config)) == found


def test_programs_that_are_not_followed() -> None:
    """A network of eBPF programs is no fault; a filter that drops may be one."""
    some = tuple(InterfaceProgram(f"veth{n}", "a tc filter (bpf) at ingress") for n in range(6))
    quiet = joined(programs=some)
    assert result(quiet) == ("works", ["note NotFollowed"])
    assert "veth3 and 2 more" in quiet.findings[0].message
    takes = InterfaceProgram("eth0", "a tc filter (u32) at ingress", takes_packets=True)
    assert result(joined(programs=(takes, *some))) == ("works", ["warn NotFollowed"])


def test_a_pod_of_another_node_has_an_address_of_this_one() -> None:
    ways = {**routes(), parse_address(REMOTE): Route(is_local=True)}
    assert result(joined(routes=ways)) == ("partly", ["fail NoRoute"])
    here = {**routes(), parse_address(LOCAL): Route(is_local=True)}
    assert "fail NoRoute" not in codes(joined(routes=here))


def test_connections_that_are_not_masqueraded() -> None:
    """They should have this node's address: those of the node's own processes have it."""
    port = WEB._replace(address=b"", port=30080)
    lost = ConnectionCounts(unanswered=1, overdue=1, waiting={CLIENT: 1})
    changed = msgspec.structs.replace(lost, masqueraded={CLIENT: 1})
    own = frozenset({parse_address("192.168.77.11")})
    for counts, addresses, found in (
        (lost, own, ["fail Unanswered", "fail NotMasqueraded"]),
        (changed, own, ["fail Unanswered"]),
        (lost, own | {CLIENT}, ["fail Unanswered"]),
    ):
        connections = {port: {end(REMOTE): counts}}
        assert codes(joined(connections=connections, own_addresses=addresses)) == found


def test_nfproxy_runs_and_does_not_answer() -> None:
    runs = ProxyRuns("nfproxy (pid 9, node node-1)", is_silent=True)
    assert result(joined(runs=runs)) == ("works", ["warn NfproxySilent"])


def test_one_family_is_broken_and_the_other_works() -> None:
    """Also where the objects alone say so: the node adds nothing, and takes nothing away."""
    both = {"clusterIPs": ["10.96.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"]}
    six = endpoint_slice("web", "fd00:10:244:1::5", name="web-6")
    four = endpoint_slice("web", "10.244.1.5")
    off = msgspec.structs.replace(SETTINGS, forwarding={Family.IPV6: False, Family.IPV4: True})
    way = {parse_address("fd00:10:244:1::5"): Route(UPLINK, b"", 1500)}
    for pieces, facts, words in (
        ([four], healthy(), "IPv4 works; IPv6 REFUSES every connection"),
        ([four, six], healthy(settings=off, routes=way), "IPv4 works; IPv6 DROPS every connection"),
    ):
        seen = sight(node_object(), service(**both), *pieces)
        found = on_node(explained("web", seen), facts, None, seen.config)
        assert verdict_words(found) == words
