"""``nfproxy run`` with an API server and real packets: changes, and connections that continue."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from support.packets.sending import Probe, probe, probe_many, tally
from support.packets.steps import answers
from support.processes.apidaemon import Site, site_in
from support.processes.commands import endpoint_slice, eventually, node_object, service
from support.responders import Responders
from support.traffic import Traffic

from nfproxy.model.service import Protocol
from nfproxy.tools.lab import Cluster, Host

STEADY, WEB, DNS = "10.96.0.1", "10.96.0.2", "10.96.0.3"
PORT = 8080


@pytest.fixture(scope="module")
def site(
    cluster: Cluster, responders: Responders, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Node-1 of a cluster whose pods answer, with an API server on it."""
    for pod in cluster.pods:
        for protocol in (Protocol.TCP, Protocol.UDP):
            responders.listen(pod, PORT, protocol)
    with site_in(cluster.nodes[0].namespace, tmp_path_factory.mktemp("site")) as made:
        made.api.apply(node_object())
        yield made


@pytest.fixture(autouse=True)
def objects(site: Site, cluster: Cluster) -> Iterator[None]:
    """The Service steady, whose two endpoints never change, and web, with one; empty tables."""
    site.api.apply(
        service("steady", STEADY),
        slice_of("steady", *cluster.pods[1:3]),
        service("web", WEB),
        slice_of("web", cluster.pods[0]),
    )
    yield
    for resource in ("services", "endpointslices"):
        for item in site.api.objects(resource):
            site.api.delete(resource, "default", item["metadata"]["name"])
    site.commands.nft("flush ruleset")


def slice_of(name: str, *pods: Host, **more: Any) -> dict[str, Any]:
    """Return the EndpointSlice of some pods."""
    return endpoint_slice(name, *(pod.ipv4 for pod in pods), **more)


def traffic(cluster: Cluster) -> Traffic:
    """Return endless connections to the Service steady, some of them kept open."""
    return Traffic(cluster.client, STEADY, 80, rate=100, held=4)


def reaches(cluster: Cluster, *wanted: str) -> None:
    """Wait until exactly these pods answer for web, or web has this verdict."""
    one = Probe(cluster.client, WEB, 80)
    eventually({*wanted}, lambda: set(tally(probe_many([one] * 24))))


def test_changes_reach_the_packets(site: Site, cluster: Cluster) -> None:
    """They do not disturb another Service."""
    a, b, *_ = pods = cluster.pods
    leaving = {"ready": False, "serving": True, "terminating": True}
    with site.daemon(), traffic(cluster) as steady:
        reaches(cluster, a.name)
        for chosen in ([b], pods, [a, b]):
            site.api.apply(slice_of("web", *chosen))
            reaches(cluster, *(pod.name for pod in chosen))
        site.api.apply(slice_of("web"))
        reaches(cluster, "refused")
        site.api.apply(slice_of("web", a, conditions=leaving))
        reaches(cluster, a.name)
        site.api.apply(service("web", WEB, type="ExternalName", externalName="example.org"))
        reaches(cluster, "dropped")
        site.api.apply(service("web", WEB))
        reaches(cluster, a.name)
        site.api.delete("services", "default", "web")
        reaches(cluster, "dropped")
    assert steady.answered > 0
    assert steady.failures == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_connections_continue_while_the_daemon_restarts(
    site: Site, cluster: Cluster, number: signal.Signals
) -> None:
    """Old and new ones do; changes from that time count afterwards."""
    a, b, *_ = cluster.pods
    with site.daemon() as daemon, traffic(cluster) as steady:
        steady.wait_for(20)
        daemon.end(number)
        steady.wait_for(20)
        reaches(cluster, a.name)
        site.api.apply(slice_of("web", b))
        with site.daemon():
            reaches(cluster, b.name)
            steady.wait_for(20)
    assert steady.failures == []


def test_connections_continue_while_the_api_server_is_away(site: Site, cluster: Cluster) -> None:
    """Changes from that time arrive when it is back."""
    a, b, *_ = cluster.pods
    with site.daemon() as daemon, traffic(cluster) as steady:
        site.api.wait_for_watches(count=4)
        site.api.stop()
        daemon.wait_for("refuses connections")
        site.api.apply(slice_of("web", b))
        reaches(cluster, a.name)
        steady.wait_for(20)

        site.api.start()

        reaches(cluster, b.name)
        steady.wait_for(20)
    assert steady.failures == []


def dns() -> dict[str, Any]:
    """Return a Service over UDP."""
    return service("dns", DNS, ports=[{"port": 53, "protocol": "UDP"}])


def dns_slice(*pods: Host) -> dict[str, Any]:
    """Return its endpoints."""
    return slice_of("dns", *pods, ports=[{"port": PORT, "protocol": "UDP"}])


def test_udp_flows_follow_their_service(site: Site, cluster: Cluster) -> None:
    """
    One flow from one port starts without an endpoint, then has one, another, and none.

    Conntrack alone would keep the flow as it started.
    """
    a, b, *_ = cluster.pods

    def ask() -> str:
        sent = probe(cluster.client, DNS, 53, Protocol.UDP, source_port=20053)
        return answers([sent])[0]

    with site.daemon():
        site.api.wait_for_watches(count=4)
        assert ask() == "dropped"
        site.api.apply(dns(), dns_slice())
        eventually("refused", ask)
        for pod in (a, b):
            site.api.apply(dns_slice(pod))
            eventually(pod.name, ask)
        site.api.apply(dns_slice())
        eventually("refused", ask)
        deleted = "kubeproxy_conntrack_reconciler_deleted_entries_total"
        assert site.metric(deleted, ip_family="IPv4") >= 2
