"""
Which endpoints a connection may be sent to, with real packets.

Hints, conditions, duplicates and several slices, over TCP, UDP and SCTP alike. Two pods on each
of two nodes: `A` and `B` on the node under test, `C` and `D` on the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest
from support.objects.model import endpoint_slice, gone, service
from support.packets.allprotocols import SERVICE_PORTS, SLICE_PORTS, assert_reached
from support.packets.sending import repeat
from support.packets.steps import (
    CLUSTER_IP,
    OTHER_CLUSTER_IP,
    Frontend,
    at,
    endpoints_of,
    everywhere,
    families,
    node_config,
    proxied,
    slice_of,
    target,
)

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.service import Protocol, Service
from nfproxy.tools.lab import Cluster, Host

A, B, C, D = "pod-1-1", "pod-1-2", "pod-2-1", "pod-2-2"
ALL = {A, B, C, D}
REFUSED = {"refused"}


def web(**fields: Any) -> Service:
    """Return a service with every kind of frontend over every protocol."""
    return everywhere(ports=SERVICE_PORTS, **fields)


def piece(
    cluster: Cluster, family: Family, endpoints: dict[str, dict[str, Any]], **fields: Any
) -> EndpointSlice:
    """Return a slice of it with some pods, each with its conditions and hints."""
    return slice_of(cluster, family, endpoints, ports=SLICE_PORTS, **fields)


class Case(NamedTuple):
    """Conditions and hints of endpoints, by pod, and who serves with policy Cluster and Local."""

    endpoints: dict[str, dict[str, Any]]
    cluster: set[str]
    local: set[str]
    zone: str = "a"


def hints(*, zones: Iterable[str] = (), nodes: Iterable[str] = (), **more: bool) -> dict[str, Any]:
    """Return the hints of one endpoint, and conditions."""
    return {"zones": tuple(zones), "nodes": tuple(nodes), **more}


ZONES = {
    A: hints(zones="a"),
    B: hints(zones="b"),
    C: hints(zones="a"),
    D: hints(zones="b"),
}
NODES = {
    A: hints(nodes=["node-1"]),
    B: hints(nodes=["node-2"]),
    C: hints(nodes=["node-1", "node-2"]),
    D: hints(nodes=["node-3"]),
}
#: Both; the nodes' say A and C, the zones' A, B and C.
BOTH = {
    A: hints(zones="a", nodes=["node-1"]),
    B: hints(zones="ab", nodes=["node-2"]),
    C: hints(zones="a", nodes=["node-1"]),
    D: hints(zones="b", nodes=["node-2"]),
}
UNREADY: dict[str, Any] = {"ready": False, "serving": False}
ENDING: dict[str, Any] = {"ready": False, "serving": True, "terminating": True}
ENDED: dict[str, Any] = {"ready": False, "serving": False, "terminating": True}
STARTING: dict[str, Any] = {"ready": False, "serving": True}

HINTS = {
    "same zone": Case(ZONES, {A, C}, {A, B}),
    "other zone": Case(ZONES, {B, D}, {A, B}, zone="b"),
    "several zones": Case(ZONES | {D: hints(zones="bca")}, {A, C, D}, {A, B}),
    "one without a zone": Case(ZONES | {D: {}}, ALL, {A, B}),
    "none for our zone": Case(ZONES, ALL, {A, B}, zone="c"),
    "node without a zone": Case(ZONES, ALL, {A, B}, zone=""),
    "same node": Case(NODES, {A, C}, {A, B}),
    "one without a node": Case(NODES | {D: {}}, ALL, {A, B}),
    "none for our node": Case({pod: hints(nodes=["node-2"]) for pod in (A, B, C, D)}, ALL, {A, B}),
    "node before zone": Case(BOTH, {A, C}, {A, B}),
    "one without a node, then zone": Case(BOTH | {A: hints(zones="a")}, {A, B, C}, {A, B}),
    "none for our node, then zone": Case(
        {pod: hint | {"nodes": ("node-2",)} for pod, hint in BOTH.items()}, {A, B, C}, {A, B}
    ),
    "both levels fail": Case(
        {pod: hint | {"nodes": ("node-2",)} for pod, hint in BOTH.items()},
        ALL,
        {A, B},
        zone="c",
    ),
    "node hints with zone missing": Case(BOTH | {D: hints(nodes=["node-2"])}, {A, C}, {A, B}),
    "unready ones without hints": Case(ZONES | {D: UNREADY}, {A, C}, {A, B}),
    "ending ones without hints": Case(ZONES | {D: ENDING}, {A, C}, {A, B}),
    "only an unready one for our zone": Case(
        {A: hints(zones="a", **UNREADY), B: hints(zones="b"), D: hints(zones="b")}, {B, D}, {B}
    ),
    "hints of ending endpoints do not count": Case(
        {pod: hint | ENDING for pod, hint in ZONES.items()}, ALL, {A, B}
    ),
    "all local ones are hinted elsewhere": Case(
        {A: hints(zones="b"), B: hints(zones="b"), C: hints(zones="a")}, {C}, {A, B}
    ),
}

CONDITIONS = {
    "ready before ending": Case({A: {}, B: ENDING, C: {}, D: ENDING}, {A, C}, {A}),
    "ending where none is ready": Case({A: ENDING, B: ENDED, C: ENDING}, {A, C}, {A}),
    "local ending, remote ready": Case({A: ENDING, B: UNREADY, C: {}}, {C}, {A}),
    "local ready, remote ending": Case({A: {}, C: ENDING}, {A}, {A}),
    "local ended, remote ending": Case({A: ENDED, C: ENDING}, {C}, {"dropped"}),
    "local unready, remote ready": Case({A: UNREADY, B: STARTING, C: {}}, {C}, {"dropped"}),
    "not yet ready is never used": Case({A: STARTING, C: STARTING, D: {}}, {D}, {"dropped"}),
    "starting is no fallback": Case({A: STARTING, B: ENDING, C: STARTING}, {B}, {B}),
    "none": Case({A: STARTING, B: UNREADY, C: ENDED}, REFUSED, REFUSED),
    "ready and terminating (published not ready)": Case(
        {A: {"ready": True, "serving": False, "terminating": True}, B: ENDING, C: {}}, {A, C}, {A}
    ),
    "ready although not serving": Case({A: {"serving": False}, C: {}}, {A, C}, {A}),
}


@families
@pytest.mark.parametrize("case", [*HINTS.values(), *CONDITIONS.values()], ids=[*HINTS, *CONDITIONS])
def test_who_serves(served: Cluster, family: Family, case: Case) -> None:
    """Policies Cluster and Local choose apart; with Local the short cut has the cluster list."""
    local = web(external_local=True, internal_local=True)
    inner, outer = (
        target(served, kind, family) for kind in (Frontend.CLUSTER_IP, Frontend.NODE_PORT)
    )
    endpoints = piece(served, family, case.endpoints)
    with proxied(served, web(), endpoints, zone=case.zone) as proxy:
        assert_reached(case.cluster, served.client, *inner)
        assert_reached(case.cluster, served.client, *outer)
        proxy.put(local)
        assert_reached(case.local, served.pod(1, 1), *inner)
        assert_reached(case.local, served.client, *outer)
        assert_reached(case.cluster, served.pod(1, 1), *outer)
        assert_reached(case.cluster, served.nodes[0], *outer)


@families
def test_the_zone_of_the_node_changes(served: Cluster, family: Family) -> None:
    """Services with hints follow the node's zone label; those without do not care."""
    plain = service("plain", cluster_ips=OTHER_CLUSTER_IP, ports=SERVICE_PORTS)
    pieces = [piece(served, family, ZONES), *endpoints_of("plain", served.pods, ports=SLICE_PORTS)]
    where = target(served, Frontend.CLUSTER_IP, family)
    other = OTHER_CLUSTER_IP.of(family)
    with proxied(served, web(), plain, *pieces) as proxy:
        assert_reached(ALL, served.client, *where)
        for zone, serving in (("a", {A, C}), ("b", {B, D}), ("c", ALL), ("a", {A, C}), ("", ALL)):
            proxy.reconfigure(node_config(zone=zone))
            assert_reached(serving, served.client, *where)
            assert_reached(ALL, served.client, other, 80)


