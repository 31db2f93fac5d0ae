"""
Session affinity: a client keeps its endpoint, with real packets.

Clients are many addresses of the outside host, so that "all of them kept theirs" is no accident:
with four endpoints it would be one once in 10^19 times.
"""

from __future__ import annotations

import time

import pytest
from support.kernel.real import clients_in
from support.objects.model import endpoint_slice, gone, service
from support.packets.sending import Probe, probe_many
from support.packets.steps import (
    CLUSTER_IP,
    ENDPOINT_PORT,
    Crowd,
    answers,
    at,
    endpoints_of,
    everywhere,
    families,
    protocols,
    proxied,
    reached,
    same_each_time,
)
from support.responders import Responders

from nfproxy.model.addresses import FAMILIES, Family, format_address, parse_address
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.service import Protocol, Service
from nfproxy.nft import schema
from nfproxy.nft.endpointnumbers import endpoint_number
from nfproxy.reconcile import chainuses
from nfproxy.tools.lab import Cluster, Host

HOURS = 3 * 3600
SECOND_PORT = 8081


@pytest.fixture(scope="module")
def served(served: Cluster, responders: Responders) -> Cluster:
    """Let the first node answer, too, and pods on a second port."""
    for protocol in Protocol:
        responders.listen(served.nodes[0], ENDPOINT_PORT, protocol)
    for pod in served.pods:
        responders.listen(pod, SECOND_PORT, identity=f"{pod.name}:second")
    return served


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let unused chains go as soon as other leftovers, and maps of clients with them."""
    monkeypatch.setattr(chainuses, "IDLE_S", 0.0)


def remembered(cluster: Cluster, family: Family) -> dict[str, int]:
    """Return the addresses of remembered clients, with the numbers of their endpoints."""
    found = clients_in(cluster.nodes[0].namespace, family)
    return {format_address(client): number for (_, client), number in found.items()}


def number_of(host: Host, family: Family) -> int:
    """Return the number of the endpoint that a host is."""
    packed = parse_address(host.address(family)) + schema.port_bytes(ENDPOINT_PORT)
    return endpoint_number(packed)


@families
@protocols
def test_every_frontend_of_a_service_leads_a_client_to_one_endpoint(
    served: Cluster, family: Family, protocol: Protocol
) -> None:
    """Cluster IP, load-balancer IP, external IP and node port share what they remember."""
    web = everywhere(protocol=protocol, affinity_timeout_s=HOURS)
    slices = endpoints_of("web", served.pods, protocol=protocol)
    sources = (served.client, served.nodes[0], served.pod(1, 1), served.pod(1, 2))
    with proxied(served, web, *slices):
        for source in sources:
            by = same_each_time(source, served, family, protocol)
            assert len(by) == 1, (source.name, by)
            assert by <= {pod.name for pod in served.pods}


@families
@protocols
def test_clients_are_told_apart(
    served: Cluster, clients: Crowd, family: Family, protocol: Protocol
) -> None:
    """Each client has an endpoint of its own, although all are masqueraded to one address."""
    web = everywhere(protocol=protocol, affinity_timeout_s=HOURS)
    with proxied(served, web, *endpoints_of("web", served.pods, protocol=protocol)):
        address = CLUSTER_IP.of(family)
        outcomes = clients.ask(address, 80, protocol)

        assert all(one.masqueraded for one in outcomes.values())
        assert {one.seen_address for one in outcomes.values()} == {served.nodes[0].address(family)}
        assert len(set(answers(outcomes.values()))) > 1
        for _ in range(2):
            assert answers(outcomes.values()) == list(clients.who(address, 80, protocol).values())
        by_number = {number_of(pod, family): pod.name for pod in served.pods}
        found = {client: by_number[n] for client, n in remembered(served, family).items()}
        assert found == {client: str(one.by) for client, one in outcomes.items()}


def test_a_client_is_remembered_from_its_last_connection_on(
    served: Cluster, clients: Crowd
) -> None:
    """Every connection restarts the timeout; without one for so long the client is forgotten."""
    services = {
        protocol: service(
            protocol.word,
            cluster_ips=CLUSTER_IP,
            protocol=protocol,
            affinity_timeout_s=3,
        )
        for protocol in Protocol
    }
    slices = [
        piece
        for protocol in Protocol
        for piece in endpoints_of(protocol.word, served.pods, protocol=protocol)
    ]
    asked = [(CLUSTER_IP.of(family), protocol) for family in FAMILIES for protocol in Protocol]
    with proxied(served, *services.values(), *slices):
        first = [clients.who(address, 80, protocol) for address, protocol in asked]
        time.sleep(1.8)
        assert first == [clients.who(address, 80, protocol) for address, protocol in asked]
        time.sleep(1.8)  # 3.6 s after the first connection, 1.8 s after the last one
        assert first == [clients.who(address, 80, protocol) for address, protocol in asked]
        time.sleep(3.2)
        later = [clients.who(address, 80, protocol) for address, protocol in asked]
        assert all(one != other for one, other in zip(first, later, strict=True))


@families
@protocols
def test_an_endpoint_that_leaves_is_forgotten_at_once(
    served: Cluster, clients: Crowd, family: Family, protocol: Protocol
) -> None:
    """Its clients go elsewhere and stay there, and the others keep theirs."""
    web = everywhere(protocol=protocol, affinity_timeout_s=HOURS)
    pods = served.pods
    with proxied(served, web, *endpoints_of("web", pods, protocol=protocol)) as proxy:
        address = CLUSTER_IP.of(family)
        before = clients.who(address, 80, protocol)
        leaving = next(pod for pod in pods if pod.name in before.values())
        assert number_of(leaving, family) in remembered(served, family).values()

        left = [pod for pod in pods if pod is not leaving]
        proxy.put(*endpoints_of("web", left, protocol=protocol))
        after = clients.who(address, 80, protocol)
        assert set(after.values()) <= {pod.name for pod in left}
        assert after == {k: v if v != leaving.name else after[k] for k, v in before.items()}
        assert number_of(leaving, family) not in remembered(served, family).values()
        proxy.clean_up()
        assert after == clients.who(address, 80, protocol)

        # back again it is new: no client moves to it that has another
        proxy.put(*endpoints_of("web", pods, protocol=protocol))
        assert after == clients.who(address, 80, protocol)


@families
def test_a_client_recorded_while_its_endpoint_left_gets_another(
    served: Cluster, clients: Crowd, family: Family
) -> None:
    """A packet on its way may record an endpoint behind our back: no other packet goes there."""
    web = everywhere(affinity_timeout_s=HOURS)
    leaving, *left = served.pods
    address = CLUSTER_IP.of(family)
    with proxied(served, web, *endpoints_of("web", [leaving])) as proxy:
        assert set(clients.who(address, 80).values()) == {leaving.name}
        # in one step, so that all clients are recorded at an endpoint that left
        proxy.put(*endpoints_of("web", left))
        assert set(remembered(served, family).values()) == {number_of(leaving, family)}
        after = clients.who(address, 80)
        assert set(after.values()) <= {pod.name for pod in left}
        assert number_of(leaving, family) not in remembered(served, family).values()
        assert after == clients.who(address, 80)


@families
@protocols
def test_a_pod_that_is_remembered_at_itself_is_served_after_it_left(
    served: Cluster, family: Family, protocol: Protocol
) -> None:
    """Its entry is still there, and leads nowhere: no hairpin of an address that left."""
    pod, others = served.pods[0], served.pods[1:]
    web = everywhere(protocol=protocol, affinity_timeout_s=HOURS)
    probes = [Probe(pod, CLUSTER_IP.of(family), 80, protocol)] * 4
    with proxied(served, web, *endpoints_of("web", [pod], protocol=protocol)) as proxy:
        assert {*answers(probe_many(probes))} == {pod.name}
        proxy.put(*endpoints_of("web", others, protocol=protocol))
        assert {*remembered(served, family).values()} == {number_of(pod, family)}
        assert {*answers(probe_many(probes))} <= {one.name for one in others}
        proxy.clean_up()
        assert {*answers(probe_many(probes))} <= {one.name for one in others}


@families
def test_affinity_survives_a_restart(served: Cluster, clients: Crowd, family: Family) -> None:
    """A new process over the tables of the old one keeps every client where it is."""
    web = everywhere(affinity_timeout_s=HOURS)
    slices = endpoints_of("web", served.pods)
    address = CLUSTER_IP.of(family)
    first = proxied(served, web, *slices)
    before = clients.who(address, 80)
    first.close(keep_tables=True)
    with proxied(served, web, *slices) as second:
        assert second.report.operations == 0
        assert before == clients.who(address, 80)
        second.clean_up()
        assert before == clients.who(address, 80)


@families
def test_what_left_during_a_restart_is_forgotten(
    served: Cluster, clients: Crowd, family: Family, impatient: None
) -> None:
    """Clients of endpoints that went meanwhile get others; a service's clients go with it."""
    web = everywhere(affinity_timeout_s=HOURS)
    other = service("other", cluster_ips=("10.96.0.9", "fd00:10:96::9"), affinity_timeout_s=HOURS)
    pods = served.pods
    first = proxied(served, web, other, *endpoints_of("web", pods), *endpoints_of("other", pods))
    before = clients.who(CLUSTER_IP.of(family), 80)
    clients.who(str(format_address(other.cluster_ip(family))), 80)
    assert len(clients_in(served.nodes[0].namespace, family)) == 2 * len(clients.addresses)
    first.close(keep_tables=True)

    with proxied(served, web, *endpoints_of("web", pods[1:])) as second:
        after = clients.who(CLUSTER_IP.of(family), 80)
        assert pods[0].name not in after.values()
        kept = {k: v for k, v in before.items() if v != pods[0].name}
        assert kept == {k: after[k] for k in kept}
        second.clean_up()
        assert len(clients_in(served.nodes[0].namespace, family)) == len(clients.addresses)
        assert number_of(pods[0], family) not in remembered(served, family).values()


