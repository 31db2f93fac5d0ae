"""
Frontends that share a list of endpoints, with real packets.

A list is worth its chains only where there are many addresses and endpoints. Here it is worth them
from the first slot on, so that the few pods of the labs are enough.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from support.kernel import rules
from support.objects.model import changes
from support.packets.allprotocols import SERVICE_PORTS, SLICE_PORTS, assert_reached
from support.packets.scenes import Scene, table
from support.packets.sending import Probe, probe_many
from support.packets.steps import (
    EXTERNAL_IP,
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
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.service import Protocol, Service
from nfproxy.nft import schema
from nfproxy.plan import service as planning
from nfproxy.tools.lab import Cluster, Host

# An emulated machine (tests/kernels/guest.py) makes a tenth of the connections.
SLOWER = 10 if "NFPROXY_GUEST" in os.environ else 1

MORE_IPS = tuple(a for n in range(20, 24) for a in (f"203.0.113.{n}", f"2001:db8:113::{n}"))
CLIENTS = ("192.168.77.0/24", "fd77::/64")


@pytest.fixture(autouse=True)
def worth(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list is worth one slot."""
    monkeypatch.setattr(planning, "WORTH_SLOTS", 1)


@pytest.fixture(scope="module")
def cluster(namespaces_allowed: None) -> Iterator[Cluster]:
    """Two nodes with five pods each."""
    with Cluster(pods_per_node=5) as built:
        yield built


def web(**fields: Any) -> Service:
    """Return a service with every kind of frontend over every protocol."""
    return everywhere(ports=SERVICE_PORTS, **fields)


def slices(*pods: Host) -> list[EndpointSlice]:
    """Return slices that list pods at every protocol."""
    return endpoints_of("web", pods, ports=SLICE_PORTS)


def shares(proxy: Proxy) -> bool:
    """Return whether there are lists in the kernel, for each protocol and family or for none."""
    found = {
        any(
            "elements" in rules.listing(proxy.host, "map", family.table, "nfproxy", name)
            for name in schema.LIST_ENDPOINTS[protocol]
        )
        for family in FAMILIES
        for protocol in Protocol
    }
    (answer,) = found
    return answer


@families
@protocols
@pytest.mark.parametrize("internal", [False, True], ids=["internal Cluster", "internal Local"])
@pytest.mark.parametrize("external", [False, True], ids=["external Cluster", "external Local"])
def test_policies(
    scene: Scene, family: Family, protocol: Protocol, internal: bool, external: bool
) -> None:
    """Each client gets what it gets from frontends with slots of their own."""
    scene.program(scene.web(internal_local=internal, external_local=external), *scene.slices())
    inside = "local" if internal else "both"

    expected = table(
        pod=(inside, "both" if external else "both masqueraded"),
        node=(f"{inside} masqueraded", "both masqueraded"),
        outside=(f"{inside} masqueraded", "local" if external else "both masqueraded"),
        far_pod=(inside, "both masqueraded"),
    )
    assert expected == scene.reached(expected, family, protocol)


@families
@protocols
def test_no_local_endpoint(scene: Scene, family: Family, protocol: Protocol) -> None:
    """Policy Local without local endpoints is silence, but for the short cuts."""
    scene.program(scene.web(external_local=True), *scene.slices(scene.remote))

    expected = table(
        pod=("remote", "remote"),
        node=("remote masqueraded", "remote masqueraded"),
        outside=("remote masqueraded", "dropped"),
        far_pod=("remote", "remote masqueraded"),
    )
    assert expected == scene.reached(expected, family, protocol)


@families
def test_every_count_reaches_all_endpoints_and_no_other(served: Cluster, family: Family) -> None:
    """Growing and shrinking through the sizes of a list, at each kind of address."""
    with proxied(served, web(), *slices(*served.pods[:1])) as proxy:
        assert shares(proxy)
        for count in (2, 3, 5, 7, 10, 9, 4, 1):
            proxy.put(*slices(*served.pods[:count]))
            names = {pod.name for pod in served.pods[:count]}
            frontend = Frontend.ALL[count % 4]
            found: set[str] = set()
            for _ in range(4):
                found |= reached(served.client, *target(served, frontend, family))
                if found == names:
                    break
            assert found == names