@families
def test_hints_come_and_go(served: Cluster, family: Family) -> None:
    """Each change of a slice decides again, down to one hint."""
    where = target(served, Frontend.CLUSTER_IP, family)
    with proxied(served, web(), piece(served, family, ZONES), zone="a") as proxy:
        assert_reached({A, C}, served.client, *where)
        for endpoints, serving in (
            (ZONES | {B: hints()}, ALL),
            (ZONES | {B: hints(zones="a")}, {A, B, C}),
            (dict.fromkeys(ZONES, hints()), ALL),
            (NODES, {A, C}),
            (ZONES, {A, C}),
        ):
            proxy.put(piece(served, family, endpoints))
            assert_reached(serving, served.client, *where)


@families
@pytest.mark.parametrize("ending_first", [True, False], ids=["ending first", "ready first"])
def test_of_duplicates_the_one_that_does_not_terminate_counts(
    served: Cluster, family: Family, ending_first: bool
) -> None:
    """An address may be used again while its old pod ends, in whatever slices."""
    names = ("one", "two") if ending_first else ("two", "one")
    ending = piece(served, family, {A: ENDED, B: ENDED, C: ENDING}, name=names[0])
    ready = piece(served, family, {A: {}, D: {}}, name=names[1])
    where = target(served, Frontend.CLUSTER_IP, family)
    with proxied(served, web(), ending, ready) as proxy:
        assert_reached({A, D}, served.client, *where)
        proxy.apply(gone(ready))
        assert_reached({C}, served.client, *where)
        proxy.put(ready)
        assert_reached({A, D}, served.client, *where)
        proxy.apply(gone(ending))
        assert_reached({A, D}, served.client, *where)


