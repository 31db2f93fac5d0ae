"""
A cluster with nfproxy on its nodes, whatever it is made of.

The test cases know nothing else. `kind.namespaces` makes one out of network namespaces, and
`kind.existing` uses one that kubectl reaches.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeVar

from kind.clients import Answer, Client

T = TypeVar("T")

Json = dict[str, Any]
FAMILIES = ("IPv4", "IPv6")

#: Addresses that no host has, routed to the nodes by who is outside.
EXTERNAL_IPS = {"IPv4": "198.51.100.3", "IPv6": "2001:db8:1::3"}
INGRESS_IPS = {"IPv4": "198.51.100.2", "IPv6": "2001:db8:1::2"}

SERVER_PORT = 8080
_POLL_S = 0.1


class Node(NamedTuple):
    """A node and its own addresses by family."""

    name: str
    addresses: Mapping[str, str]


class Backend(NamedTuple):
    """A pod that answers, by its name, and the node it is on."""

    name: str
    node: str


class Service:
    """A Service as the API server has it."""

    def __init__(self, item: Json) -> None:
        self.item = item
        self.name: str = item["metadata"]["name"]

    def cluster_ip(self, family: str) -> str:
        """Return its cluster IP of a family."""
        return next(str(ip) for ip in self.item["spec"]["clusterIPs"] if _family(ip) == family)

    def port(self, protocol: str = "TCP") -> int:
        """Return its port of a protocol."""
        return int(self._port(protocol)["port"])

    def node_port(self, protocol: str = "TCP") -> int:
        """Return its node port of a protocol."""
        return int(self._port(protocol)["nodePort"])

    @property
    def health_check_node_port(self) -> int:
        """The port that load balancers ask."""
        return int(self.item["spec"]["healthCheckNodePort"])

    def _port(self, protocol: str) -> Json:
        found: Json = next(p for p in self.item["spec"]["ports"] if p["protocol"] == protocol)
        return found


class Cluster(ABC):
    """
    Three nodes or so, with nfproxy on each, ready.

    A pod that asks is on every node, and `outside` is on the nodes' network and no node. What
    a test makes carries the name of its workload and is gone after `remove`.
    `patience_s` is how long a change may take to have its effect.
    """

    nodes: Sequence[Node]
    outside: Client
    patience_s: float

    # -- who asks ---------------------------------------------------------------------------

    @abstractmethod
    def pod_on(self, node: str) -> Client:
        """Return the pod on a node that asks."""

    @abstractmethod
    def host(self, node: str) -> Client:
        """Return a process on a node's own network."""

    def clients(self) -> list[Client]:
        """Return a pod and a process on every node, and who is outside."""
        inside = [place(node.name) for node in self.nodes for place in (self.pod_on, self.host)]
        return [*inside, self.outside]

    def address_of(self, client: Client, family: str) -> str:
        """Return the address that a client sends from, to the first node."""
        return client.source_to(self.nodes[0].addresses[family])

    # -- who answers ------------------------------------------------------------------------

    @abstractmethod
    def deploy(self, name: str, nodes: Sequence[str], *, linger_s: float = 0.5) -> None:
        """
        Run one pod that answers on each of these nodes.

        After SIGTERM each serves on until no client has come for `linger_s`.
        """

    @abstractmethod
    def backends(self, name: str) -> list[Backend]:
        """Return a workload's pods that are ready."""

    @abstractmethod
    def expose(self, name: str, *, service: str = "", **spec: Any) -> Service:
        """
        Make a dual-stack Service before a workload, and return it once it has its addresses.

        It has port 80 of TCP and UDP, and its name is that of the workload unless given.
        """

    @abstractmethod
    def set_ingress(self, service: Service, addresses: Iterable[str]) -> None:
        """Let a load balancer have given a Service these addresses."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a workload, and the Services before it."""

    @abstractmethod
    def roll(self, name: str) -> None:
        """Exchange all pods of a workload, a new one being ready before an old one ends."""

    @abstractmethod
    def drain(self, node: str) -> None:
        """Let no new pods come to a node, and evict those of workloads; they come up elsewhere."""

    @abstractmethod
    def uncordon(self, node: str) -> None:
        """Let pods come to a node again."""

    # -- nfproxy ----------------------------------------------------------------------------

    @abstractmethod
    def roll_proxy(self) -> None:
        """Exchange the DaemonSet's pods, one node after the other, each until it is ready."""

    @abstractmethod
    def crash_proxy(self, node: str) -> None:
        """Kill nfproxy's process on a node, and wait until it is ready again."""

    @abstractmethod
    def proxy_file(self, node: str, path: str) -> str:
        """Return what is in a file, as nfproxy's container sees it."""

    @abstractmethod
    def proxy_log(self, node: str) -> str:
        """Return what nfproxy logged since its container was started last."""

    @abstractmethod
    def close(self) -> None:
        """Remove everything that was made."""

    # -- what tests ask for -----------------------------------------------------------------

    def eventually(self, expected: T, look: Callable[[], T]) -> None:
        """Assert that `look` comes to return what is expected, and soon."""
        deadline = time.monotonic() + self.patience_s
        while (found := look()) != expected and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        assert expected == found, f"expected {expected}, found {found}"

    def wait_for(self, web: Web) -> None:
        """Wait until all clients reach a workload by its Service, in both families."""
        for client in self.clients():
            for family in FAMILIES:
                at = web.service.cluster_ip(family), web.service.port()
                self.eventually(True, lambda c=client, at=at: heard(c.ask(*at)) <= web.names)

    def serving(self, name: str, nodes: Sequence[str], **spec: Any) -> AbstractContextManager[Web]:
        """Return a workload with a Service before it, there while inside."""
        return Web(self, name, nodes, spec)


class Web:
    """A workload with a Service before it: made on entering, removed on leaving."""

    def __init__(self, cluster: Cluster, name: str, nodes: Sequence[str], spec: Json) -> None:
        self._cluster = cluster
        self.name = name
        self._nodes = nodes
        self._spec = spec

    def __enter__(self) -> Web:
        self._cluster.deploy(self.name, self._nodes)
        self.service = self._cluster.expose(self.name, **self._spec)
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.remove(self.name)

    @property
    def names(self) -> set[str]:
        """The names of the pods that answer."""
        return {backend.name for backend in self._cluster.backends(self.name)}

    def names_on(self, node: str) -> set[str]:
        """Return the names of the pods that answer on a node."""
        return {
            backend.name for backend in self._cluster.backends(self.name) if backend.node == node
        }


def heard(answers: Iterable[Answer]) -> set[str]:
    """Return who answered, and what else became of connections."""
    return {str(answer) for answer in answers}


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"
