"""Nothing is lost while pods come and go, those that answer and those of nfproxy."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from kind.cluster import Cluster, Web, heard
from kind.loads import failures, under_load


@pytest.fixture(scope="module")
def web(cluster: Cluster) -> Iterator[Web]:
    """A Service with a pod on each of two nodes."""
    nodes = [node.name for node in cluster.nodes]
    with cluster.serving("rollout", nodes[:2], type="NodePort") as made:
        yield made


def test_a_rolling_update_of_the_backends_fails_no_request(cluster: Cluster, web: Web) -> None:
    """All pods that answer are exchanged under load, and every request is answered."""
    before = web.names
    figures = under_load(cluster, web, lambda: cluster.roll(web.name))
    assert failures(figures) == {}
    assert not before & web.names
    for one in figures.values():
        assert set(one.answers) >= web.names


def test_a_rolling_update_of_nfproxy_fails_no_request(cluster: Cluster, web: Web) -> None:
    """
    All pods of the DaemonSet are exchanged under load: no new connection fails, no held one ends.
    """
    assert failures(under_load(cluster, web, cluster.roll_proxy, held=2)) == {}


def test_a_crash_of_nfproxy_fails_no_request(cluster: Cluster, web: Web) -> None:
    """nfproxy is killed on a node under load, and started again: no client notices."""
    last = cluster.nodes[2].name
    figures = under_load(cluster, web, lambda: cluster.crash_proxy(last), held=2)
    assert failures(figures) == {}


def test_draining_a_node_fails_no_request(cluster: Cluster, web: Web) -> None:
    """
    The pods of a node are evicted under load, and come up elsewhere: every request is answered.
    """
    first = cluster.nodes[0].name

    def drain() -> None:
        cluster.drain(first)
        cluster.eventually(2, lambda: len(web.names))

    try:
        figures = under_load(cluster, web, drain)
    finally:
        cluster.uncordon(first)
    assert failures(figures) == {}
    assert set() == web.names_on(first)


def test_changes_while_nfproxy_is_away_are_made_up_for(cluster: Cluster, web: Web) -> None:
    """What changes during a rolling update of nfproxy is in force afterwards."""
    changing = threading.Thread(target=cluster.roll, args=[web.name])
    changing.start()
    cluster.roll_proxy()
    changing.join()
    names, at = web.names, (web.service.cluster_ip("IPv4"), 80)
    for client in cluster.clients():
        cluster.eventually(names, lambda c=client: heard(c.ask(*at, count=16)))
