"""
loadBalancerSourceRanges: who may use a load-balancer IP, with real packets.

The outside client sends from two addresses, one of which is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from support.kernel import rules
from support.objects.model import service
from support.packets.allprotocols import SERVICE_PORTS, SLICE_PORTS
from support.packets.sending import Probe, probe_many
from support.packets.steps import (
    LOAD_BALANCER_IP,
    SHORT_S,
    Frontend,
    Proxy,
    Streams,
    answers,
    endpoints_of,
    everywhere,
    families,
    protocols,
    proxied,
    reached,
    target,
)
from support.traffic import Traffic

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.service import Protocol, Service
from nfproxy.tools.lab import Cluster, Host

CLIENT_ONLY = ("192.168.77.100/32", "fd77::100/128")
PODS = ("10.244.0.0/16", "fd00:10:244::/48")
UNDERLAY = ("192.168.77.0/24", "fd77::/64")
UNUSED = ("198.51.100.0/24", "2001:db8:198::/48")


def ask_all(
    cluster: Cluster, frontend: str, family: Family, *protocols: Protocol
) -> dict[str, str]:
    """
    Return what became of a connection from each source: served, or the verdict.

    Asks over some protocols, all three if none are given. Where they differ, it names each.
    """
    where = target(cluster, frontend, family)
    sources: dict[str, tuple[Host, str]] = {
        "client": (cluster.client, ""),
        "second": (cluster.client, cluster.client.addresses[1].of(family)),
        "pod": (cluster.pod(1, 1), ""),
        "node": (cluster.nodes[0], ""),
    }
    asked = [(name, protocol) for name in sources for protocol in protocols or Protocol]
    probes = [
        Probe(sources[name][0], *where, protocol, sources[name][1]) for name, protocol in asked
    ]
    seen: dict[str, set[str]] = {name: set() for name in sources}
    for (name, _), one in zip(asked, probe_many(probes, timeout_s=SHORT_S), strict=True):
        seen[name].add("served" if one.answered else one.verdict.value)
    return {name: ", ".join(sorted(words)) for name, words in seen.items()}


def expected(*served_sources: str, otherwise: str = "dropped") -> dict[str, str]:
    """Return the outcomes of `ask_all` if just the sources named are served."""
    return {
        name: "served" if name in served_sources else otherwise
        for name in ("client", "second", "pod", "node")
    }


ALL = expected("client", "second", "pod", "node")


def limited_to(ranges: Iterable[str], **fields: Any) -> Service:
    """Return a service over every protocol whose load-balancer IP is for some sources only."""
    return everywhere(ports=SERVICE_PORTS, source_ranges=ranges, **fields)


@families
@protocols
def test_only_sources_in_the_ranges_are_served(
    served: Cluster, family: Family, protocol: Protocol
) -> None:
    """Others are dropped, pods and the node among them, on the load-balancer IP alone."""
    web = everywhere(protocol=protocol, source_ranges=CLIENT_ONLY)
    with proxied(served, web, *endpoints_of("web", served.pods, protocol=protocol)):
        guarded = ask_all(served, Frontend.LOAD_BALANCER_IP, family, protocol)
        assert expected("client") == guarded
        for frontend in (Frontend.CLUSTER_IP, Frontend.EXTERNAL_IP, Frontend.NODE_PORT):
            assert ask_all(served, frontend, family, protocol) == ALL, frontend


@families
@pytest.mark.parametrize(
    ("ranges", "who"),
    [
        (PODS, ("pod",)),
        ((*PODS, *CLIENT_ONLY), ("pod", "client")),
        (UNDERLAY, ("client", "second", "node")),
        (UNUSED, ()),
        # nested and overlapping prefixes, one of them twice
        (
            (*UNDERLAY, *CLIENT_ONLY, *UNDERLAY, "192.168.77.96/29", "192.168.0.0/16"),
            ("client", "second", "node"),
        ),
        (
            ("192.168.77.100/31", "192.168.77.102/31", "fd77::100/127", "fd77::102/127"),
            ("client", "second"),
        ),
    ],
    ids=["pods", "pods and client", "underlay", "no client", "overlapping", "adjacent"],
)
def test_ranges(
    served: Cluster, family: Family, ranges: Sequence[str], who: tuple[str, ...]
) -> None:
    """A client in one of the ranges is served, however they overlap."""
    slices = endpoints_of("web", served.pods, ports=SLICE_PORTS)
    with proxied(served, limited_to(ranges), *slices):
        assert ask_all(served, Frontend.LOAD_BALANCER_IP, family) == expected(*who)


@pytest.mark.parametrize("index", [0, 1], ids=["IPv4 only", "IPv6 only"])
def test_ranges_of_one_family_leave_the_other_open(served: Cluster, index: int) -> None:
    """A list without a range of a family allows all clients there."""
    guarded, open_ = (Family.IPV4, Family.IPV6) if index == 0 else (Family.IPV6, Family.IPV4)
    slices = endpoints_of("web", served.pods, ports=SLICE_PORTS)
    with proxied(served, limited_to(CLIENT_ONLY[index : index + 1]), *slices):
        assert ask_all(served, Frontend.LOAD_BALANCER_IP, guarded) == expected("client")
        assert ask_all(served, Frontend.LOAD_BALANCER_IP, open_) == ALL


@families
def test_a_load_balancer_ip_on_the_node_is_allowed_with_the_node(
    served: Cluster, family: Family
) -> None:
    """It is then the source of what the node sends to it, so it goes with the node's address."""
    node = served.nodes[0]
    address = LOAD_BALANCER_IP.of(family)
    local = f"{address}/{32 if family is Family.IPV4 else 128}"
    node.add_address(local, "lo")
    try:
        node_range = "192.168.77.11/32" if family is Family.IPV4 else "fd77::11/128"
        client_range = CLIENT_ONLY[FAMILIES.index(family)]
        slices = endpoints_of("web", served.pods, ports=SLICE_PORTS)
        probes = [Probe(node, address, 80, protocol) for protocol in Protocol]
        with proxied(served, limited_to([client_range]), *slices) as proxy:
            for outcome in probe_many(probes):
                assert outcome.source_address == address
                assert outcome.dropped
            proxy.put(limited_to([client_range, node_range]))
            for outcome in probe_many(probes):
                assert outcome.source_address == address
                assert outcome.answered
    finally:
        node.remove_address(local, "lo")


