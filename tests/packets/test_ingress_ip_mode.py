"""
``ipMode`` of a load balancer's ingress addresses, with real packets.

They are read as the API server sends them. The address of mode Proxy belongs to a load balancer
out there, which is a process on another node here.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from support.objects.api import decoded, slices, web
from support.packets.scenes import CONFIG, LOAD_BALANCER_IP, PORT, Scene, table
from support.packets.steps import families

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.service import Protocol
from nfproxy.plan.frontends import FrontendKind
from nfproxy.tools.lab import Addresses

#: All sources send to it through node-1.
BALANCER_IP = Addresses("198.51.100.20", "2001:db8:1::20")
BALANCER = "load-balancer"
SOURCES = ("pod", "node", "outside", "far pod")
ANOTHER_CLIENT = ["203.0.113.0/24", "2001:db8:9::/64"]


@pytest.fixture(scope="module")
def scene(scene: Scene) -> Scene:
    """One lab for the module, with a load balancer on node-2."""
    outside = scene.cluster.nodes[1]
    for family in FAMILIES:
        outside.add_address(BALANCER_IP.of(family), as_source=False)
        scene.node.add_route(BALANCER_IP.of(family), via=outside.address(family))
    for protocol in Protocol:
        scene.responders.listen(outside, PORT, protocol, addresses=BALANCER_IP, identity=BALANCER)
    return scene


def ingress(mode: str | None) -> list[dict[str, Any]]:
    """Return the load balancer's addresses in one mode, None says nothing, and a name."""
    said = {} if mode is None else {"ipMode": mode}
    return [{"ip": ip, **said} for ip in BALANCER_IP] + [{"hostname": "balancer.example.org"}]


def at_balancer(scene: Scene, family: Family) -> set[str]:
    """Return, in words, what all sources get at the load balancer's address over each protocol."""
    address = BALANCER_IP.of(family)
    return set(
        scene.ask(
            *(
                scene.probe_to(source, address, PORT, protocol)
                for source in SOURCES
                for protocol in Protocol
            )
        )
    )


@pytest.mark.parametrize("local", [False, True], ids=["policy Cluster", "policy Local"])
@families
def test_an_address_of_mode_proxy_is_left_to_the_load_balancer(
    scene: Scene, local: bool, family: Family
) -> None:
    """With endpoints, without local ones and without any; an address of mode VIP beside it is."""
    vips = [{"ip": ip, "ipMode": "VIP"} for ip in LOAD_BALANCER_IP]
    service = web(
        ingress=[*ingress("Proxy"), *vips],
        externalTrafficPolicy="Local" if local else "Cluster",
    )
    for pieces, inside, outside in (
        (slices(scene.remote), "remote masqueraded", "dropped" if local else "remote masqueraded"),
        ([], "refused", "refused"),
    ):
        scene.program(*decoded(service, *pieces))
        assert {BALANCER} == at_balancer(scene, family)
        expected = table(node=(inside, inside), outside=(inside, outside))
        for protocol in Protocol:
            assert expected == scene.reached(expected, family, protocol)


@families
def test_the_mode_of_an_address_changes(scene: Scene, family: Family) -> None:
    """VIP, which is also meant where nothing is said, takes the address over; Proxy lets go."""
    endpoints = slices(scene.remote)
    for mode in ("Proxy", None, "Proxy", "VIP", "Proxy"):
        scene.program(*decoded(web(ingress=ingress(mode)), *endpoints))
        expected = BALANCER if mode == "Proxy" else "remote masqueraded"
        assert {expected} == at_balancer(scene, family), mode


@families
def test_source_ranges_do_not_concern_an_address_of_mode_proxy(
    scene: Scene, family: Family
) -> None:
    """Whom to serve is then the load balancer's decision."""
    endpoints = slices(scene.remote)
    for mode, expected in (("VIP", "dropped"), ("Proxy", BALANCER)):
        service = web(ingress=ingress(mode), loadBalancerSourceRanges=ANOTHER_CLIENT)
        scene.program(*decoded(service, *endpoints))
        assert {expected} == at_balancer(scene, family)


ROUTING = msgspec.structs.replace(CONFIG, router_ips=True)
DNAT = {"remote", "remote masqueraded"}
INSIDE, OUTSIDE = ("pod", "node"), ("outside",)


def asked(scene: Scene, family: Family, sources: tuple[str, ...]) -> set[str]:
    """Return what some sources get at the load balancer's address over every protocol."""
    address = BALANCER_IP.of(family)
    return set(scene.ask(*(scene.probe_to(s, address, PORT, p) for s in sources for p in Protocol)))


@families
def test_an_address_of_mode_router_is_routed_where_there_is_no_endpoint(
    scene: Scene, family: Family
) -> None:
    """All clients get endpoints where there are some (KEP-6272); the gate off leaves it alone."""
    endpoints = slices(scene.remote)
    cluster = web(ingress=ingress("Router"))
    local = web(ingress=ingress("Router"), externalTrafficPolicy="Local")
    guarded = web(ingress=ingress("Router"), loadBalancerSourceRanges=ANOTHER_CLIENT)
    guarded_local = web(
        ingress=ingress("Router"),
        externalTrafficPolicy="Local",
        loadBalancerSourceRanges=ANOTHER_CLIENT,
    )
    clients = (*INSIDE, *OUTSIDE)
    for _ in range(2):  # each state follows each other one
        scene.program(*decoded(cluster, *endpoints), config=ROUTING)
        assert asked(scene, family, clients) == {"remote masqueraded"}
        scene.program(*decoded(cluster), config=ROUTING)
        assert asked(scene, family, clients) == {BALANCER}
        scene.program(*decoded(local, *endpoints), config=ROUTING)
        assert asked(scene, family, INSIDE) <= DNAT
        assert asked(scene, family, OUTSIDE) == {BALANCER}
        scene.program(*decoded(guarded, *endpoints), config=ROUTING)
        assert asked(scene, family, clients) == {"dropped"}
        scene.program(*decoded(guarded_local, *endpoints), config=ROUTING)
        assert asked(scene, family, OUTSIDE) == {"dropped"}
        scene.program(*decoded(local), config=ROUTING)
        assert asked(scene, family, clients) == {BALANCER}
        scene.program(*decoded(local, *endpoints))  # gate off
        assert asked(scene, family, clients) == {BALANCER}


@families
def test_other_addresses_of_a_service_with_mode_router_are_as_ever(
    scene: Scene, family: Family
) -> None:
    """They reject without endpoints, and drop without local ones."""
    service = web(ingress=ingress("Router"), externalTrafficPolicy="Local")
    for pieces, inside, outside in (
        (slices(scene.remote), "remote masqueraded", "dropped"),
        ([], "refused", "refused"),
    ):
        scene.program(*decoded(service, *pieces), config=ROUTING)
        every = table(node=(inside, inside), outside=(inside, outside))
        expected = {
            key: value
            for key, value in every.items()
            if key[1] is not FrontendKind.LOAD_BALANCER_IP
        }
        assert expected == scene.reached(expected, family, Protocol.TCP)
