"""Load from everywhere, while something changes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from kind.clients import Figures, Load
from kind.cluster import Cluster, Web

_RATE = 25.0
_ENOUGH = 25  # connections before and after, so that the change falls among them


def _loads(cluster: Cluster, web: Web, held: int) -> dict[str, Load]:
    """Return loads from pod, node and outside, over cluster IP and node port, in both families."""
    service, nodes = web.service, cluster.nodes
    last = nodes[2]
    pod, host, outside = cluster.pod_on(nodes[0].name), cluster.host(last.name), cluster.outside
    return {
        "pod": pod.load(service.cluster_ip("IPv4"), 80, held=held, rate=_RATE),
        "pod, IPv6": pod.load(service.cluster_ip("IPv6"), 80, held=held, rate=_RATE),
        "pod, UDP": pod.load(service.cluster_ip("IPv4"), 80, "UDP", rate=_RATE),
        "node": host.load(service.cluster_ip("IPv4"), 80, held=held, rate=_RATE),
        "outside": outside.load(last.addresses["IPv4"], service.node_port(), held=held, rate=_RATE),
        "outside, IPv6": outside.load(
            last.addresses["IPv6"], service.node_port(), held=held, rate=_RATE
        ),
    }


def under_load(
    cluster: Cluster, web: Web, change: Callable[[], None], held: int = 0
) -> dict[str, Figures]:
    """Make a change under load from everywhere; return what became of each load."""
    cluster.wait_for(web)
    loads = _loads(cluster, web, held)
    with contextlib.ExitStack() as stack:
        for load in loads.values():
            stack.enter_context(load)
        _wait_for_more(loads)
        change()
        _wait_for_more(loads)
    return {name: load.figures for name, load in loads.items()}


def _wait_for_more(loads: dict[str, Load]) -> None:
    targets = [(load, load.done + _ENOUGH) for load in loads.values()]
    for load, target in targets:
        load.wait_until_done(target)


def failures(figures: dict[str, Figures]) -> dict[str, list[str]]:
    """Return the connections that failed, by the name of the load; nothing for none."""
    return {name: one.failures for name, one in figures.items() if one.failures}
