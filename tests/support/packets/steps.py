"""
What tests that walk through changes have in common: who asks, for what, and who answered.

::

    with proxied(cluster, web, *endpoints_of("web", cluster.pods)) as proxy:
        assert reached(cluster.client, CLUSTER_IP.ipv4, 80) == {"pod-1-1", …}
        proxy.put(...)
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from support.kernel.nodeproxy import NodeProxy
from support.objects.model import endpoint, endpoint_slice, service
from support.packets.sending import Outcome, Probe, probe_many, tally
from support.traffic import Traffic

from nfproxy.model.addresses import FAMILIES, Family, parse_address, parse_prefix
from nfproxy.model.changes import Changes
from nfproxy.model.endpoints import Endpoint, EndpointSlice
from nfproxy.model.node import ServiceCIDR
from nfproxy.model.nodeconfig import LocalPods, NodeConfig
from nfproxy.model.service import Protocol, Service
from nfproxy.reconcile.syncreport import Report
from nfproxy.tools.lab import Cluster, Host, Namespace
from nfproxy.tools.lab.cluster import Pod
from nfproxy.tools.lab.hosts import Addresses

CLUSTER_IP = Addresses("10.96.0.1", "fd00:10:96::1")
OTHER_CLUSTER_IP = Addresses("10.96.0.2", "fd00:10:96::2")
LOAD_BALANCER_IP = Addresses("203.0.113.1", "2001:db8:113::1")
EXTERNAL_IP = Addresses("203.0.113.2", "2001:db8:113::2")
NODE_PORT = 30080
ENDPOINT_PORT = 8080

LINGER_S = 0.12  # a little more than the reconciler leaves leftovers in place

#: How long to wait where silence is expected; a probe looks again before it calls a packet lost.
SHORT_S = 0.1

#: Enough draws to see every one of four endpoints: one is missed once in 25 million times.
DRAWS = 64

families = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.label)
protocols = pytest.mark.parametrize("protocol", Protocol, ids=lambda protocol: protocol.word)


class Frontend:
    """The kinds of addresses of a service made by `everywhere`."""

    CLUSTER_IP = "cluster IP"
    LOAD_BALANCER_IP = "load-balancer IP"
    EXTERNAL_IP = "external IP"
    NODE_PORT = "node port"
    ALL = (CLUSTER_IP, LOAD_BALANCER_IP, EXTERNAL_IP, NODE_PORT)
    OUTER = (LOAD_BALANCER_IP, EXTERNAL_IP, NODE_PORT)


def everywhere(name: str = "web", **fields: Any) -> Service:
    """Return a service of both families that is reached by every kind of address."""
    values: dict[str, Any] = {
        "cluster_ips": CLUSTER_IP,
        "load_balancer_ips": LOAD_BALANCER_IP,
        "external_ips": EXTERNAL_IP,
        "node_port": NODE_PORT,
    }
    return service(name, **(values | fields))


def target(cluster: Cluster, frontend: str, family: Family) -> tuple[str, int]:
    """Return address and port of one frontend of `everywhere`."""
    if frontend == Frontend.NODE_PORT:
        return cluster.nodes[0].address(family), NODE_PORT
    pair = {
        Frontend.CLUSTER_IP: CLUSTER_IP,
        Frontend.LOAD_BALANCER_IP: LOAD_BALANCER_IP,
        Frontend.EXTERNAL_IP: EXTERNAL_IP,
    }[frontend]
    return pair.of(family), 80


def node_config(**changed: Any) -> NodeConfig:
    """Return the configuration of node-1; pods are known by the cluster's pod range."""
    pods = {
        Family.IPV4: parse_prefix("10.244.0.0/16"),
        Family.IPV6: parse_prefix("fd00:10:244::/48"),
    }
    node_ips = {
        Family.IPV4: parse_address("192.168.77.11"),
        Family.IPV6: parse_address("fd77::11"),
    }
    values: dict[str, Any] = {
        "node_name": "node-1",
        "node_ips": node_ips,
        "local_pods": LocalPods(prefixes=pods),
    }
    return NodeConfig(**(values | changed))


def node_of(host: Host) -> str:
    """Return the name of the node that a pod, or a node's own process, is on."""
    return host.node.name if isinstance(host, Pod) else host.name


def at(host: Host, family: Family, **conditions: Any) -> Endpoint:
    """Return the endpoint that a host is, with the conditions and hints given."""
    return endpoint(host.address(family), node_of(host), **conditions)


def endpoints_of(
    service_name: str, hosts: Iterable[Host], *, name: str = "", **fields: Any
) -> list[EndpointSlice]:
    """Return one slice a family that lists hosts as ready endpoints."""
    listed = list(hosts)
    return [
        endpoint_slice(
            service_name,
            *(at(host, family) for host in listed),
            name=f"{name or service_name}-{family.label.lower()}",
            family=family,
            **fields,
        )
        for family in FAMILIES
    ]


