"""
Services and slices that are others' business, with real packets.

They are read as the API server sends them. The node has every address of the Service ``web``, and
a process of its own listens there: it answers wherever no Service is in its way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from support.objects.api import decoded, slices, web
from support.packets.scenes import (
    CLUSTER_IP,
    EXTERNAL_IP,
    LOAD_BALANCER_IP,
    NODE_PORT,
    PORT,
    Scene,
    table,
)
from support.packets.sending import probe_many
from support.packets.steps import answers, families

from nfproxy.model.addresses import Family, parse_prefix
from nfproxy.model.changes import Changes
from nfproxy.model.node import ServiceCIDR
from nfproxy.model.service import Protocol
from nfproxy.plan.frontends import FrontendKind
from nfproxy.tools.lab import Addresses

OTHER_CLUSTER_IP = Addresses("10.96.0.2", "fd00:10:96::2")
SERVICE_CIDRS = Addresses("10.96.0.0/16", "fd00:10:96::/112")
SOURCES = ("pod", "node", "outside", "far pod")
HOST = "host-process"

PROXY_NAME = "service.kubernetes.io/service-proxy-name"
HEADLESS = "service.kubernetes.io/headless"

#: What makes a Service one that kube-proxy ignores, whatever else it says.
IGNORED: dict[str, dict[str, Any]] = {
    "headless": {"clusterIP": "None", "clusterIPs": ["None"]},
    "ExternalName": {"type": "ExternalName", "externalName": "example.org"},
    "service-proxy-name": {"labels": {PROXY_NAME: "other"}},
    "service-proxy-name, empty": {"labels": {PROXY_NAME: ""}},
}
ignored = pytest.mark.parametrize("fields", IGNORED.values(), ids=IGNORED)


@pytest.fixture(scope="module")
def scene(scene: Scene) -> Iterator[Scene]:
    """One lab for the module, with a process of the node at every frontend."""
    virtual = [*CLUSTER_IP, *LOAD_BALANCER_IP, *EXTERNAL_IP]
    with scene.bound(*virtual), ExitStack() as stack:
        for protocol in Protocol:
            for addresses, port in ((virtual, PORT), (scene.node.addresses[0], NODE_PORT)):
                responder = scene.responders.listen(
                    scene.node, port, protocol, addresses=addresses, identity=HOST
                )
                stack.callback(responder.close)
        yield scene


def asked(scene: Scene, family: Family, *kinds: FrontendKind) -> set[str]:
    """Return who answers all sources over every protocol, at all or some frontends."""
    probes = [
        scene.probe(source, family, protocol, kind)
        for source in SOURCES
        for protocol in Protocol
        for kind in kinds or FrontendKind
    ]
    return set(answers(probe_many(probes)))


@ignored
@families
def test_an_ignored_service_has_no_frontends(
    scene: Scene, fields: dict[str, Any], family: Family
) -> None:
    """From the moment on that it is to be ignored its addresses are the host's, and no longer."""
    endpoints = slices(scene.remote)
    for service, expected in ((web(), scene.remote.name), (web(**fields), HOST)) * 2:
        scene.program(*decoded(service, *endpoints))
        assert {expected} == asked(scene, family)


@ignored
@families
def test_an_ignored_service_claims_nothing(
    scene: Scene, fields: dict[str, Any], family: Family
) -> None:
    """The address or node port that an older Service names is the younger's, if that is ours."""
    ours = web(created="2026-02-02T00:00:00Z")
    older = web("older", OTHER_CLUSTER_IP, **fields)
    endpoints = [*slices(scene.remote), *slices(scene.local, name="older")]

    scene.program(*decoded(older, ours, *endpoints))
    assert {scene.remote.name} == asked(scene, family)


@families
def test_the_node_answers_at_the_cluster_ip_of_another_proxy_in_a_service_cidr(
    scene: Scene, family: Family
) -> None:
    """The address is the node's own here, so nfproxy does not drop its packets as unallocated."""
    other = web(labels={PROXY_NAME: "other"})
    cidrs = tuple(map(parse_prefix, SERVICE_CIDRS))
    scene.program(*decoded(other, *slices(scene.remote)))
    try:
        scene.proxy.apply(Changes(service_cidrs={"one": ServiceCIDR("one", cidrs)}))
        assert {HOST} == asked(scene, family)
    finally:
        scene.proxy.apply(Changes(service_cidrs={"one": None}))
    assert {HOST} == asked(scene, family, FrontendKind.CLUSTER_IP)


@pytest.mark.parametrize("value", ["", "true"], ids=["empty", "with a value"])
@families
def test_a_headless_slice_has_no_endpoints(scene: Scene, value: str, family: Family) -> None:
    """Whatever Service it names goes without them, as long as the label is there."""
    plain, labels = slices(scene.remote, suffix="-plain"), {HEADLESS: value}
    for pieces, answer in (
        ([*plain, *slices(scene.local, labels=labels)], "remote masqueraded"),
        (slices(scene.local, labels=labels), "refused"),
        ([*plain, *slices(scene.local)], "both masqueraded"),
    ):
        scene.program(*decoded(web(), *pieces))
        expected = table(outside=(answer, answer))
        for protocol in Protocol:
            assert expected == scene.reached(expected, family, protocol)
