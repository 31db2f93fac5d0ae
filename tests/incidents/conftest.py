"""
Incidents, played with real packets; ``nfproxy explain`` has to say what is wrong.

Node-1 of a lab has the objects of ``tests/golden/explain/shop.yaml``, and nfproxy runs there from
that file. A test breaks something, lets clients try, and asks like an operator::

    def test_a_route_is_missing(incident: Incident) -> None:
        incident.on_node("ip route add blackhole 10.244.2.11")
        incident.clients_try()
        answer = incident.explain("shop/web")
        assert "WORKS IN PART" in answer.first_line
        assert answer.codes == ["fail NoRoute"]

What a test breaks outside nfproxy's tables, it mends at its end: the lab is for one module.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import yaml
from support.insight import SHOP
from support.packets.sending import Outcome, Probe, probe_many
from support.processes.commands import Commands, Daemon, wait_until
from support.responders import Responders

from nfproxy.cli.explaintext import explanation_lines
from nfproxy.insight.explanation import Explanation
from nfproxy.model.service import Protocol
from nfproxy.tools.lab import Cluster, Host, LabNode

WEB = "10.96.0.10"  # shop/web: pod-1-1 and pod-2-1, both at port 8080
CLUSTER_CIDR = "10.244.0.0/16"


class Answer(NamedTuple):
    """What ``nfproxy explain`` said: as data, and its exit status."""

    data: dict[str, Any]
    exit_status: int

    @property
    def text(self) -> str:
        """The same as text for a terminal."""
        found = msgspec.convert(self.data, Explanation)
        return "\n".join(explanation_lines(found, 160))

    @property
    def first_line(self) -> str:
        """The verdict."""
        return self.text.partition("\n")[0]

    @property
    def codes(self) -> list[str]:
        """What was found, the worst first: ``fail NoRoute``."""
        return [f"{one['level']} {one['code']}" for one in self.data["findings"]]

    @property
    def messages(self) -> str:
        """All messages, and the facts behind them."""
        lines = [
            line
            for one in self.data["findings"]
            for line in (one["message"], *one["because"], *one["look"])
        ]
        return "\n".join(lines)


class Incident:
    """Node-1 of a lab with nfproxy, and clients that use its Services."""

    def __init__(self, cluster: Cluster, scratch: Path) -> None:
        self.cluster = cluster
        self.node: LabNode = cluster.nodes[0]
        self.commands = Commands(self.node.namespace, scratch)
        self.manifests = scratch / "manifests"
        self.manifests.mkdir()
        shutil.copy(SHOP, self.manifests / "shop.yaml")
        self.daemon: Daemon | None = None

    @contextlib.contextmanager
    def nfproxy(self, *flags: str) -> Iterator[Daemon]:
        """Run nfproxy on the node, by default with the right range of pods."""
        with self.commands.daemon(
            self.manifests, *(flags or (f"--cluster-cidr={CLUSTER_CIDR}",))
        ) as daemon:
            self.daemon = daemon
            yield daemon

    def on_node(self, command: str) -> str:
        """Run a command on the node, as its operator does."""
        return self.node.namespace.run(shlex.split(command)).stdout

    def nft(self, text: str, host: Host | None = None) -> None:
        """Load an nft script, on the node or on another host."""
        (host or self.node).namespace.run(["nft", "-f", "-"], input=text)

    def clients_try(
        self, address: str = WEB, port: int = 80, *, source: Host | None = None, times: int = 16
    ) -> list[Outcome]:
        """Let a client connect some times: pod-1-2, unless it is another."""
        client = source or self.cluster.pod(1, 2)
        return probe_many([Probe(client, address, port, Protocol.TCP)] * times)

    def change(self, name: str, **spec: Any) -> None:
        """Change fields of the spec of a Service, in the manifest that nfproxy follows."""
        for one in self._changing("Service", name):
            one["spec"] |= spec

    def change_slice(self, name: str, **fields: Any) -> None:
        """Change fields of an EndpointSlice there."""
        for one in self._changing("EndpointSlice", name):
            one |= fields

    def remove_endpoint(self, address: str) -> None:
        """Remove an endpoint from all slices, and wait until the kernel does not have it."""
        for one in self._changing("EndpointSlice"):
            one["endpoints"] = [e for e in one["endpoints"] if address not in e["addresses"]]
        wait_until(lambda: address not in self.on_node("nft list table ip nfproxy"))

    def _changing(self, kind: str, name: str = "") -> Iterator[Any]:
        """Yield the objects of a kind and name, to be changed; then write all of them."""
        path, partial = self.manifests / "shop.yaml", self.manifests / ".partial"
        objects = list(yaml.safe_load_all(path.read_text()))
        for one in objects:
            if one["kind"] == kind and name in ("", one["metadata"]["name"]):
                yield one
        partial.write_text(yaml.safe_dump_all(objects))
        partial.replace(path)

    def explain(self, *arguments: str) -> Answer:
        """Ask, on the node, with the objects that nfproxy has."""
        words = ("explain", *arguments, "-f", self.manifests)
        answer = self.commands.run(*words, "-o", "json")
        assert answer.code in (0, 1), answer.err
        return Answer(answer.data, answer.code)

    def wait_a_second(self) -> None:
        """Wait until the kernel counts a connection without an answer as older than a second."""
        time.sleep(2.2)


def _served(cluster: Cluster) -> Responders:
    """Let every pod and the second node answer at port 8080."""
    responders = Responders()
    for host in cluster.pods:
        every = (address for pair in host.addresses for address in pair)
        responders.listen(host, 8080, addresses=every)
    return responders


def _more_pods(cluster: Cluster) -> None:
    """Let one pod of each node stand for all further endpoints of the manifests."""
    for node in cluster.nodes:
        pod = cluster.pod(node.number, 1)
        for last in range(13, 23):
            pair = node.pod_addresses(last)
            for address in pair:
                pod.add_address(address, as_source=False)
            pod.addresses.append(pair)
            node.add_routes((address, "", pod.interface, "") for address in pair)


@pytest.fixture(scope="module")
def routed(namespaces_allowed: None) -> Iterator[Cluster]:
    """A lab in which each pod has an interface of its own on its node."""
    with Cluster() as cluster:
        _more_pods(cluster)
        with _served(cluster):
            yield cluster


@pytest.fixture(scope="module")
def bridge(namespaces_allowed: None) -> Iterator[Cluster]:
    """A lab in which the pods of a node share the bridge cni0."""
    with Cluster(pod_network="bridge") as cluster, _served(cluster):
        yield cluster


@pytest.fixture
def stopped(routed: Cluster, tmp_path: Path) -> Iterator[Incident]:
    """The node before nfproxy starts."""
    made = Incident(routed, tmp_path)
    yield made
    made.nft("flush ruleset")
    made.on_node("conntrack -F")


@pytest.fixture
def incident(stopped: Incident) -> Iterator[Incident]:
    """The node with nfproxy."""
    with stopped.nfproxy():
        yield stopped


@pytest.fixture(scope="module")
def lasting(routed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Incident]:
    """The node with an nfproxy that outlives a test; not in a module with `incident`."""
    made = Incident(routed, tmp_path_factory.mktemp("lasting"))
    with made.nfproxy():
        yield made
    made.nft("flush ruleset")


@pytest.fixture
def again(lasting: Incident) -> Iterator[Incident]:
    """
    That node; at the end of a test all rules of others go, and all connections.

    The counters of frontends stay: a test that needs them at zero takes `incident`.
    """
    lasting.on_node("conntrack -F")
    yield lasting
    for table in lasting.commands.tables():
        if not table.endswith(" nfproxy"):
            lasting.on_node(f"nft delete table {table}")


@pytest.fixture
def bridged(bridge: Cluster, tmp_path: Path) -> Iterator[Incident]:
    """The node with nfproxy and with pods on a bridge."""
    made = Incident(bridge, tmp_path)
    with made.nfproxy():
        yield made
    made.nft("flush ruleset")
    made.on_node("conntrack -F")