def test_the_timeout_of_a_live_service_can_change(served: Cluster, clients: Crowd) -> None:
    """A client keeps its endpoint, and from its next connection on the new timeout counts."""
    short = {"longer": 2, "shorter": HOURS}
    addresses = {"longer": CLUSTER_IP, "shorter": ("10.96.0.9", "fd00:10:96::9")}

    def services(timeouts: dict[str, int]) -> list[Service]:
        return [
            service(name, cluster_ips=addresses[name], affinity_timeout_s=seconds)
            for name, seconds in timeouts.items()
        ]

    slices = [piece for name in short for piece in endpoints_of(name, served.pods)]
    asked = {name: list(pair) for name, pair in addresses.items()}

    def who(name: str) -> list[dict[str, str]]:
        return [clients.who(address, 80) for address in asked[name]]

    with proxied(served, *services(short), *slices) as proxy:
        longer, shorter = who("longer"), who("shorter")
        proxy.put(*services({"longer": HOURS, "shorter": 2}))
        assert longer == who("longer")
        assert shorter == who("shorter")
        time.sleep(2.3)
        assert longer == who("longer")
        assert all(a != b for a, b in zip(shorter, who("shorter"), strict=True))


@families
def test_affinity_can_be_removed_and_given_back(
    served: Cluster, clients: Crowd, family: Family, impatient: None
) -> None:
    """Without it clients are spread and nothing is remembered; with it again, they stick."""
    sticky, free = everywhere(affinity_timeout_s=HOURS), everywhere()
    address = CLUSTER_IP.of(family)
    with proxied(served, sticky, *endpoints_of("web", served.pods)) as proxy:
        clients.who(address, 80)
        proxy.put(free)
        names = {pod.name for pod in served.pods}
        assert names == reached(served.client, address, 80)
        assert len(remembered(served, family)) == len(clients.addresses)
        proxy.clean_up()
        assert remembered(served, family) == {}
        proxy.put(sticky)
        before = clients.who(address, 80)
        assert before == clients.who(address, 80)
        proxy.apply(gone(sticky))
        proxy.clean_up()
        assert remembered(served, family) == {}


