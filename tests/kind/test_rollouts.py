"""
Nothing is lost while pods come and go, those that answer and those of nfproxy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from kind.clients import Figures, Load
from kind.cluster import Cluster, Web, heard

_ENOUGH = 50  # connections before and after, so that the change falls among them


@pytest.fixture(scope="module")
def web(cluster: Cluster) -> Iterator[Web]:
    """A Service with a pod on each of two nodes."""
    nodes = [node.name for node in cluster.nodes]
    with cluster.serving("rollout", nodes[:2], type="NodePort") as made:
        yield made


def _loads(cluster: Cluster, web: Web, held: int) -> dict[str, Load]:
    """Return loads from pod, node and outside, over cluster IP and node port, in both families."""
    service, nodes = web.service, cluster.nodes
    last = nodes[2]
    pod, host, outside = cluster.pod_on(nodes[0].name), cluster.host(last.name), cluster.outside
    return {
        "pod": pod.load(service.cluster_ip("IPv4"), 80, held=held, rate=50),
        "pod, IPv6": pod.load(service.cluster_ip("IPv6"), 80, held=held, rate=50),
        "pod, UDP": pod.load(service.cluster_ip("IPv4"), 80, "UDP", rate=50),
        "node": host.load(service.cluster_ip("IPv4"), 80, held=held, rate=50),
        "outside": outside.load(last.addresses["IPv4"], service.node_port(), held=held, rate=50),
        "outside, IPv6": outside.load(
            last.addresses["IPv6"], service.node_port(), held=held, rate=50
        ),
    }


def _under_load(
    cluster: Cluster, web: Web, change: Callable[[], None], held: int = 0
) -> dict[str, Figures]:
    """Make a change under load from everywhere; return what became of each load."""
    for client in cluster.clients():
        cluster.eventually(
            True, lambda c=client: heard(c.ask(web.service.cluster_ip("IPv6"), 80)) <= web.names
        )
    loads = _loads(cluster, web, held)
    with contextlib.ExitStack() as stack:
        for load in loads.values():
            stack.enter_context(load)
        for load in loads.values():
            load.wait_for(_ENOUGH)
        change()
        for load in loads.values():
            load.wait_for(_ENOUGH)
    return {name: load.figures for name, load in loads.items()}


def _failures(figures: dict[str, Figures]) -> dict[str, list[str]]:
    return {name: one.failures for name, one in figures.items() if one.failures}


def test_a_rolling_update_of_the_backends_fails_no_request(cluster: Cluster, web: Web) -> None:
    """
    All pods that answer are exchanged under load, and every request is answered.
    """
    before = web.names
    figures = _under_load(cluster, web, lambda: cluster.roll(web.name))
    assert _failures(figures) == {}
    assert not before & web.names
    for one in figures.values():
        assert set(one.answers) >= web.names


def test_a_rolling_update_of_nfproxy_fails_no_request(cluster: Cluster, web: Web) -> None:
    """
    All pods of the DaemonSet are exchanged under load: no new connection fails, no held one ends.
    """
    assert _failures(_under_load(cluster, web, cluster.roll_proxy, held=2)) == {}


def test_a_crash_of_nfproxy_fails_no_request(cluster: Cluster, web: Web) -> None:
    """
    nfproxy is killed on a node under load, and started again: nobody notices.
    """
    last = cluster.nodes[2].name
    figures = _under_load(cluster, web, lambda: cluster.crash_proxy(last), held=2)
    assert _failures(figures) == {}


def test_draining_a_node_fails_no_request(cluster: Cluster, web: Web) -> None:
    """
    The pods of a node are evicted under load, and come up elsewhere: every request is answered.
    """
    first = cluster.nodes[0].name

    def drain() -> None:
        cluster.drain(first)
        cluster.eventually(2, lambda: len(web.names))

    try:
        figures = _under_load(cluster, web, drain)
    finally:
        cluster.uncordon(first)
    assert _failures(figures) == {}
    assert set() == web.names_on(first)


def test_changes_while_nfproxy_is_away_are_made_up_for(cluster: Cluster, web: Web) -> None:
    """
    What changes around the rolling update of nfproxy is in force afterwards.
    """
    cluster.roll(web.name)
    cluster.roll_proxy()
    names = web.names
    at = web.service.cluster_ip("IPv4"), 80
    for client in cluster.clients():
        cluster.eventually(names, lambda c=client: heard(c.ask(*at, count=16)))
