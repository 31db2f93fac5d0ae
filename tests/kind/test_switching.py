"""From nfproxy to kube-proxy and back, by the commands of deploy/docs/switching.md."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kind.cluster import Cluster, Web
from kind.existing import ExistingCluster
from kind.kubeproxy import KubeProxy
from kind.loads import failures, under_load

pytestmark = [pytest.mark.needs_cluster, pytest.mark.timeout(600)]


@pytest.fixture(params=["nftables", "iptables"])
def kube_proxy(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[KubeProxy]:
    """kube-proxy, in a mode; gone afterwards, and nfproxy in its place."""
    assert isinstance(cluster, ExistingCluster)
    made = KubeProxy(cluster, request.param)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def web(cluster: Cluster) -> Iterator[Web]:
    """A Service with a pod on each of two nodes."""
    nodes = [node.name for node in cluster.nodes]
    with cluster.serving("switching", nodes[:2], type="NodePort") as made:
        yield made


def test_switching_back_and_forth_fails_no_request(
    cluster: Cluster, web: Web, kube_proxy: KubeProxy
) -> None:
    """
    nfproxy gives way to kube-proxy on all nodes and takes over from it again, each being
    removed without a trace, and no connection notices.
    """
    said: dict[str, str] = {}

    def back() -> None:
        kube_proxy.come()
        kube_proxy.nfproxy_goes()
        for node in cluster.nodes:
            said[f"nfproxy left {node.name}"] = kube_proxy.clean_up_nfproxy(node.name)

    def forth() -> None:
        kube_proxy.nfproxy_comes()
        kube_proxy.go()
        kube_proxy.nfproxy_is_ready()
        for node in cluster.nodes:
            said[f"kube-proxy left {node.name}"] = kube_proxy.clean_up_kube_proxy(node.name)

    assert failures(under_load(cluster, web, back, held=2)) == {}
    assert failures(under_load(cluster, web, forth, held=2)) == {}
    for what, text in said.items():
        assert "removed" in text, f"{what}: {text}"