def slice_of(
    cluster: Cluster,
    family: Family,
    endpoints: dict[str, dict[str, Any]],
    *,
    name: str = "one",
    service_name: str = "web",
    **fields: Any,
) -> EndpointSlice:
    """Return a slice with some pods, each with its conditions and hints."""
    made = [at(cluster.host(pod), family, **values) for pod, values in endpoints.items()]
    return endpoint_slice(service_name, *made, name=name, family=family, **fields)


class Proxy(NodeProxy):
    """
    nfproxy on a node of the lab, in a thread of its own.

    Packets are sent and answered while it is at work: `NodeProxy` shares the lab's only
    worker with every caller that opens a socket. `report` is that of the last synchronisation.
    """

    report: Report

    def __init__(
        self,
        host: Host,
        config: NodeConfig,
        objects: Sequence[Service | EndpointSlice] = (),
        service_cidrs: Sequence[ServiceCIDR] = (),
    ) -> None:
        self._own_worker = ThreadPoolExecutor(1)
        self._first = {cidr.name: cidr for cidr in service_cidrs}
        apart = copy.copy(host)
        apart.namespace = Namespace(host.name, host.namespace.fd, self._own_worker)
        try:
            super().__init__(apart, config, objects)
        except BaseException:
            self._own_worker.shutdown()
            raise

    def apply(self, batch: Changes) -> Report:
        first, self._first = self._first, {}
        if first:
            batch = Changes(services=batch.services, slices=batch.slices, service_cidrs={**first})
        self.report = super().apply(batch)
        return self.report

    def clean_up(self) -> int:
        """Wait until leftovers are due, and remove them."""
        time.sleep(LINGER_S)
        return self.tidy()

    def close(self, *, keep_tables: bool = False) -> None:
        super().close(keep_tables=keep_tables)
        self._own_worker.shutdown()


def proxied(cluster: Cluster, *objects: Service | EndpointSlice, **config: Any) -> Proxy:
    """Program node-1 with some objects; `config` changes fields of its configuration."""
    return Proxy(cluster.nodes[0], node_config(**config), objects)


def reached(
    source: Host,
    destination: str,
    port: int,
    protocol: Protocol = Protocol.TCP,
    *,
    times: int = DRAWS,
    source_address: str = "",
) -> set[str]:
    """Return who answered, or the verdict where none did, over many connections."""
    one = Probe(source, destination, port, protocol, source_address)
    return set(tally(probe_many([one] * times, timeout_s=SHORT_S)))


def answers(outcomes: Iterable[Outcome]) -> list[str]:
    """Return for each outcome who answered, or the verdict."""
    return [one.by if one.answered else one.verdict.value for one in outcomes]


@dataclass(frozen=True)
class Crowd:
    """Many clients: the outside host with its many addresses."""

    host: Host
    addresses: tuple[Addresses, ...]

    def ask(
        self, destination: str, port: int, protocol: Protocol = Protocol.TCP
    ) -> dict[str, Outcome]:
        """Let each client connect once; return what became of it, by client address."""
        family = Family.IPV6 if ":" in destination else Family.IPV4
        mine = [pair.of(family) for pair in self.addresses]
        probes = [Probe(self.host, destination, port, protocol, address) for address in mine]
        return dict(zip(mine, probe_many(probes), strict=True))

    def who(self, destination: str, port: int, protocol: Protocol = Protocol.TCP) -> dict[str, str]:
        """Return who answered each client, by client address."""
        outcomes = self.ask(destination, port, protocol)
        return dict(zip(outcomes, answers(outcomes.values()), strict=True))


def crowd(cluster: Cluster, size: int = 32) -> Crowd:
    """Give the client `size` more addresses and return them as so many clients."""
    return Crowd(
        cluster.client, tuple(cluster.add_client_address(150 + index) for index in range(size))
    )


class Streams:
    """
    Several continuous streams of connections at once; see `Traffic`.

    A UDP datagram or a SCTP INIT is a connection each.
    """

    def __init__(self, *streams: Traffic) -> None:
        self.streams = streams

    def __enter__(self) -> Streams:
        entered: list[Traffic] = []
        try:
            for stream in self.streams:
                stream.__enter__()
                entered.append(stream)
        except BaseException:
            for stream in entered:
                stream.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self.streams:
            stream.__exit__(None, None, None)

    def run(self, count: int = 60) -> None:
        """Go on until each stream has opened `count` more connections and seen their end."""
        for stream in self.streams:
            stream.wait_for(count)

    @property
    def lost(self) -> list[str]:
        """What was not served, in words; complete after leaving."""
        return [text for stream in self.streams for text in stream.lost]


def same_each_time(source: Host, served: Cluster, family: Family, protocol: Protocol) -> set[str]:
    """Return who answers one client over all frontends, six times each."""
    probes = [
        Probe(source, *target(served, frontend, family), protocol)
        for frontend in Frontend.ALL
        for _ in range(6)
    ]
    first = probe_many(probes[:1])  # until it is answered, nothing is recorded
    return set(answers([*first, *probe_many(probes)]))
