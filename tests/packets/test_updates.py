"""
Nothing is lost while things change, with real packets.

Two kinds of tests. In one, connections are opened all the time, over TCP, UDP and SCTP, while a
service is walked through changes. The other is about the packet that was inside the table when a
transaction was committed: it has read the old verdict and draws its slot from the new elements.
A rule that sends one client straight to the old chain makes that moment last.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from support.kernel import rules
from support.objects.model import changes, endpoint_slice, gone, service
from support.packets.sending import Probe, probe_many, tally
from support.packets.steps import (
    DRAWS,
    ENDPOINT_PORT,
    LOAD_BALANCER_IP,
    NODE_PORT,
    OTHER_CLUSTER_IP,
    Frontend,
    Proxy,
    Streams,
    at,
    everywhere,
    families,
    node_config,
    proxied,
    reached,
    target,
)
from support.traffic import Traffic

from nfproxy.model.addresses import FAMILIES, Family, parse_address
from nfproxy.model.changes import Changes
from nfproxy.model.endpoints import EndpointSlice, SlicePort
from nfproxy.model.nodeconfig import LocalPods
from nfproxy.model.service import Protocol, Service, ServicePort
from nfproxy.nft import schema
from nfproxy.tools.lab import Cluster, Host
from nfproxy.tools.lab.cluster import Pod

PORTS = tuple(ServicePort(p.word, p, 80, NODE_PORT) for p in Protocol)
SLICE_PORTS = tuple(SlicePort(p.word, p, ENDPOINT_PORT) for p in Protocol)
UNDERLAY = ("192.168.77.0/24", "10.244.0.0/16", "fd77::/64", "fd00:10:244::/48")
CLIENTS = ("192.168.77.100/31", "fd77::100/127")


@pytest.fixture(scope="module")
def cluster(namespaces_allowed: None) -> Iterator[Cluster]:
    """Two nodes with five pods each."""
    with Cluster(pods_per_node=5) as built:
        yield built


def web(name: str = "web", **fields: Any) -> Service:
    """Return a service with three protocols on one port, reached by every kind of address."""
    return everywhere(name, ports=PORTS, **fields)


def slices(
    hosts: Sequence[Host], service_name: str = "web", **conditions: bool
) -> list[EndpointSlice]:
    """Return one slice a family with some hosts as endpoints."""
    return [
        endpoint_slice(
            service_name,
            *(at(host, family, **conditions) for host in hosts),
            name=f"{service_name}-{family.label.lower()}",
            family=family,
            ports=SLICE_PORTS,
        )
        for family in FAMILIES
    ]


def streams_to(cluster: Cluster, family: Family, frontend: str) -> Streams:
    """Send from outside and from a pod; some TCP connections stay open all the time."""
    where = target(cluster, frontend, family)
    inside = target(cluster, Frontend.CLUSTER_IP, family)
    return Streams(
        Traffic(cluster.client, *where, Protocol.UDP, rate=400),
        Traffic(cluster.client, *where, Protocol.TCP, rate=150, held=3),
        Traffic(cluster.client, *where, Protocol.SCTP, rate=100),
        Traffic(cluster.pod(1, 1), *inside, Protocol.UDP, rate=200),
    )


def walk(proxy: Proxy, streams: Streams, batches: Sequence[Changes]) -> None:
    """Apply batches, tidying in between, while the streams go on; nothing may be lost."""
    with streams:
        streams.run(5)
        for batch in batches:
            proxy.apply(batch)
            streams.run(5)
            proxy.tidy()
        proxy.clean_up()
        streams.run(5)
    assert streams.lost == []


outer = pytest.mark.parametrize("frontend", [Frontend.NODE_PORT, Frontend.CLUSTER_IP])


@families
@outer
def test_scaling(served: Cluster, family: Family, frontend: str) -> None:
    """Ten endpoints, one, ten, and what lies between; then only those listed are used."""
    pods = served.pods
    where = target(served, frontend, family)
    with proxied(served, web(), *slices(pods)) as proxy:
        counts = [1, 10, 1, 10, 5, 2, 7, 3, 10, 1]
        walk(
            proxy,
            streams_to(served, family, frontend),
            [changes(*slices(pods[:count])) for count in counts],
        )
        for chosen in (pods[3:], pods[:1], pods[4:6]):
            proxy.put(*slices(chosen))
            assert reached(served.client, *where) <= {pod.name for pod in chosen}
            proxy.clean_up()
            assert reached(served.client, *where) <= {pod.name for pod in chosen}


@families
def test_a_rollout_replaces_endpoints_one_by_one(served: Cluster, family: Family) -> None:
    """Each step adds one and takes one away, until none of the first is left, and back again."""
    pods = served.pods
    steps = [[*pods[5:new], *pods[new - 5 : 5]] for new in range(5, 11)]
    with proxied(served, web(), *slices(steps[0])) as proxy:
        batches = [changes(*slices(step)) for step in [*steps, *reversed(steps)]]
        walk(proxy, streams_to(served, family, Frontend.NODE_PORT), batches)
        proxy.put(*slices(steps[-1]))
        names = {pod.name for pod in pods[5:]}
        assert reached(served.client, *target(served, Frontend.NODE_PORT, family)) == names


@families
def test_a_rollout_without_overlap(served: Cluster, family: Family) -> None:
    """While all endpoints terminate they serve on, until others are ready."""
    old, new = served.pods[:3], served.pods[3:]
    ending = slices(old, ready=False, terminating=True)
    batches = [
        changes(*ending),
        changes(*slices(new)),
        changes(*slices(old)),
        changes(*slices(new, ready=False, terminating=True)),
        changes(*ending),
        changes(*slices(new)),
    ]
    with proxied(served, web(), *slices(old)) as proxy:
        walk(proxy, streams_to(served, family, Frontend.LOAD_BALANCER_IP), batches)


@families
@pytest.mark.parametrize("frontend", Frontend.OUTER)
def test_the_traffic_policy_changes(served: Cluster, family: Family, frontend: str) -> None:
    """Cluster and Local by turns, with local endpoints there, and their number changing, too."""
    some = [*served.pods[:2], *served.pods[5:8]]
    batches = [
        changes(web(external_local=True)),
        changes(web()),
        changes(web(external_local=True), *slices(some)),
        changes(web(), *slices(served.pods)),
        changes(web(external_local=True, internal_local=True)),
        changes(*slices(some)),
        changes(web(internal_local=True)),
        changes(web()),
    ]
    with proxied(served, web(), *slices(served.pods)) as proxy:
        walk(proxy, streams_to(served, family, frontend), batches)


@families
def test_affinity_comes_and_goes(served: Cluster, family: Family) -> None:
    """On, off, with another timeout, with fewer endpoints, and with policy Local."""
    batches = [
        changes(web(affinity_timeout_s=600)),
        changes(*slices(served.pods[1:])),
        changes(*slices(served.pods[:2])),
        changes(web(affinity_timeout_s=60), *slices(served.pods)),
        changes(web(affinity_timeout_s=60, external_local=True)),
        changes(*slices(served.pods[1:6])),
        changes(web(external_local=True)),
        changes(web(affinity_timeout_s=60, external_local=True)),
        changes(web()),
    ]
    with proxied(served, web(), *slices(served.pods)) as proxy:
        walk(proxy, streams_to(served, family, Frontend.NODE_PORT), batches)


@families
def test_other_services_come_and_go(served: Cluster, family: Family) -> None:
    """What happens to its neighbours does not concern a service."""

    def other(name: str, **fields: Any) -> Service:
        addresses = ("10.96.0.9", "fd00:10:96::9")
        return service(name, cluster_ips=addresses, ports=PORTS[:1], **fields)

    some, guarded = other("other"), other("guarded", load_balancer_ips=["203.0.113.9"])
    batches = [
        changes(some, *slices(served.pods, "other")),
        gone(some),
        changes(other("other", affinity_timeout_s=60, external_local=True)),
        changes(*slices(served.pods[:1], "other")),
        Changes(services={some.name: None, guarded.name: guarded}),
        changes(some),
        gone(some, guarded, *slices([], "other")),
    ]
    with proxied(served, web(), *slices(served.pods)) as proxy:
        walk(proxy, streams_to(served, family, Frontend.CLUSTER_IP), batches * 2)


@families
def test_the_whole_program_is_loaded_again(served: Cluster, family: Family) -> None:
    """
    Another node configuration rewrites every chain at once.

    Another masquerade mark is not among them: the configuration file alone changes it, and the
    packets between the two hooks at that moment have the old one (limits.md).
    """
    configs = [
        node_config(zone="a"),
        node_config(masquerade_all=True),
        node_config(local_pods=LocalPods(bridge="no-such-bridge")),
        node_config(),
    ]
    streams = streams_to(served, family, Frontend.NODE_PORT)
    with proxied(served, web(), *slices(served.pods)) as proxy:
        with streams:
            for config in configs * 2:
                proxy.reconfigure(config)
                streams.run(5)
                proxy.tidy()
        assert streams.lost == []


@families
def test_an_address_passes_from_service_to_service(served: Cluster, family: Family) -> None:
    """Of two that ask for one address, the other takes over without a gap."""
    first = web("first", created="2026-01-01", cluster_ips=OTHER_CLUSTER_IP)
    second = web("second", created="2026-02-02", cluster_ips=("10.96.0.9", "fd00:10:96::9"))
    batches = [
        changes(first),
        gone(first),
        changes(first),
        changes(web("second", created="2025-01-01", cluster_ips=("10.96.0.9", "fd00:10:96::9"))),
        changes(second),
        gone(second),
        changes(second),
        gone(first),
    ]
    pieces = [*slices(served.pods[:4], "first"), *slices(served.pods[3:], "second")]
    where = target(served, Frontend.LOAD_BALANCER_IP, family)
    with proxied(served, second, *pieces) as proxy:
        streams = Streams(
            Traffic(served.client, *where, Protocol.UDP, rate=400),
            Traffic(served.client, *where, Protocol.TCP, rate=150, held=3),
        )
        walk(proxy, streams, batches)
        assert reached(served.client, *where) == {pod.name for pod in served.pods[3:]}


# --- the packet that was inside ------------------------------------------------------------


@contextmanager
def inside(proxy: Proxy, family: Family, frontend: str, client: str) -> Iterator[None]:
    """Let what a client sends to a frontend go on with the verdict that counts now."""
    address = LOAD_BALANCER_IP.of(family)
    name, key = schema.FRONTENDS, parse_address(address)
    match = f"{family.table} daddr {address} "
    if frontend == Frontend.NODE_PORT:
        name, key, match = schema.NODE_PORTS, b"", ""
    port = NODE_PORT if frontend == Frontend.NODE_PORT else 80
    key += schema.protocol_bytes(Protocol.TCP) + schema.port_bytes(port)
    verdict = dict(proxy.kernel.elements(family, name))[key]
    assert isinstance(verdict, schema.Verdict)
    chain = f"{family.table} nfproxy services"
    rule = f"{match}{family.table} saddr {client} tcp dport {port} {verdict}"
    command = f"nft --echo --handle insert rule {chain} {rule}"
    made = proxy.host.namespace.run(command.split()).stdout
    handle = re.findall(r"# handle (\d+)", made)[-1]
    try:
        yield
    finally:
        rules.load(proxy.host, f"delete rule {chain} handle {handle}\n")


def pods(cluster: Cluster, *places: tuple[int, int]) -> list[Pod]:
    """Return some pods: (node, number)."""
    return [cluster.pod(*place) for place in places]


LOCAL_AND_REMOTE = ((1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3))
State = tuple[dict[str, Any], tuple[tuple[int, int], ...]]
TRANSITIONS: dict[str, tuple[State, State]] = {
    "shrink": (({}, LOCAL_AND_REMOTE), ({}, ((2, 2),))),
    "grow": (({}, ((2, 2),)), ({}, LOCAL_AND_REMOTE)),
    "replace": (({}, LOCAL_AND_REMOTE), ({}, ((1, 4), (1, 5), (2, 4), (2, 5)))),
    "to Local": (({}, LOCAL_AND_REMOTE), ({"external_local": True}, LOCAL_AND_REMOTE)),
    "to Cluster": (({"external_local": True}, LOCAL_AND_REMOTE), ({}, LOCAL_AND_REMOTE)),
    "fewer local": (
        ({"external_local": True}, LOCAL_AND_REMOTE),
        ({"external_local": True}, ((1, 3), (2, 1))),
    ),
    "to affinity": (({}, LOCAL_AND_REMOTE), ({"affinity_timeout_s": 600}, LOCAL_AND_REMOTE)),
    "from affinity": (({"affinity_timeout_s": 600}, LOCAL_AND_REMOTE), ({}, ((1, 1), (2, 1)))),
    "to ranges": (({}, LOCAL_AND_REMOTE), ({"source_ranges": CLIENTS}, LOCAL_AND_REMOTE)),
    "from ranges": (({"source_ranges": CLIENTS}, LOCAL_AND_REMOTE), ({}, LOCAL_AND_REMOTE)),
    "other ranges": (
        ({"source_ranges": CLIENTS}, LOCAL_AND_REMOTE),
        ({"source_ranges": UNDERLAY}, LOCAL_AND_REMOTE[2:4]),
    ),
    "all at once": (
        ({"source_ranges": CLIENTS, "affinity_timeout_s": 600}, LOCAL_AND_REMOTE),
        ({"external_local": True}, ((1, 2),)),
    ),
}


#: Source ranges mean nothing to node ports.
CASES = [
    (frontend, name)
    for frontend in (Frontend.LOAD_BALANCER_IP, Frontend.NODE_PORT)
    for name in TRANSITIONS
    if frontend == Frontend.LOAD_BALANCER_IP or "ranges" not in name
]


@families
@pytest.mark.parametrize(("frontend", "transition"), CASES)
def test_a_packet_inside_during_a_change_is_served(
    served: Cluster, family: Family, frontend: str, transition: str
) -> None:
    """The old verdict and the new elements lead to an endpoint, every time, until tidied."""
    (before, first), (after, second) = TRANSITIONS[transition]
    witness = served.client.addresses[1].of(family)
    where = target(served, frontend, family)
    probes = [Probe(served.client, *where, Protocol.TCP, witness)] * DRAWS
    with proxied(served, web(**before), *slices(pods(served, *first))) as proxy:
        with inside(proxy, family, frontend, witness):
            assert tally(probe_many(probes)).keys() <= {pod.name for pod in served.pods}
            proxy.put(web(**after), *slices(pods(served, *second)))
            found = tally(probe_many(probes))
            assert found.keys() <= {pod.name for pod in pods(served, *first, *second)}
        proxy.clean_up()
        assert tally(probe_many(probes)).keys() <= {pod.name for pod in pods(served, *second)}