@families
@protocols
def test_without_endpoints_allowed_sources_are_rejected(
    served: Cluster, family: Family, protocol: Protocol
) -> None:
    """The ranges come first: denied sources are dropped, and only allowed ones are refused."""
    web = everywhere(protocol=protocol, source_ranges=CLIENT_ONLY)
    with proxied(served, web) as proxy:
        guarded = ask_all(served, Frontend.LOAD_BALANCER_IP, family, protocol)
        assert expected() | {"client": "refused"} == guarded
        for frontend in (Frontend.CLUSTER_IP, Frontend.EXTERNAL_IP, Frontend.NODE_PORT):
            assert ask_all(served, frontend, family, protocol) == expected(otherwise="refused")
        # endpoints come, and go
        slices = endpoints_of("web", served.pods, protocol=protocol)
        proxy.put(*slices)
        guarded = ask_all(served, Frontend.LOAD_BALANCER_IP, family, protocol)
        assert expected("client") == guarded
        proxy.put(*endpoints_of("web", [], protocol=protocol))
        guarded = ask_all(served, Frontend.LOAD_BALANCER_IP, family, protocol)
        assert expected() | {"client": "refused"} == guarded


@families
@pytest.mark.parametrize("sticky", [None, 600], ids=["free", "sticky"])
def test_ranges_and_policy_local(served: Cluster, family: Family, sticky: int | None) -> None:
    """The ranges come before the traffic policy, for the short cut of pods and the node, too."""
    web = limited_to(CLIENT_ONLY, external_local=True, affinity_timeout_s=sticky)
    local = set(served.nodes[0].pods)
    where = target(served, Frontend.LOAD_BALANCER_IP, family)
    with proxied(served, web, *endpoints_of("web", served.pods, ports=SLICE_PORTS)) as proxy:
        assert ask_all(served, Frontend.LOAD_BALANCER_IP, family) == expected("client")
        assert reached(served.client, *where) <= local
        remote = served.nodes[1].pods.values()
        proxy.put(*endpoints_of("web", remote, ports=SLICE_PORTS))
        assert ask_all(served, Frontend.LOAD_BALANCER_IP, family) == expected()
        proxy.put(limited_to([*CLIENT_ONLY, *PODS], external_local=True))
        assert ask_all(served, Frontend.LOAD_BALANCER_IP, family) == expected("pod")


