"""
Flows that something else than a change of their own Service makes stale, with the real daemon.

A client keeps its port, so conntrack takes all its packets for one flow and sends them where it
sent the first, until the daemon removes that entry.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from support.kernel.entries import Entries
from support.packets.sending import probe
from support.packets.steps import (
    CLUSTER_IP,
    ENDPOINT_PORT,
    LOAD_BALANCER_IP,
    NODE_PORT,
    OTHER_CLUSTER_IP,
    answers,
    families,
)
from support.processes.apidaemon import FLAGS
from support.processes.commands import (
    ROOT,
    Commands,
    Daemon,
    endpoint_slice,
    eventually,
    node_object,
    package_copy,
    service,
    write,
)
from support.responders import Responders

from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.service import Protocol
from nfproxy.tools.lab import Cluster, Host

UDP, SCTP = Protocol.UDP, Protocol.SCTP
OTHER_PORT = ENDPOINT_PORT + 1

#: A firewall's rules: conntrack works on when nfproxy's tables are gone.
FIREWALL = """
table inet firewall {
    chain seen {
        type filter hook prerouting priority 0
        ct state new
    }
}
"""

_ports = itertools.count(21000)


class Node:
    """Node-1 with nfproxy on it, and a client outside that keeps its source port."""

    def __init__(self, cluster: Cluster, scratch: Path, protocol: Protocol = UDP) -> None:
        self.cluster = cluster
        self.protocol = protocol
        self.port = next(_ports)
        self.commands = Commands(cluster.nodes[0].namespace, scratch)
        self._scratch = scratch
        self._manifests = scratch / "manifests"
        write(self._manifests / "node.json", node_object())

    def put(self, *objects: dict[str, Any], name: str = "objects") -> None:
        """Make these the objects of one file."""
        write(self._manifests / f"{name}.json", *objects)

    def remove(self, name: str = "objects") -> None:
        """Remove a file of objects."""
        (self._manifests / f"{name}.json").unlink()

    def daemon(self, root: Path = ROOT) -> AbstractContextManager[Daemon]:
        """Run the daemon."""
        commands = Commands(self.commands.namespace, self._scratch, root)
        return commands.daemon(self._manifests, *FLAGS)

    def ask(self, where: str, port: int = 80) -> str:
        """Send the flow's next packet; return who answered, or what became of it."""
        sent = probe(self.cluster.client, where, port, self.protocol, source_port=self.port)
        return answers([sent])[0]

    def service(self, name: str, cluster_ip: Any, *, node_port: int = 0, **more: Any) -> Any:
        """Return a Service of both families."""
        port = {"port": 80, "protocol": self.protocol.word.upper()}
        return service(
            name,
            cluster_ip.ipv4,
            clusterIPs=[cluster_ip.ipv4, cluster_ip.ipv6],
            ipFamilies=["IPv4", "IPv6"],
            type="LoadBalancer",
            ports=[port | ({"nodePort": node_port} if node_port else {})],
            **more,
        )

    def slices(self, name: str, *pods: Host, port: int = ENDPOINT_PORT) -> list[dict[str, Any]]:
        """Return the endpoints of a Service, of both families."""
        ports = [{"port": port, "protocol": self.protocol.word.upper()}]
        return [
            endpoint_slice(
                name,
                *(pod.address(family) for pod in pods),
                name=f"{name}-{family.label.lower()}",
                ports=ports,
                addressType=family.label,
            )
            for family in FAMILIES
        ]


@pytest.fixture(scope="module")
def answering(cluster: Cluster, responders: Responders) -> Cluster:
    """The cluster, with every pod answering at two ports."""
    for pod in cluster.pods:
        for protocol in (UDP, SCTP):
            for port in (ENDPOINT_PORT, OTHER_PORT):
                responders.listen(pod, port, protocol)
    return cluster


@pytest.fixture
def node(answering: Cluster, tmp_path: Path) -> Iterator[Node]:
    """Node-1 without nfproxy's rules, and a client over UDP."""
    made = Node(answering, tmp_path)
    made.commands.nft(FIREWALL)
    yield made
    made.commands.nft("flush ruleset")


