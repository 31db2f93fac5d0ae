"""
UDP flows that run while endpoints leave, with real packets.

A client keeps its port, so that conntrack takes all its datagrams for one flow: it sends them where
it sent the first. Only once that entry is gone is the next datagram sent elsewhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import pytest
from support.objects.model import endpoint_slice, gone
from support.packets.sending import probe
from support.packets.steps import (
    ENDPOINT_PORT,
    NODE_PORT,
    Frontend,
    Proxy,
    answers,
    at,
    everywhere,
    families,
    proxied,
    target,
)

from nfproxy.dataplane.conntrack_cleaner import ConntrackCleaner
from nfproxy.host.addresschanges import LocalAddresses
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.endpoints import EndpointSlice, SlicePort
from nfproxy.model.service import Protocol, ServicePort
from nfproxy.plan.endpoints import Destination
from nfproxy.plan.flows import CleaningScope, service_flows
from nfproxy.plan.frontends import FrontendKey
from nfproxy.tools.lab import Cluster, Host

WEB = everywhere(ports=[ServicePort("udp", Protocol.UDP, 80, NODE_PORT)])

frontends = pytest.mark.parametrize("frontend", Frontend.ALL)


@pytest.fixture
def port(request: pytest.FixtureRequest) -> int:
    """The client's port, another for each test: a flow of one must not go on in the next."""
    module = request.node.getparent(pytest.Module)
    number = getattr(module, "flows_begun", 0)
    module.flows_begun = number + 1
    return 20000 + number


@pytest.fixture
def node(served: Cluster) -> Iterator[Node]:
    """The cleaner of node-1, and the addresses of that node."""
    with Node(served.nodes[0]) as made:
        yield made


class Node:
    """What else than its rules nfproxy takes care of on a node."""

    def __init__(self, host: Host) -> None:
        self._namespace = host.namespace

    def __enter__(self) -> Node:
        with contextlib.closing(self._namespace.call(LocalAddresses)) as addresses:
            self._local = addresses.current
        self._cleaner = self._namespace.call(ConntrackCleaner)
        return self

    def __exit__(self, *_: object) -> None:
        self._cleaner.close()

    def clean(self, flows: Mapping[FrontendKey, frozenset[Destination]]) -> int:
        """Clean and return how many entries went."""
        return sum(self._cleaner.clean(flows, CleaningScope(self._local)).deleted.values())


def slices(*hosts: Host) -> list[EndpointSlice]:
    """Return one slice a family with these endpoints."""
    return [
        endpoint_slice(
            "web",
            *(at(host, family) for host in hosts),
            family=family,
            ports=[SlicePort("udp", Protocol.UDP, ENDPOINT_PORT)],
        )
        for family in FAMILIES
    ]


def flows(proxy: Proxy) -> dict[FrontendKey, frozenset[Destination]]:
    """Return where flows may go by what is programmed."""
    pieces = proxy.planner.slices_of(WEB.name)
    return service_flows(WEB, pieces, proxy.planner.config)


def ask(cluster: Cluster, frontend: str, family: Family, port: int) -> str:
    """Send the next datagram of a flow; return who answered, or what became of it."""
    where = target(cluster, frontend, family)
    return answers([probe(cluster.client, *where, Protocol.UDP, source_port=port)])[0]


@families
@frontends
def test_a_flow_finds_another_endpoint_when_its_own_leaves(
    served: Cluster, node: Node, family: Family, frontend: str, port: int
) -> None:
    """By the rules alone it would go on to the one that left."""
    first, second = served.pods[0], served.pods[-1]
    with proxied(served, WEB, *slices(first)) as proxy:
        assert ask(served, frontend, family, port) == first.name
        node.clean(flows(proxy))  # what earlier tests left
        proxy.put(*slices(second))
        assert ask(served, frontend, family, port) == first.name

        assert node.clean(flows(proxy)) == 1

        assert ask(served, frontend, family, port) == second.name
        assert node.clean(flows(proxy)) == 0
        assert ask(served, frontend, family, port) == second.name


@families
def test_a_flow_goes_on_while_others_leave(
    served: Cluster, node: Node, family: Family, port: int
) -> None:
    """Its endpoint serves: it is not sent to another, however many come and go."""
    first, *others = served.pods
    with proxied(served, WEB, *slices(first)) as proxy:
        assert ask(served, Frontend.CLUSTER_IP, family, port) == first.name
        node.clean(flows(proxy))  # what earlier tests left
        for present in (others, others[:1], others[1:], []):
            proxy.put(*slices(first, *present))
            assert node.clean(flows(proxy)) == 0
            assert ask(served, Frontend.CLUSTER_IP, family, port) == first.name


@families
@frontends
def test_a_flow_to_a_service_without_endpoints_ends(
    served: Cluster, node: Node, family: Family, frontend: str, port: int
) -> None:
    """Scaled to zero, it is refused as any new one; and served again with the first endpoint."""
    first, second = served.pods[0], served.pods[-1]
    with proxied(served, WEB, *slices(first)) as proxy:
        assert ask(served, frontend, family, port) == first.name
        proxy.put(*slices())
        node.clean(flows(proxy))
        assert ask(served, frontend, family, port) == "refused"

        proxy.put(*slices(second))
        node.clean(flows(proxy))
        assert ask(served, frontend, family, port) == second.name


@families
def test_a_flow_to_a_service_that_is_gone_ends(
    served: Cluster, node: Node, family: Family, port: int
) -> None:
    """Its frontends have no endpoint any more."""
    first = served.pods[0]
    with proxied(served, WEB, *slices(first)) as proxy:
        assert ask(served, Frontend.NODE_PORT, family, port) == first.name
        vanished = dict.fromkeys(flows(proxy), frozenset[Destination]())
        proxy.apply(gone(WEB))
        assert ask(served, Frontend.NODE_PORT, family, port) == first.name

        node.clean(vanished)

        assert ask(served, Frontend.NODE_PORT, family, port) == "refused"


@families
def test_a_flow_from_before_the_rules_finds_an_endpoint(
    served: Cluster, node: Node, family: Family, port: int
) -> None:
    """It was sent to the node itself, where no process listens, and would go there for ever."""
    with proxied(served) as proxy:
        assert ask(served, Frontend.NODE_PORT, family, port) == "refused"
        proxy.put(WEB, *slices(served.pods[0]))
        assert ask(served, Frontend.NODE_PORT, family, port) == "refused"

        node.clean(flows(proxy))

        assert ask(served, Frontend.NODE_PORT, family, port) == served.pods[0].name
