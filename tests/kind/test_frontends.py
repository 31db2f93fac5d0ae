"""A Service is reached at every one of its addresses, by everyone, in both families."""

from __future__ import annotations

import pytest
from kind.cluster import EXTERNAL_IPS, INGRESS_IPS, Cluster, Web, heard

_DRAWS = 16  # that one of two endpoints is drawn in none of them: 1 to 2^15, and asked again


def _frontends(
    cluster: Cluster, web: Web, family: str, protocol: str
) -> dict[str, tuple[str, int]]:
    service = web.service
    port = service.port(protocol)
    return {
        "cluster IP": (service.cluster_ip(family), port),
        "external IP": (EXTERNAL_IPS[family], port),
        "load-balancer IP": (INGRESS_IPS[family], port),
        **{
            f"node port of {node.name}": (node.addresses[family], service.node_port(protocol))
            for node in cluster.nodes
        },
    }


def test_every_frontend_serves_every_client(
    cluster: Cluster, spread: Web, family: str, protocol: str
) -> None:
    """
    Pods and processes of every node, with endpoints or without, and who is outside reach all
    endpoints at all addresses.
    """
    frontends = _frontends(cluster, spread, family, protocol)
    expected = {
        (client.name, kind): spread.names for client in cluster.clients() for kind in frontends
    }

    def reached() -> dict[tuple[str, str], set[str]]:
        return {
            (client.name, kind): heard(client.ask(*at, protocol, count=_DRAWS))
            for client in cluster.clients()
            for kind, at in frontends.items()
        }

    cluster.eventually(expected, reached)


def test_a_pod_is_seen_as_itself_at_a_cluster_ip(
    cluster: Cluster, spread: Web, family: str
) -> None:
    """What a pod asks of a cluster IP reaches the endpoint with the pod's own address."""
    at = spread.service.cluster_ip(family), spread.service.port()
    for node in cluster.nodes:
        pod = cluster.pod_on(node.name)
        own = {cluster.address_of(pod, family)}
        cluster.eventually(own, lambda pod=pod: {one.saw for one in pod.ask(*at, count=_DRAWS)})


def test_who_is_outside_is_masqueraded_at_a_node_port(
    cluster: Cluster, spread: Web, family: str
) -> None:
    """With externalTrafficPolicy Cluster the endpoint sees a node and not the one who asks."""
    outside = cluster.outside
    at = cluster.nodes[2].addresses[family], spread.service.node_port()
    own = cluster.address_of(outside, family)

    def masqueraded() -> bool:
        return not {"", own} & {answer.saw for answer in outside.ask(*at, count=_DRAWS)}

    cluster.eventually(True, masqueraded)


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort"])
def test_a_service_without_endpoints_refuses(cluster: Cluster, family: str, kind: str) -> None:
    """Without endpoints a connection is refused at once, and not left waiting."""
    first = cluster.nodes[0]
    with cluster.serving(f"empty-{kind.lower()}-{family.lower()}", [], type=kind) as web:
        client, at = cluster.pod_on(first.name), (web.service.cluster_ip(family), 80)
        if kind == "NodePort":
            client, at = cluster.outside, (first.addresses[family], web.service.node_port())
        cluster.eventually({"refused"}, lambda: heard(client.ask(*at)))


def test_a_removed_service_answers_no_more(cluster: Cluster, family: str) -> None:
    """When a Service is deleted, its node port is closed."""
    first = cluster.nodes[0]
    with cluster.serving(f"passing-{family.lower()}", [first.name], type="NodePort") as web:
        at = first.addresses[family], web.service.node_port()
        cluster.eventually(web.names, lambda: heard(cluster.outside.ask(*at)))
    cluster.eventually({"refused"}, lambda: heard(cluster.outside.ask(*at)))