def balanced(name: str, cluster_ip: Any, node: Node, **more: Any) -> Any:
    """Return a Service with the load-balancer IPs that two Services claim."""
    ingress = [{"ip": LOAD_BALANCER_IP.ipv4}, {"ip": LOAD_BALANCER_IP.ipv6}]
    return node.service(name, cluster_ip, status={"loadBalancer": {"ingress": ingress}}, **more)


def claimed(node: Node, kind: str, family: Family) -> tuple[str, int, Callable[..., Any]]:
    """Return an address and port that two Services may claim, and what makes such a Service."""
    if kind == "load-balancer IP":
        return LOAD_BALANCER_IP.of(family), 80, lambda *a, **k: balanced(*a, node, **k)
    where = node.cluster.nodes[0].address(family)
    return where, NODE_PORT, lambda *a, **k: node.service(*a, node_port=NODE_PORT, **k)


ELSEWHERE = {"labels": {"service.kubernetes.io/service-proxy-name": "another"}}


@families
@pytest.mark.parametrize("kind", ["load-balancer IP", "node port"])
@pytest.mark.parametrize("how", ["deleted", "moved", "labelled away"])
def test_a_frontend_passes_to_another_service(
    node: Node, family: Family, kind: str, how: str
) -> None:
    """The flow goes on with the endpoints of the new owner, whose own objects did not change."""
    first, second = node.cluster.pods[0], node.cluster.pods[-1]
    where, port, make = claimed(node, kind, family)
    old = make("old", CLUSTER_IP, created="2026-01-01T00:00:00Z")
    new = make("new", OTHER_CLUSTER_IP, created="2026-02-01T00:00:00Z")
    node.put(new, *node.slices("new", second), name="new")
    node.put(old, *node.slices("old", first))
    with node.daemon():
        assert node.ask(where, port) == first.name
        if how == "deleted":
            node.remove()
        elif how == "moved":
            node.put(node.service("old", CLUSTER_IP), *node.slices("old", first))
        else:
            old["metadata"] |= ELSEWHERE
            node.put(old, *node.slices("old", first))

        eventually(second.name, lambda: node.ask(where, port))


@families
@pytest.mark.parametrize("kind", ["cluster IP", "node port"])
def test_flows_that_began_while_the_tables_were_gone(node: Node, family: Family, kind: str) -> None:
    """No rule translated their first packet, so no rule sees the others."""
    pod = node.cluster.pods[0]
    address = node.cluster.nodes[0].address(family)
    where, port = (address, NODE_PORT) if kind == "node port" else (CLUSTER_IP.of(family), 80)
    node.put(node.service("web", CLUSTER_IP, node_port=NODE_PORT), *node.slices("web", pod))
    with node.daemon() as daemon:
        daemon.process.send_signal(signal.SIGSTOP)
        node.commands.nft("delete table ip nfproxy; delete table ip6 nfproxy")
        assert node.ask(where, port) in ("refused", "dropped", "unreachable")
        daemon.process.send_signal(signal.SIGCONT)

        eventually(pod.name, lambda: node.ask(where, port))


@families
@pytest.mark.parametrize("tables", ["kept", "deleted"])
def test_endpoints_that_left_while_the_daemon_was_down(
    node: Node, family: Family, tables: str
) -> None:
    """The next start reads the kernel's tables and compares all frontends with conntrack."""
    first, second = node.cluster.pods[0], node.cluster.pods[-1]
    where = CLUSTER_IP.of(family)
    web = node.service("web", CLUSTER_IP)
    node.put(web, *node.slices("web", first))
    with node.daemon():
        assert node.ask(where) == first.name
    if tables == "deleted":
        node.commands.nft("delete table ip nfproxy; delete table ip6 nfproxy")
    node.put(web, *node.slices("web", second))
    with node.daemon():
        eventually(second.name, lambda: node.ask(where))