@families
def test_duplicates_get_one_share(served: Cluster, family: Family) -> None:
    """An endpoint listed three times over slices, and twice in one, is drawn as often as others."""
    twice = [at(served.host(A), family)] * 2
    pieces = [
        piece(served, family, {A: {}}, name="one"),
        endpoint_slice("web", *twice, name="two", family=family, ports=SLICE_PORTS),
        piece(served, family, {A: {}, C: {}}, name="three"),
    ]
    where = target(served, Frontend.CLUSTER_IP, family)
    with proxied(served, web(), *pieces):
        for protocol in Protocol:
            found = repeat(600, served.client, *where, protocol)
            assert set(found) == {A, C}
            assert 214 < found[A] < 386  # seven times the deviation of a fair coin


@families
def test_a_slice_goes_while_another_lists_its_endpoint(served: Cluster, family: Family) -> None:
    """An endpoint stays as long as any slice has it, and its hairpin rule with it."""
    first = piece(served, family, {A: {}, B: {}}, name="one")
    second = piece(served, family, {A: {}, C: {}}, name="two")
    where = target(served, Frontend.CLUSTER_IP, family)
    with proxied(served, web(), first, second) as proxy:
        assert_reached({A, B, C}, served.client, *where)
        proxy.apply(gone(first))
        assert_reached({A, C}, served.client, *where)
        assert_reached({A, C}, served.host(A), *where)
        proxy.put(first)
        assert_reached({A, B, C}, served.client, *where)
        proxy.apply(gone(second))
        assert_reached({A, B}, served.client, *where)
        proxy.apply(gone(first))
        assert_reached(REFUSED, served.client, *where)


@families
def test_endpoints_move_between_slices(served: Cluster, family: Family) -> None:
    """Slices are rearranged without a change of what is served, in one batch or two."""
    where = target(served, Frontend.CLUSTER_IP, family)
    first = piece(served, family, {A: {}, B: {}}, name="one")
    second = piece(served, family, {C: {}, D: {}}, name="two")
    with proxied(served, web(), first, second) as proxy:
        assert_reached(ALL, served.client, *where)
        proxy.put(
            piece(served, family, {C: {}, B: {}}, name="one"),
            piece(served, family, {A: {}, D: {}}, name="two"),
        )
        assert_reached(ALL, served.client, *where)
        assert proxy.report.operations == 0


@families
def test_a_slice_changes_its_service(served: Cluster, family: Family) -> None:
    """Its label decides whose endpoints it has; slices may be there before their service."""
    other = service("other", cluster_ips=OTHER_CLUSTER_IP, ports=SERVICE_PORTS)
    here, there = CLUSTER_IP.of(family), OTHER_CLUSTER_IP.of(family)
    kept = piece(served, family, {A: {}}, name="kept")
    with proxied(served, kept, piece(served, family, {C: {}, D: {}})) as proxy:
        proxy.put(web(), other)
        assert_reached({A, C, D}, served.client, here, 80)
        assert_reached(REFUSED, served.client, there, 80)
        proxy.put(piece(served, family, {C: {}, D: {}}, service_name="other"))
        assert_reached({A}, served.client, here, 80)
        assert_reached({C, D}, served.client, there, 80)


@families
def test_endpoints_of_one_family_only(served: Cluster, family: Family) -> None:
    """Families are apart: one is served, the other has no endpoints."""
    other = next(each for each in FAMILIES if each is not family)
    sources: tuple[Host, ...] = (served.client, served.pod(1, 1), served.nodes[0])
    with proxied(served, web(), piece(served, family, {A: {}, C: {}})):
        for source in sources:
            assert_reached({A, C}, source, CLUSTER_IP.of(family), 80)
            assert_reached(REFUSED, source, CLUSTER_IP.of(other), 80)