@families
def test_ranges_change_while_allowed_sources_send(served: Cluster, family: Family) -> None:
    """Who is allowed before and after a change loses nothing; who is not is dropped at once."""
    where = target(served, Frontend.LOAD_BALANCER_IP, family)
    index = FAMILIES.index(family)
    narrow, wide, apart, pods = (pair[index] for pair in (CLIENT_ONLY, UNDERLAY, UNUSED, PODS))
    nested = ("192.168.77.64/26", "fd77::100/120")[index]
    walk: list[tuple[Sequence[str], dict[str, str]]] = [
        ((), ALL),
        ((narrow,), expected("client")),
        ((narrow, apart), expected("client")),
        ((narrow, pods), expected("client", "pod")),
        ((wide,), expected("client", "second", "node")),
        ((wide, apart), expected("client", "second", "node")),
        ((nested,), expected("client", "second")),
        ((narrow,), expected("client")),
        ((), ALL),
        ((wide, pods), ALL),
        ((), ALL),
        ((narrow,), expected("client")),
    ]

    def services(ranges: Sequence[str]) -> list[Service]:
        return [
            service(
                protocol.word,
                cluster_ips=(f"10.96.0.{protocol}", f"fd00:10:96::{protocol}"),
                load_balancer_ips=LOAD_BALANCER_IP,
                protocol=protocol,
                source_ranges=ranges,
            )
            for protocol in Protocol
        ]

    slices = [
        piece
        for protocol in Protocol
        for piece in endpoints_of(protocol.word, served.pods, protocol=protocol)
    ]
    with proxied(served, *services(()), *slices) as proxy:
        streams = Streams(
            Traffic(served.client, *where, Protocol.UDP),
            Traffic(served.client, *where, Protocol.TCP, rate=200, held=2),
        )
        with streams:
            for ranges, outcomes in walk:
                proxy.put(*services(ranges))
                found = ask_all(served, Frontend.LOAD_BALANCER_IP, family)
                assert outcomes == found, ranges
                streams.run(40)
                proxy.tidy()
            assert outcomes == ask_all(served, Frontend.LOAD_BALANCER_IP, family)
        assert streams.lost == []


@families
def test_nothing_is_left_of_ranges_that_were_removed(served: Cluster, family: Family) -> None:
    """What lingers for packets on their way is gone after tidying."""
    with proxied(
        served, everywhere(source_ranges=CLIENT_ONLY), *endpoints_of("web", served.pods)
    ) as proxy:
        assert kernel_ranges(proxy, family)
        proxy.put(everywhere())
        proxy.clean_up()
        assert not kernel_ranges(proxy, family)


def kernel_ranges(proxy: Proxy, family: Family) -> bool:
    """Return whether the kernel holds any source range."""
    return "elements" in rules.listing(proxy.host, "set", family.table, "nfproxy", "source-ranges")


@families
def test_two_services_guard_one_address_apart(served: Cluster, family: Family) -> None:
    """Ranges belong to a port of a load-balancer IP, not to the address."""
    open_ = everywhere("open", port=81, node_port=0, cluster_ips=("10.96.0.9", "fd00:10:96::9"))
    web = everywhere(source_ranges=CLIENT_ONLY)
    slices = [*endpoints_of("web", served.pods), *endpoints_of("open", served.pods)]
    second = served.client.addresses[1].of(family)
    address = LOAD_BALANCER_IP.of(family)
    with proxied(served, web, open_, *slices):
        probes = [Probe(served.client, address, port, source_address=second) for port in (80, 81)]
        denied, served_one = probe_many(probes)
        assert answers([denied]) == ["dropped"]
        assert served_one.answered
