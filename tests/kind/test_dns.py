"""The cluster's DNS comes up behind its cluster IP, and its names lead to Services."""

from __future__ import annotations

import pytest
from kind.cluster import FAMILIES, Cluster, heard

pytestmark = pytest.mark.needs_cluster


def test_pods_resolve_and_reach_services_by_name(cluster: Cluster) -> None:
    """
    On every node a pod learns a Service's cluster IPs from the cluster's DNS, and reaches it by
    its name.
    """
    nodes = [node.name for node in cluster.nodes]
    with cluster.serving("named", nodes[:2]) as web:
        wanted = sorted(web.service.cluster_ip(family) for family in FAMILIES)
        for node in nodes:
            pod = cluster.pod_on(node)
            cluster.eventually(wanted, lambda pod=pod: sorted(pod.resolve("named")))
            # one of the DNS servers may not know the name yet, or remember that there is none
            cluster.eventually(
                True, lambda pod=pod: heard(pod.ask("named", 80, count=4)) <= web.names
            )


def test_the_api_server_is_reached_by_its_cluster_ip(cluster: Cluster) -> None:
    """Pods reach the API server at the name that client libraries use."""
    for node in cluster.nodes:
        pod = cluster.pod_on(node.name)
        # It speaks TLS: a request without is answered by 400.
        cluster.eventually(400, lambda pod=pod: pod.get("kubernetes.default.svc", 443, "/livez"))