@families
def test_endpoints_with_two_port_numbers(served: Cluster, clients: Crowd, family: Family) -> None:
    """A client keeps address and port, where one name stands for a port in each slice."""
    web = everywhere(affinity_timeout_s=HOURS)
    pods = served.pods
    first = endpoints_of("web", pods, name="one")
    second = endpoints_of("web", pods, name="two", port=SECOND_PORT)
    address = CLUSTER_IP.of(family)
    with proxied(served, web, *first, *second) as proxy:
        before = clients.who(address, 80)
        for _ in range(3):
            assert before == clients.who(address, 80)
        assert {":" in by for by in before.values()} == {True, False}

        victim = next(pod for pod in pods if f"{pod.name}:second" in before.values())
        left = [pod for pod in pods if pod is not victim]
        proxy.put(*endpoints_of("web", left, name="two", port=SECOND_PORT))
        after = clients.who(address, 80)
        gone_by = f"{victim.name}:second"
        assert gone_by not in after.values()
        assert {k: v for k, v in before.items() if v != gone_by} == {
            k: after[k] for k, v in before.items() if v != gone_by
        }


@families
@protocols
def test_an_endpoint_on_the_node_itself(
    served: Cluster, clients: Crowd, family: Family, protocol: Protocol
) -> None:
    """A connection that ends on the node is recorded, too, though it never leaves it."""
    node, remote = served.nodes[0], served.pod(2, 1)
    web = everywhere(protocol=protocol, affinity_timeout_s=HOURS)
    with proxied(served, web, *endpoints_of("web", [node, remote], protocol=protocol)):
        address = CLUSTER_IP.of(family)
        before = clients.who(address, 80, protocol)
        for _ in range(5):
            assert before == clients.who(address, 80, protocol)
        assert {node.name, remote.name} == set(before.values())
        assert number_of(node, family) in remembered(served, family).values()
        for source in (served.pod(1, 1), node):
            assert len(same_each_time(source, served, family, protocol)) == 1


@families
def test_terminating_endpoints_keep_their_clients_while_they_serve(
    served: Cluster, clients: Crowd, family: Family
) -> None:
    """An endpoint leaves its clients when others are ready, and only then."""
    web = everywhere(affinity_timeout_s=HOURS)
    pods = served.pods
    address = CLUSTER_IP.of(family)

    def slices(**conditions: bool) -> list[EndpointSlice]:
        return [
            endpoint_slice(
                "web", *(at(pod, family, **conditions) for pod in pods), name="all", family=family
            )
        ]

    with proxied(served, web, *slices()) as proxy:
        before = clients.who(address, 80)
        proxy.put(*slices(ready=False, terminating=True))
        assert before == clients.who(address, 80)
        one_ready = endpoint_slice("web", at(pods[0], family), name="new", family=family)
        proxy.put(one_ready)
        assert {pods[0].name} == set(clients.who(address, 80).values())
