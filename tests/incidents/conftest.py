"""
Incidents, played with real packets; ``nfproxy explain`` has to say what is wrong.

Node-1 of a lab has the objects of ``tests/golden/explain/shop.yaml``, and nfproxy runs there from
that file. A test breaks something, lets clients try, and asks like an operator::

    def test_a_route_is_missing(incident: Incident) -> None:
        incident.on_node("ip route add blackhole 10.244.2.11")
        incident.clients_try()
        answer = incident.explain("shop/web")
        assert answer.says("WORKS IN PART")
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

import pytest
import yaml
from support.insight import SHOP
from support.packets.sending import Outcome, Probe, probe_many
from support.processes.commands import Commands, Daemon, wait_until
from support.responders import Responders

from nfproxy.model.service import Protocol
from nfproxy.tools.lab import Cluster, Host, LabNode

WEB = "10.96.0.10"  # shop/web: pod-1-1 and pod-2-1, both at port 8080
CLUSTER_CIDR = "10.244.0.0/16"


class Answer(NamedTuple):
    """What ``nfproxy explain`` said: as text, as data, and its exit status."""

    text: str
    data: dict[str, Any]
    exit_status: int

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
        path = self.manifests / "shop.yaml"
        objects = list(yaml.safe_load_all(path.read_text()))
        for one in objects:
            if one["kind"] == "Service" and one["metadata"]["name"] == name:
                one["spec"] |= spec
        self._write(objects)

    def remove_endpoint(self, address: str) -> None:
        """Remove an endpoint from all slices, and wait until the kernel does not have it."""
        path = self.manifests / "shop.yaml"
        objects = list(yaml.safe_load_all(path.read_text()))
        for one in objects:
            if one["kind"] == "EndpointSlice":
                one["endpoints"] = [e for e in one["endpoints"] if address not in e["addresses"]]
        self._write(objects)
        wait_until(lambda: address not in self.on_node("nft list table ip nfproxy"))

    def _write(self, objects: list[Any]) -> None:
        partial = self.manifests / ".partial"
        partial.write_text(yaml.safe_dump_all(objects))
        partial.replace(self.manifests / "shop.yaml")

    def explain(self, *arguments: str) -> Answer:
        """Ask, on the node, with the objects that nfproxy has."""
        words = ("explain", *arguments, "-f", self.manifests)
        data = self.commands.run(*words, "-o", "json")
        assert data.code in (0, 1), data.err
        text = self.commands.run(*words)
        return Answer(text.out, data.data, data.code)

    def wait_a_second(self) -> None:
        """Wait until the kernel counts a connection without an answer as older than a second."""
        time.sleep(2.2)


def _served(cluster: Cluster) -> Responders:
    """Let every pod and the second node answer at port 8080."""
    responders = Responders()
    for host in cluster.pods:
        responders.listen(host, 8080)
    return responders


@pytest.fixture(scope="module")
def routed(namespaces_allowed: None) -> Iterator[Cluster]:
    """A lab in which each pod has an interface of its own on its node."""
    with Cluster() as cluster, _served(cluster):
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


@pytest.fixture
def bridged(bridge: Cluster, tmp_path: Path) -> Iterator[Incident]:
    """The node with nfproxy and with pods on a bridge."""
    made = Incident(bridge, tmp_path)
    with made.nfproxy():
        yield made
    made.nft("flush ruleset")
    made.on_node("conntrack -F")
