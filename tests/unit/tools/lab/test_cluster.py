"""The network that Cluster builds."""

from collections.abc import Iterator

import pytest
from support.kernel import rules
from support.packets.sending import Probe, probe, probe_many, tally
from support.packets.steps import families
from support.responders import Responders

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.service import Protocol
from nfproxy.tools.lab import Cluster, LabNode, Pod
from nfproxy.tools.lab.cluster import bridge_netfilter, set_bridge_netfilter

PORT = 8080


@pytest.fixture(params=["routed", "bridge"])
def built(
    request: pytest.FixtureRequest, namespaces_allowed: None
) -> Iterator[tuple[Cluster, Responders]]:
    """A fresh cluster of either kind, and its responders."""
    prefix = "cali" if request.param == "routed" else "veth"
    with (
        Cluster(pod_network=request.param, pod_interface_prefix=prefix) as cluster,
        Responders() as responders,
    ):
        yield cluster, responders


def translate(node: LabNode, family: Family, pod: Pod) -> str:
    """Translate one service address to `pod`, with masquerade for itself; return the address."""
    service = "10.96.0.1" if family is Family.IPV4 else "fd00:10:96::1"
    address = pod.address(family)
    target = f"[{address}]" if family is Family.IPV6 else address
    word = family.table
    rules.load(
        node,
        f"table {word} test {{ chain pre {{ type nat hook prerouting priority -100\n"
        f"{word} daddr {service} tcp dport 80 dnat to {target}:{PORT}\n }}\n"
        "chain post { type nat hook postrouting priority 100\n"
        f"ct status dnat {word} saddr {address} {word} daddr {address} masquerade\n }}\n }}",
    )
    return service


def test_addresses(built: tuple[Cluster, Responders]) -> None:
    """Names and addresses follow the numbers of nodes and pods."""
    cluster, _ = built

    names = ["node-1", "node-2", "pod-1-1", "pod-1-2", "pod-2-1", "pod-2-2", "client"]
    assert names == [host.name for host in cluster.hosts]
    assert cluster.nodes[1].addresses[0] == ("192.168.77.12", "fd77::12")
    assert cluster.pod(2, 1).addresses[0] == ("10.244.2.11", "fd00:10:244:2::11")
    assert cluster.host("pod-2-1") is cluster.pod(2, 1)
    with pytest.raises(LookupError, match="no host pod-9-9"):
        cluster.host("pod-9-9")


def test_fresh_cluster_loses_nothing(built: tuple[Cluster, Responders]) -> None:
    """The first packets between any two hosts arrive; UDP never repeats them."""
    cluster, responders = built
    for host in cluster.hosts:
        responders.listen(host, PORT, Protocol.UDP)
    probes = [
        Probe(one, other.address(family), PORT, Protocol.UDP)
        for one in cluster.hosts
        for other in cluster.hosts
        for family in FAMILIES
    ]

    assert {host.name: 14 for host in cluster.hosts} == tally(probe_many(probes))


@families
def test_interface_a_node_sees(built: tuple[Cluster, Responders], family: Family) -> None:
    """Packets of a routed pod arrive by its own interface, those of a bridged pod by cni0."""
    cluster, responders = built
    pod, far = cluster.pod(1, 1), cluster.pod(2, 1)
    responders.listen(far, PORT)
    interface = "cni0" if cluster.pod_network == "bridge" else "cali1-1"

    def block(name: str) -> None:
        chain = f"type filter hook prerouting priority 0\n iifname {name} drop\n"
        rules.load(pod.node, f"table {family.table} test {{ chain pre {{ {chain} }}\n }}")

    assert pod.interface == f"{'veth' if cluster.pod_network == 'bridge' else 'cali'}1-1"
    block("wrong0")
    assert probe(pod, far.address(family), PORT).answered
    block(interface)
    assert probe(pod, far.address(family), PORT).dropped


@families
def test_same_node_and_hairpin(built: tuple[Cluster, Responders], family: Family) -> None:
    """Translation works towards a pod of the same node, and towards the pod itself."""
    cluster, responders = built
    if cluster.pod_network == "bridge":
        assert bridge_netfilter(), "load br_netfilter: bridged pods need it"
    pod, other = cluster.pod(1, 1), cluster.pod(1, 2)
    responders.listen(pod, PORT)
    service = translate(pod.node, family, pod)

    from_other = probe(other, service, 80)
    from_itself = probe(pod, service, 80)
    assert (from_other.by, from_other.masqueraded) == ("pod-1-1", False)
    assert (from_itself.by, from_itself.masqueraded) == ("pod-1-1", True)


@families
def test_bridge_without_netfilter(namespaces_allowed: None, family: Family) -> None:
    """Where nftables does not see bridged packets, only Services with endpoints elsewhere work."""
    with Cluster(pod_network="bridge") as cluster, Responders() as responders:
        node = cluster.nodes[0]
        set_bridge_netfilter(node, on=False)
        for pod in cluster.pods:
            responders.listen(pod, PORT)

        service = translate(node, family, cluster.pod(1, 1))
        assert probe(cluster.pod(1, 2), service, 80).dropped
        rules.flush(node)
        service = translate(node, family, cluster.pod(2, 1))
        assert probe(cluster.pod(1, 2), service, 80).by == "pod-2-1"


def test_pods_come_and_go(built: tuple[Cluster, Responders]) -> None:
    """A new pod is reachable at once; a removed one frees its address for the next."""
    cluster, responders = built
    node = cluster.nodes[0]
    pod = cluster.add_pod(node)
    responders.listen(pod, PORT, Protocol.UDP)

    assert (pod.name, pod.ipv4) == ("pod-1-3", "10.244.1.13")
    assert [
        probe(cluster.client, address, PORT, Protocol.UDP).by for address in pod.addresses[0]
    ] == ["pod-1-3"] * 2
    responders.stop(pod)
    cluster.remove_pod(pod)
    assert not probe(cluster.client, pod.ipv4, PORT, Protocol.UDP).answered
    again = cluster.add_pod(node, "web")
    responders.listen(again, PORT, Protocol.UDP)
    assert ("web", pod.ipv4) == (again.name, again.ipv4)
    assert [
        probe(cluster.client, address, PORT, Protocol.UDP).by for address in pod.addresses[0]
    ] == ["web"] * 2
    with pytest.raises(ValueError, match="has a pod web already"):
        cluster.add_pod(node, "web")


@families
def test_addresses_come_and_go(built: tuple[Cluster, Responders], family: Family) -> None:
    """An address added to a node answers at once, and no longer once it is removed."""
    cluster, responders = built
    node = cluster.nodes[0]
    address = "203.0.113.9" if family is Family.IPV4 else "2001:db8::9"
    assert probe(cluster.client, address, PORT).dropped

    node.add_address(address, as_source=False)
    responder = responders.listen(node, PORT, addresses=[address], identity="extra")
    assert probe(cluster.client, address, PORT).by == "extra"
    responders.listen(cluster.client, PORT)
    assert probe(node, cluster.client.address(family), PORT).seen_address == node.address(family)
    responder.close()
    assert probe(cluster.client, address, PORT).refused
    node.remove_address(address)
    assert probe(cluster.client, address, PORT).dropped
