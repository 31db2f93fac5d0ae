"""
The integration suite: one suite, and a cluster of one's choice.

    --cluster=namespaces                 out of network namespaces, on this machine (the default)
    --cluster=kind                       the kind cluster that tests/kind/run.sh made
    --cluster=existing --kubeconfig F    any cluster that kubectl reaches, with nfproxy installed

Cases marked needs_cluster want a kubelet, a scheduler or images of others; those marked
needs_namespaces break what a real cluster is to keep; the one marked needs_e2e wants E2E_TEST to
name Kubernetes' e2e.test. Those left out are counted at the end: see `kind.selection`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kind.cluster import EXTERNAL_IPS, FAMILIES, INGRESS_IPS, Cluster, Web
from kind.existing import from_options
from kind.namespaces import NamespacesCluster
from kind.selection import in_namespaces
from support.containers.image import BuiltImage, image_directory
from support.manifests import overlay

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Allow for a cluster's start, and for an image that has to be built before."""
    for item in items:
        if item.path.parent == _HERE and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The cluster, with nfproxy ready on every node."""
    config = request.config
    if in_namespaces(config):
        request.getfixturevalue("namespaces_allowed")
        made: Cluster = NamespacesCluster(overlay("kind"), BuiltImage(image_directory()))
    else:
        made = from_options(config)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def lab(cluster: Cluster) -> NamespacesCluster:
    """The cluster, for cases that need namespaces."""
    assert isinstance(cluster, NamespacesCluster)
    return cluster


@pytest.fixture(scope="module")
def spread(cluster: Cluster) -> Iterator[Web]:
    """A LoadBalancer Service with a pod on each of two nodes, and none on the third."""
    nodes = [node.name for node in cluster.nodes]
    external = list(EXTERNAL_IPS.values())
    with cluster.serving("spread", nodes[:2], type="LoadBalancer", externalIPs=external) as web:
        cluster.set_ingress(web.service, INGRESS_IPS.values())
        cluster.wait_for(web)
        yield web


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """IPv4 and IPv6."""
    return str(request.param)


@pytest.fixture(params=["TCP", "UDP"])
def protocol(request: pytest.FixtureRequest) -> str:
    """TCP and UDP."""
    return str(request.param)