@families
@pytest.mark.parametrize("tables", ["kept", "deleted"])
def test_a_service_that_went_while_the_daemon_was_down(
    node: Node, family: Family, tables: str
) -> None:
    """The kernel's tables say which frontends there were; without them, its address says enough."""
    pod = node.cluster.pods[0]
    where = CLUSTER_IP.of(family)
    node.put(node.service("web", CLUSTER_IP), *node.slices("web", pod))
    cidrs = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": ["10.96.0.0/16", "fd00:10:96::/112"]},
    }
    node.put(cidrs, name="cidrs")
    with node.daemon():
        assert node.ask(where) == pod.name
    if tables == "deleted":
        node.commands.nft("delete table ip nfproxy; delete table ip6 nfproxy")
    node.remove()
    with node.daemon():
        eventually(True, lambda: node.ask(where) in ("refused", "dropped", "unreachable"))


@families
def test_a_node_port_that_went_while_the_daemon_was_down(node: Node, family: Family) -> None:
    """Its table's elements are compared before they go."""
    pod = node.cluster.pods[0]
    where = node.cluster.nodes[0].address(family)
    node.put(node.service("web", CLUSTER_IP, node_port=NODE_PORT), *node.slices("web", pod))
    with node.daemon():
        assert node.ask(where, NODE_PORT) == pod.name
    node.remove()
    with node.daemon():
        eventually("refused", lambda: node.ask(where, NODE_PORT))


@families
def test_an_endpoint_gets_another_port(node: Node, family: Family) -> None:
    """The flow follows: the pod's old port is no endpoint any more."""
    pod = node.cluster.pods[0]
    where = CLUSTER_IP.of(family)
    web = node.service("web", CLUSTER_IP)
    node.put(web, *node.slices("web", pod))
    entries = Entries(node.commands.namespace)
    with node.daemon():
        assert node.ask(where) == pod.name
        node.put(web, *node.slices("web", pod, port=OTHER_PORT))
        wanted = f"{where}:80 > {pod.address(family)}:{OTHER_PORT}"

        eventually(True, lambda: node.ask(where) == pod.name and wanted in entries.listed())


@families
def test_an_audit_finds_stale_flows_that_nothing_announced(
    node: Node, family: Family, tmp_path: Path
) -> None:
    """It reads the tables; they are right, and a flow is not."""
    pod, gone = node.cluster.pods[0], node.cluster.pods[-1]
    where = CLUSTER_IP.of(family)
    schedule = (ROOT / "nfproxy/daemon/schedule.py").read_text()
    hasty = schedule.replace("audit_s: float = 3600.0", "audit_s: float = 1.0")
    assert hasty != schedule
    root = package_copy(tmp_path / "hasty", {"daemon/schedule.py": hasty})
    node.put(node.service("web", CLUSTER_IP), *node.slices("web", pod))
    with node.daemon(root):
        entries = Entries(node.commands.namespace)
        entries.add(f"{where}:80", f"{gone.address(family)}:{ENDPOINT_PORT}")
        entries.add(f"{where}:80", f"{pod.address(family)}:{ENDPOINT_PORT}")

        asked = f"{where}:80 > "
        left = {f"{asked}{pod.address(family)}:{ENDPOINT_PORT}"}
        eventually(left, lambda: {e for e in entries.listed() if e.startswith(asked)})


# --- SCTP ---------------------------------------------------------------------------------


@families
def test_an_sctp_client_finds_another_endpoint_when_its_own_vanished(
    node: Node, family: Family
) -> None:
    """Each INIT keeps the old entry alive. While the endpoint is listed it is left alone."""
    node.protocol = SCTP
    first, second = node.cluster.pods[0], node.cluster.pods[-1]
    where = CLUSTER_IP.of(family)
    web = node.service("web", CLUSTER_IP)
    node.put(web, *node.slices("web", first))
    with node.daemon():
        assert node.ask(where) == first.name
        pieces = node.slices("web", first, second)
        for piece in pieces:
            piece["endpoints"][0]["conditions"] = {"ready": False, "serving": False}
        node.put(web, *pieces)
        eventually({second.ipv4}, lambda: endpoints_in_kernel(node))
        assert node.ask(where) == first.name

        node.put(web, *node.slices("web", second))

        eventually(second.name, lambda: node.ask(where))


def endpoints_in_kernel(node: Node) -> set[str]:
    """Return the IPv4 addresses that the kernel sends new flows to."""
    found = node.commands.frontends().values()
    return {end.rpartition(":")[0] for ends in found for end in ends if "." in end}
