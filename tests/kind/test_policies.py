"""Traffic policies Local, and the health check port for load balancers; session affinity."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kind.clients import Answer
from kind.cluster import INGRESS_IPS, Cluster, Web, heard

_DRAWS = 16


@pytest.fixture(scope="module")
def external_local(cluster: Cluster) -> Iterator[Web]:
    """A Service of externalTrafficPolicy Local whose one pod is on the first node."""
    first = cluster.nodes[0].name
    spec = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    with cluster.serving("external-local", [first], **spec) as web:
        cluster.set_ingress(web.service, INGRESS_IPS_OF_LOCAL.values())
        yield web


#: Others than those of the Service that is there in all modules.
INGRESS_IPS_OF_LOCAL = {family: f"{address}1" for family, address in INGRESS_IPS.items()}


def test_external_traffic_local_keeps_the_source(
    cluster: Cluster, external_local: Web, family: str, protocol: str
) -> None:
    """Who is outside reaches the local endpoint, which sees who asks."""
    at = cluster.nodes[0].addresses[family], external_local.service.node_port(protocol)
    own = cluster.address_of(cluster.outside, family)
    (name,) = external_local.names

    def seen() -> set[tuple[str, str]]:
        return {(a.by, a.saw) for a in cluster.outside.ask(*at, protocol, count=4)}

    cluster.eventually({(name, own)}, seen)


def test_external_traffic_local_drops_without_local_endpoints(
    cluster: Cluster, external_local: Web, family: str
) -> None:
    """A node without endpoints gives no answer to who is outside, so load balancers notice."""
    port = external_local.service.node_port()
    first, last = (cluster.nodes[at].addresses[family] for at in (0, 2))
    outside = cluster.outside
    cluster.eventually(external_local.names, lambda: heard(outside.ask(first, port)))
    cluster.eventually({"dropped"}, lambda: heard(outside.ask(last, port, count=3)))


def test_external_traffic_local_serves_the_node_itself(
    cluster: Cluster, external_local: Web, family: str
) -> None:
    """Pods and processes of a node without endpoints reach the load-balancer IP all the same."""
    last = cluster.nodes[2].name
    for client in (cluster.pod_on(last), cluster.host(last)):
        cluster.eventually(
            external_local.names,
            lambda client=client: heard(client.ask(INGRESS_IPS_OF_LOCAL[family], 80)),
        )


def test_the_health_check_node_port_counts_local_endpoints(
    cluster: Cluster, external_local: Web, family: str
) -> None:
    """The node with the endpoint answers load balancers with 200, the others with 503."""
    port = external_local.service.health_check_node_port
    expected = {node.name: 503 for node in cluster.nodes} | {cluster.nodes[0].name: 200}

    def answered() -> dict[str, int]:
        return {
            node.name: cluster.outside.get(node.addresses[family], port) for node in cluster.nodes
        }

    cluster.eventually(expected, answered)


def test_internal_traffic_local_stays_on_the_node(cluster: Cluster, family: str) -> None:
    """With internalTrafficPolicy Local each node uses its own endpoints, and drops without any."""
    nodes = [node.name for node in cluster.nodes]
    name = f"internal-local-{family.lower()}"
    with cluster.serving(name, nodes[:2], internalTrafficPolicy="Local") as web:
        at = web.service.cluster_ip(family), web.service.port()
        own = {node: web.names_on(node) or {"dropped"} for node in nodes}
        assert [len(own[node] & web.names) for node in nodes] == [1, 1, 0]

        def reached() -> dict[str, set[str]]:
            return {node: heard(cluster.pod_on(node).ask(*at, count=_DRAWS)) for node in nodes}

        cluster.eventually(own, reached)


def test_session_affinity_keeps_a_client_at_one_endpoint(
    cluster: Cluster, family: str, protocol: str
) -> None:
    """
    With sessionAffinity ClientIP a client stays at its endpoint, and at it again after others.
    """
    nodes = [node.name for node in cluster.nodes]
    name = f"sticky-{family.lower()}-{protocol.lower()}"
    with cluster.serving(name, nodes, sessionAffinity="ClientIP") as web:
        pods = [cluster.pod_on(node) for node in nodes]

        def ask(at: int, count: int) -> list[Answer]:
            return pods[at].ask(
                web.service.cluster_ip(family), web.service.port(protocol), protocol, count=count
            )

        def served() -> bool:
            return web.names >= heard(answer for at in range(3) for answer in ask(at, 1))

        cluster.eventually(True, served)
        chosen = [heard(ask(at, 1)) for at in range(3)]
        assert chosen == [heard(ask(at, _DRAWS)) for at in range(3)]
