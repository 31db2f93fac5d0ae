"""Connections that get no endpoint are counted by reason, with real packets."""

from __future__ import annotations

import pytest
from support.kernel import rules
from support.packets.sending import Probe, probe_many
from support.packets.steps import (
    CLUSTER_IP,
    LOAD_BALANCER_IP,
    SHORT_S,
    Proxy,
    endpoints_of,
    everywhere,
    families,
    proxied,
)

from nfproxy.model.addresses import FAMILIES, Family, parse_prefix
from nfproxy.model.changes import Changes
from nfproxy.model.node import ServiceCIDR
from nfproxy.tools.lab import Cluster

pytestmark = pytest.mark.usefixtures("flushed")

_PODS = ("10.244.0.0/16", "fd00:10:244::/48")
_RANGES = tuple(map(parse_prefix, ("10.96.0.0/16", "fd00:10:96::/112")))
_UNALLOCATED = {Family.IPV4: "10.96.200.1", Family.IPV6: "fd00:10:96::c801"}


def grown(proxy: Proxy, one: Probe) -> set[str]:
    """Return the counters that grow with one connection."""
    before = {family: proxy.kernel.named_counters(family) for family in FAMILIES}
    probe_many([one], timeout_s=SHORT_S)
    return {
        name.removeprefix("refused-").replace("-", "_")
        for family in FAMILIES
        for name, count in proxy.kernel.named_counters(family).items()
        if count > before[family][name]
    }


@families
def test_each_reason_has_its_counter(served: Cluster, family: Family) -> None:
    """A connection that is served counts nowhere, each other one at one reason."""
    cluster_ip, balancer = CLUSTER_IP.of(family), LOAD_BALANCER_IP.of(family)
    pod, client = served.pod(1, 1), served.client
    remote = list(served.nodes[1].pods.values())
    cidrs = {"all": ServiceCIDR("all", _RANGES)}
    with proxied(served, everywhere()) as proxy:
        assert grown(proxy, Probe(pod, cluster_ip, 80)) == {"no_endpoints"}
        assert grown(proxy, Probe(client, balancer, 80)) == {"no_endpoints"}
        assert grown(proxy, Probe(pod, cluster_ip, 81)) == {"unknown_port"}

        proxy.put(*endpoints_of("web", remote))
        assert grown(proxy, Probe(pod, cluster_ip, 80)) == set()
        assert grown(proxy, Probe(client, balancer, 80)) == set()

        proxy.put(everywhere(internal_local=True, external_local=True))
        assert grown(proxy, Probe(pod, cluster_ip, 80)) == {"no_local"}
        assert grown(proxy, Probe(client, balancer, 80)) == {"no_local"}
        assert grown(proxy, Probe(pod, balancer, 80)) == set()

        proxy.put(everywhere(source_ranges=_PODS))
        assert grown(proxy, Probe(client, balancer, 80)) == {"source_range"}

        proxy.apply(Changes(service_cidrs=cidrs))  # type: ignore[arg-type]
        assert grown(proxy, Probe(pod, _UNALLOCATED[family], 80)) == {"unallocated"}


@families
def test_an_empty_slot_has_its_counter(served: Cluster, family: Family) -> None:
    """As for the packet that read a verdict whose slot another process has just emptied."""
    with proxied(served, everywhere(), *endpoints_of("web", served.pods[:1])) as proxy:
        rules.load(served.nodes[0], f"flush map {family.table} nfproxy endpoints-tcp")
        one = Probe(served.pod(1, 1), CLUSTER_IP.of(family), 80)
        assert grown(proxy, one) == {"empty_slot"}
