"""
Services and pods with addresses in 240.0.0.0/4, which some clouds give to clusters.

They are read as the API server sends them, and reached from every source.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from support.objects.api import decoded, slices, web
from support.packets.scenes import PORT, TARGET_PORT, Scene
from support.packets.sending import probe_many
from support.packets.steps import answers, protocols

from nfproxy.model.addresses import parse_prefix
from nfproxy.model.changes import Changes
from nfproxy.model.node import ServiceCIDR
from nfproxy.model.service import Protocol
from nfproxy.tools.lab import Addresses

RANGE, CLUSTER_IP, UNUSED = "240.96.0.0/16", "240.96.0.10", "240.96.0.99"
POD_IP = "250.10.0.5"
SOURCES = ("pod", "node", "outside")


@pytest.fixture
def far_range(scene: Scene) -> Iterator[None]:
    """A ServiceCIDR of that range."""
    cidr = ServiceCIDR("far", (parse_prefix(RANGE),))
    scene.proxy.apply(Changes(service_cidrs={"far": cidr}))
    yield
    scene.proxy.apply(Changes(service_cidrs={"far": None}))


def asked(scene: Scene, address: str, port: int, protocol: Protocol) -> set[str]:
    """Return who answers all sources."""
    probes = [scene.probe_to(source, address, port, protocol) for source in SOURCES]
    return set(answers(probe_many(probes)))


@protocols
@pytest.mark.usefixtures("far_range")
def test_a_cluster_ip_is_served(scene: Scene, protocol: Protocol) -> None:
    """So are its other ports refused, and the unused addresses of its range dropped."""
    service = web("web", Addresses(CLUSTER_IP, "fd00:10:96::e"))
    scene.program(*decoded(service, *slices(scene.remote)))

    assert asked(scene, CLUSTER_IP, PORT, protocol) == {scene.remote.name}
    assert asked(scene, CLUSTER_IP, PORT + 1, protocol) == {"refused"}
    assert asked(scene, UNUSED, PORT, protocol) == {"dropped"}


def test_a_pod_is_an_endpoint(scene: Scene) -> None:
    """Of a cluster IP in the range, too."""
    pod, node = scene.local, scene.node
    pod.add_address(f"{POD_IP}/32", as_source=False)
    node.add_route(POD_IP, interface=pod.interface)
    pods = slices(scene.local)
    for one in pods:
        if one["addressType"] == "IPv4":
            one["endpoints"][0]["addresses"] = [POD_IP]
    scene.program(*decoded(web("web", Addresses(CLUSTER_IP, "fd00:10:96::e")), *pods))
    for protocol in Protocol:
        with contextlib.closing(
            scene.responders.listen(pod, TARGET_PORT, protocol, addresses=[POD_IP], identity="far")
        ):
            assert asked(scene, CLUSTER_IP, PORT, protocol) == {"far"}