def test_endpoints_are_drawn_evenly(served: Cluster) -> None:
    """Also where the size is larger than the count: 5 of 6."""
    with proxied(served, web(), *slices(*served.pods[:5])):
        where = target(served, Frontend.CLUSTER_IP, Family.IPV4)
        probes = [Probe(served.client, *where, Protocol.TCP)] * 100
        found = Counter(name for _ in range(10) for name in answers(probe_many(probes)))

    assert found.keys() == {pod.name for pod in served.pods[:5]}
    # A deviation of 63 from 200 has a chance of 1 to a million.
    assert all(137 < count < 263 for count in found.values()), found


@families
def test_a_pod_reaches_itself(served: Cluster, family: Family) -> None:
    """By the shared chains, too, its own address is translated."""
    pod = served.pods[0]
    with proxied(served, web(), *slices(pod)):
        for frontend in Frontend.ALL:
            assert_reached({pod.name}, pod, *target(served, frontend, family))


@families
@pytest.mark.parametrize("local", [False, True], ids=["Cluster", "Local"])
def test_affinity_and_ranges(served: Cluster, family: Family, local: bool) -> None:
    """A client keeps its endpoint across addresses, and who is not allowed is dropped."""
    sticky = web(affinity_timeout_s=600, source_ranges=CLIENTS, external_local=local)
    pods = served.nodes[0].pods if local else {pod.name for pod in served.pods}
    with proxied(served, sticky, *slices(*served.pods)) as proxy:
        assert shares(proxy)
        found = {
            name
            for frontend in Frontend.OUTER
            for name in reached(served.client, *target(served, frontend, family))
        }
        assert len(found) == 1
        assert found <= set(pods)
        guarded = target(served, Frontend.LOAD_BALANCER_IP, family)
        assert reached(served.nodes[1].pods["pod-2-1"], *guarded, times=3) == {"dropped"}


@families
@pytest.mark.parametrize("local", [False, True], ids=["Cluster", "Local"])
def test_sharing_begins_and_ends_under_traffic(
    served: Cluster, family: Family, local: bool
) -> None:
    """A second address comes and goes, with endpoints, and no connection is lost."""
    alone = {"load_balancer_ips": (), "external_local": local}
    few = web(external_ips=(), **alone)
    some = web(external_ips=EXTERNAL_IP, **alone)
    many = web(external_ips=(*EXTERNAL_IP, *MORE_IPS), **alone)
    pods = served.pods
    steps = [
        (some, pods[:6]),
        (few, pods[:6]),
        (many, pods[:6]),
        (many, pods[:9]),
        (many, pods[1:9]),
        (many, pods[1:4]),
        (few, pods[1:7]),
        (some, pods[1:3]),
        (few, pods[1:3]),
    ]
    with proxied(served, few, *slices(*pods[:6])) as proxy:
        node_port = target(served, Frontend.NODE_PORT, family)
        cluster_ip = target(served, Frontend.CLUSTER_IP, family)
        streams = Streams(
            Traffic(served.client, *node_port, Protocol.TCP, rate=150 // SLOWER, held=3),
            Traffic(served.client, *node_port, Protocol.SCTP, rate=100 // SLOWER),
            Traffic(served.client, *node_port, Protocol.UDP, rate=300 // SLOWER),
            Traffic(served.pod(1, 5), *cluster_ip, Protocol.UDP, rate=200 // SLOWER),
        )
        with streams:
            for wanted, listed in steps:
                proxy.apply(changes(wanted, *slices(*listed)))
                assert shares(proxy) or wanted is few
                streams.run(20)
                proxy.tidy()
            proxy.clean_up()
            assert not shares(proxy)
            streams.run(10)
        assert streams.lost == []
