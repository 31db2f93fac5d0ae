"""Who gets an address and port that two services ask for, with real packets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.objects.model import gone, service
from support.packets.steps import (
    CLUSTER_IP,
    EXTERNAL_IP,
    LOAD_BALANCER_IP,
    NODE_PORT,
    Frontend,
    families,
    proxied,
    reached,
    slice_of,
    target,
)

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.service import Service
from nfproxy.tools.lab import Cluster

A, B, C, D = "pod-1-1", "pod-1-2", "pod-2-1", "pod-2-2"
REFUSED = {"refused"}


Claims = Callable[[str, str], Service]


def claim(frontend: str) -> Claims:
    """Return what makes a service with one frontend beside its cluster IP."""

    def make(name: str, created: str) -> Service:
        last = {"first": 11, "second": 12, "third": 13}[name]
        fields: dict[str, dict[str, Any]] = {
            Frontend.LOAD_BALANCER_IP: {"load_balancer_ips": LOAD_BALANCER_IP},
            Frontend.EXTERNAL_IP: {"external_ips": EXTERNAL_IP},
            Frontend.NODE_PORT: {"node_port": NODE_PORT},
        }
        addresses = (f"10.96.0.{last}", f"fd00:10:96::{last}")
        return service(name, cluster_ips=addresses, created=created, **fields[frontend])

    return make


@families
@pytest.mark.parametrize("frontend", Frontend.OUTER)
def test_two_services_ask_for_one_frontend(served: Cluster, family: Family, frontend: str) -> None:
    """The older has it, then the lower name; when it goes the next one takes over at once."""
    make = claim(frontend)
    where = target(served, frontend, family)

    def first(created: str) -> Service:
        return make("first", created)

    def second(created: str) -> Service:
        return make("second", created)

    pieces = [
        slice_of(served, family, {A: {}, C: {}}, name="first", service_name="first"),
        slice_of(served, family, {B: {}, C: {}, D: {}}, name="second", service_name="second"),
        slice_of(served, family, {D: {}}, name="third", service_name="third"),
    ]
    of_first, of_second = {A, C}, {B, C, D}
    with proxied(served, *pieces) as proxy:

        def check(expected: set[str]) -> None:
            assert reached(served.client, *where) == expected
            # the cluster IPs are each service's own
            for last, own in ((11, of_first), (12, of_second)):
                name = {11: "first", 12: "second"}[last]
                if any(known.name == name for known in proxy.planner.services):
                    address = (f"10.96.0.{last}", f"fd00:10:96::{last}")[FAMILIES.index(family)]
                    assert reached(served.client, address, 80) == own

        proxy.put(second("2026-02-02"))
        check(of_second)
        proxy.put(first("2026-03-03"))  # younger: no change
        check(of_second)
        proxy.put(first("2026-01-01"))  # created again, and older by its timestamp
        check(of_first)
        proxy.put(first("2026-02-02"))  # as old: the name decides
        check(of_first)
        proxy.put(make("third", "2026-01-31"))
        check({D})
        proxy.apply(gone(make("third", "")))
        check(of_first)
        proxy.apply(gone(first("")))
        check(of_second)
        proxy.put(first("2026-02-02"))
        check(of_first)
        proxy.clean_up()
        check(of_first)
        proxy.put(service("first", cluster_ips=("10.96.0.11", "fd00:10:96::11")))  # lets go of it
        check(of_second)
        proxy.apply(gone(second("")))
        proxy.clean_up()
        assert reached(served.client, *where, times=4) != of_second


@families
def test_a_losing_service_without_endpoints_does_no_harm(served: Cluster, family: Family) -> None:
    """Only the winner's endpoints count, even where it has none and the loser has some."""
    make = claim(Frontend.LOAD_BALANCER_IP)
    where = target(served, Frontend.LOAD_BALANCER_IP, family)
    winner, loser = make("first", "2026-01-01"), make("second", "2026-02-02")
    piece = slice_of(served, family, {A: {}}, service_name="second")
    with proxied(served, loser, piece) as proxy:
        assert reached(served.client, *where, times=4) == {A}
        proxy.put(winner)
        assert reached(served.client, *where, times=4) == REFUSED
        proxy.apply(gone(winner))
        assert reached(served.client, *where, times=4) == {A}


@families
def test_an_external_ip_on_the_node_wins_over_a_node_port(served: Cluster, family: Family) -> None:
    """An address is looked up first, and the node port of the same number after it."""
    node = served.nodes[0]
    by_port = service("by-port", cluster_ips=CLUSTER_IP, node_port=NODE_PORT)
    by_address = service(
        "by-address",
        cluster_ips=("10.96.0.9", "fd00:10:96::9"),
        port=NODE_PORT,
        external_ips=[node.address(family)],
    )
    pieces = [
        slice_of(served, family, {A: {}}, name="one", service_name="by-port"),
        slice_of(served, family, {C: {}}, name="two", service_name="by-address"),
    ]
    with proxied(served, by_port, by_address, *pieces) as proxy:
        assert reached(served.client, node.address(family), NODE_PORT, times=8) == {C}
        proxy.apply(gone(by_address))
        assert reached(served.client, node.address(family), NODE_PORT, times=8) == {A}


@families
@pytest.mark.parametrize("field", ["external_ips", "load_balancer_ips"])
def test_a_cluster_ip_is_its_own_service_s_whatever_the_ages(
    served: Cluster, family: Family, field: str
) -> None:
    """Also where the other Service is older, and where the cluster IP's was made again."""
    victim = service("victim", cluster_ips=CLUSTER_IP, created="2026-06-01")
    mallory = service(
        "mallory",
        cluster_ips=("10.96.0.66", "fd00:10:96::66"),
        created="2020-01-01",
        **{field: CLUSTER_IP},
    )
    pieces = [
        slice_of(served, family, {A: {}}, name="one", service_name="victim"),
        slice_of(served, family, {B: {}, C: {}, D: {}}, name="two", service_name="mallory"),
    ]
    where = target(served, Frontend.CLUSTER_IP, family)
    pod = served.pod(1, 2)
    with proxied(served, mallory, victim, *pieces) as proxy:
        assert reached(pod, *where, times=8) == {A}
        proxy.apply(gone(victim))
        proxy.put(victim)
        assert reached(pod, *where, times=8) == {A}
        proxy.apply(gone(pieces[0]))  # refused, and not another tenant's
        assert reached(pod, *where, times=8) == REFUSED
        proxy.apply(gone(mallory))
        proxy.put(pieces[0], mallory)
        assert reached(pod, *where, times=8) == {A}
