"""Session affinity beside traffic policies: which endpoints a client keeps, with real packets."""

from __future__ import annotations

from support.objects.model import service
from support.packets.steps import (
    CLUSTER_IP,
    Crowd,
    Frontend,
    answers,
    endpoints_of,
    everywhere,
    families,
    node_config,
    protocols,
    proxied,
    reached,
    same_each_time,
    target,
)

from nfproxy.model.addresses import Family
from nfproxy.model.service import Protocol
from nfproxy.tools.lab import Cluster

HOURS = 3 * 3600


@families
@protocols
def test_with_policy_local_each_list_has_its_own_clients(
    served: Cluster, clients: Crowd, family: Family, protocol: Protocol
) -> None:
    """Outside clients stick to local endpoints, pods and the node to any of all."""
    web = everywhere(protocol=protocol, affinity_timeout_s=HOURS, external_local=True)
    local = {pod.name for pod in served.nodes[0].pods.values()}
    with proxied(served, web, *endpoints_of("web", served.pods, protocol=protocol)) as proxy:
        seen = []
        for frontend in Frontend.OUTER:
            outcomes = clients.ask(*target(served, frontend, family), protocol)
            assert not any(one.masqueraded for one in outcomes.values())
            seen.append(answers(outcomes.values()))
        assert set(seen[0]) == local
        assert seen[0] == seen[1] == seen[2]
        # the cluster IP has all endpoints, theirs among them
        assert seen[0] == list(clients.who(CLUSTER_IP.of(family), 80, protocol).values())

        for source in (served.pod(1, 1), served.pod(1, 2), served.nodes[0]):
            by = same_each_time(source, served, family, protocol)
            assert len(by) == 1, (source.name, by)

        # the list of pods and the node is not the local one: with none local they are served
        remote = served.nodes[1].pods.values()
        proxy.put(*endpoints_of("web", remote, protocol=protocol))
        for frontend in Frontend.OUTER:
            assert reached(served.client, *target(served, frontend, family), protocol, times=4) == {
                "dropped"
            }
        for source in (served.pod(1, 1), served.nodes[0]):
            by = same_each_time(source, served, family, protocol)
            assert len(by) == 1
            assert by <= {pod.name for pod in remote}


@families
def test_a_remote_endpoint_is_of_no_use_where_only_local_ones_are(
    served: Cluster, clients: Crowd, family: Family
) -> None:
    """A client with a remote endpoint gets a local one with policy Local, and keeps both."""
    web = everywhere(affinity_timeout_s=HOURS, external_local=True)
    local = {pod.name for pod in served.nodes[0].pods.values()}
    inside = (CLUSTER_IP.of(family), 80)
    outside = target(served, Frontend.NODE_PORT, family)
    with proxied(served, web, *endpoints_of("web", served.pods)):
        first = clients.who(*inside)
        assert set(first.values()) - local
        second = clients.who(*outside)
        assert set(second.values()) == local
        for client, by in first.items():
            assert by not in local or second[client] == by
        for _ in range(2):
            assert first == clients.who(*inside)
            assert second == clients.who(*outside)


@families
def test_pods_stick_to_remote_endpoints_with_policy_local(served: Cluster, family: Family) -> None:
    """A pod keeps its endpoint of the cluster list although its node has endpoints, too."""
    web = everywhere(affinity_timeout_s=HOURS, external_local=True)
    first_pod, remote = served.pod(1, 1), served.pod(2, 1)
    with proxied(served, web, *endpoints_of("web", [remote])) as proxy:
        for source in (first_pod, served.nodes[0]):
            assert same_each_time(source, served, family, Protocol.TCP) == {remote.name}
        proxy.put(*endpoints_of("web", served.pods))
        for source in (first_pod, served.nodes[0]):
            assert same_each_time(source, served, family, Protocol.TCP) == {remote.name}


@families
def test_with_internal_policy_local_the_local_list_is_remembered(
    served: Cluster, clients: Crowd, family: Family
) -> None:
    """The cluster IP leads to local endpoints, and a client keeps the one it has."""
    web = service("web", cluster_ips=CLUSTER_IP, affinity_timeout_s=HOURS, internal_local=True)
    with proxied(served, web, *endpoints_of("web", served.pods)):
        before = clients.who(CLUSTER_IP.of(family), 80)
        assert set(before.values()) == {pod.name for pod in served.nodes[0].pods.values()}
        for _ in range(3):
            assert before == clients.who(CLUSTER_IP.of(family), 80)


@families
def test_affinity_without_detection_of_pods(
    served: Cluster, clients: Crowd, family: Family
) -> None:
    """Where pods cannot be recognised, all but the node have the local list with policy Local."""
    web = everywhere(affinity_timeout_s=HOURS, external_local=True)
    local = {pod.name for pod in served.nodes[0].pods.values()}
    config = {"local_pods": type(node_config().local_pods)()}
    with proxied(served, web, *endpoints_of("web", served.pods), **config):
        where = target(served, Frontend.LOAD_BALANCER_IP, family)
        before = clients.who(*where)
        assert before == clients.who(*where)
        assert local == set(before.values())
        by = reached(served.pod(1, 1), *where, times=6)
        assert by <= local
        assert len(by) == 1
