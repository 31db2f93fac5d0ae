"""Ports of services and of slices: names, protocols and numbers, with real packets."""

from __future__ import annotations

import pytest
from support.objects.model import gone, service
from support.packets.steps import (
    CLUSTER_IP,
    LOAD_BALANCER_IP,
    NODE_PORT,
    Frontend,
    everywhere,
    families,
    protocols,
    proxied,
    reached,
    slice_of,
    target,
)
from support.responders import Responders

from nfproxy.model.addresses import Family
from nfproxy.model.endpoints import SlicePort
from nfproxy.model.service import Protocol, Service, ServicePort
from nfproxy.tools.lab import Cluster

A, B, C, D = "pod-1-1", "pod-1-2", "pod-2-1", "pod-2-2"
REFUSED = {"refused"}

#: Ports that pods listen on beside the usual one; the answer says which it was.
OTHER_PORTS = (8081, 8082)


@pytest.fixture(scope="module")
def served(served: Cluster, responders: Responders) -> Cluster:
    """Let the pods answer on two more ports, and say on which."""
    for pod in served.pods:
        for protocol in Protocol:
            for port in OTHER_PORTS:
                identity = f"{pod.name}:{port}/{protocol.word}"
                responders.listen(pod, port, protocol, identity=identity)
    return served


DNS = (
    ServicePort("dns", Protocol.UDP, 53, 30053),
    ServicePort("dns-tcp", Protocol.TCP, 53, 30053),
    ServicePort("metrics", Protocol.TCP, 9153),
    ServicePort("signalling", Protocol.SCTP, 53, 30053),
)


@families
def test_ports_are_matched_by_name_and_protocol(served: Cluster, family: Family) -> None:
    """One number may serve three protocols, each with endpoints of its own."""
    dns = service("dns", cluster_ips=CLUSTER_IP, ports=DNS, load_balancer_ips=LOAD_BALANCER_IP)
    ports = [
        SlicePort("dns", Protocol.UDP, 8080),
        SlicePort("dns-tcp", Protocol.TCP, 8081),
        SlicePort("metrics", Protocol.TCP, 8082),
        SlicePort("signalling", Protocol.SCTP, 8082),
        SlicePort("unknown", Protocol.TCP, 8080),
        SlicePort("dns", Protocol.TCP, 8082),
        SlicePort("metrics", Protocol.UDP, 8081),
    ]
    piece = slice_of(served, family, {A: {}, C: {}}, service_name="dns", ports=ports)
    expected = {
        (53, Protocol.UDP): {A, C},
        (53, Protocol.TCP): {f"{A}:8081/tcp", f"{C}:8081/tcp"},
        (9153, Protocol.TCP): {f"{A}:8082/tcp", f"{C}:8082/tcp"},
        (53, Protocol.SCTP): {f"{A}:8082/sctp", f"{C}:8082/sctp"},
        (9153, Protocol.UDP): REFUSED,
    }
    with proxied(served, dns, piece) as proxy:
        for (port, protocol), serving in expected.items():
            found = reached(served.client, CLUSTER_IP.of(family), port, protocol)
            assert found == serving, (port, protocol)
            if port == 53:
                node = served.nodes[0].address(family)
                assert reached(served.client, node, 30053, protocol) == serving
                address = LOAD_BALANCER_IP.of(family)
                assert reached(served.pod(1, 2), address, 53, protocol) == serving
        # a name that no port of the slice has leaves that port without endpoints, and only that
        proxy.put(slice_of(served, family, {A: {}, C: {}}, service_name="dns", ports=ports[1:]))
        address = CLUSTER_IP.of(family)
        assert reached(served.client, address, 53, Protocol.UDP, times=4) == REFUSED
        assert reached(served.client, address, 53) == expected[53, Protocol.TCP]


@families
@protocols
def test_a_named_port_has_another_number_in_each_slice(
    served: Cluster, family: Family, protocol: Protocol
) -> None:
    """A target port by name is looked up in each pod, so that numbers differ during a rollout."""
    web = everywhere(ports=(ServicePort("http", protocol, 80, NODE_PORT),))
    old, new = (
        slice_of(served, family, pods, name=name, port_name="http", protocol=protocol, port=port)
        for name, pods, port in (("old", {A: {}, C: {}}, 8080), ("new", {A: {}, D: {}}, 8081))
    )
    of_new = {f"{pod}:8081/{protocol.word}" for pod in (A, D)}
    with proxied(served, web, old, new) as proxy:
        for frontend in Frontend.ALL:
            where = target(served, frontend, family)
            assert reached(served.client, *where, protocol) == {A, C, *of_new}, frontend
        # a pod reaches itself on either port
        where = target(served, Frontend.CLUSTER_IP, family)
        assert reached(served.host(A), *where, protocol) == {A, C, *of_new}
        proxy.put(everywhere(ports=web.ports, external_local=True))
        where = target(served, Frontend.NODE_PORT, family)
        local = f"{A}:8081/{protocol.word}"
        assert reached(served.client, *where, protocol) == {A, local}
        proxy.apply(gone(old))
        assert reached(served.client, *where, protocol) == {local}


@families
@protocols
def test_ports_of_a_live_service_change(
    served: Cluster, family: Family, protocol: Protocol
) -> None:
    """Ports are added, renumbered, renamed and removed one by one."""
    address = CLUSTER_IP.of(family)

    def port(name: str, number: int) -> ServicePort:
        return ServicePort(name, protocol, number)

    def web(*ports: ServicePort) -> Service:
        return service("web", cluster_ips=CLUSTER_IP, ports=ports)

    ports = [SlicePort("one", protocol, 8080), SlicePort("two", protocol, 8081)]
    one, two = {A}, {f"{A}:8081/{protocol.word}"}
    walk: list[tuple[Service, dict[int, set[str]]]] = [
        (web(port("one", 80)), {80: one, 81: REFUSED}),
        (web(port("one", 80), port("two", 81)), {80: one, 81: two}),
        (web(port("one", 81), port("two", 80)), {80: two, 81: one}),
        (web(port("one", 82)), {80: REFUSED, 81: REFUSED, 82: one}),
        (web(port("none", 82)), {82: REFUSED}),
    ]
    with proxied(served, slice_of(served, family, {A: {}}, ports=ports)) as proxy:
        for state, expected in walk:
            proxy.put(state)
            for number, serving in expected.items():
                found = reached(served.client, address, number, protocol, times=8)
                assert found == serving, expected
