"""What is read of single frontends is what listing all of them says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.kernel.nodeproxy import NodeProxy
from support.objects.model import endpoint_slice, service

from nfproxy.dataplane.heldreader import find_frontends, read_held
from nfproxy.insight.nodefacts import HeldState
from nfproxy.model.addresses import Family, parse_address
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import Protocol
from nfproxy.netlink.sockets import NftSocket
from nfproxy.plan.frontends import FrontendKey
from nfproxy.reconcile.observed import observe
from nfproxy.tools.lab import Host, Lab

WEB = FrontendKey(Family.IPV4, parse_address("10.96.0.1"), Protocol.TCP, 80)


@pytest.fixture
def proxy(lab: Lab) -> Iterator[NodeProxy]:
    with NodeProxy(Host(lab.namespace("node")), NodeConfig(node_name="node-1")) as made:
        yield made


def held_of(proxy: NodeProxy, *keys: FrontendKey) -> HeldState:
    def read() -> HeldState:
        with NftSocket() as netlink:
            return read_held(netlink, proxy.planner.desired, keys)

    return proxy.host.namespace.call(read)


def test_every_frontend_is_read_as_a_listing_has_it(proxy: NodeProxy):
    many = [f"10.244.2.{number}" for number in range(1, 60)]
    proxy.put(
        service("web", cluster_ips=["10.96.0.1"], node_port=30080),
        endpoint_slice("web", "10.244.1.5", "10.244.1.6"),
        service("none", cluster_ips=["10.96.0.2"]),
        service("sticky", cluster_ips=["10.96.0.3"], node_port=30081, affinity_timeout_s=600),
        endpoint_slice("sticky", "10.244.1.7", "10.244.1.8"),
        service("wide", cluster_ips=["10.96.0.4"], external_ips=["192.0.2.1", "192.0.2.2"]),
        endpoint_slice("wide", *many),
    )
    everything = observe(proxy.kernel.elements, proxy.families)

    held = held_of(proxy, *everything.frontends)

    assert held.observed.frontends == everything.frontends
    assert held.observed.lists == everything.lists
    assert len(everything.lists) == 1
    assert held.observed.affinity_lists == everything.affinity_lists
    assert not held.observed.strays
    assert held.tables == {*proxy.families}


def test_one_frontend_costs_only_its_own_elements(proxy: NodeProxy):
    proxy.put(
        service("web", cluster_ips=["10.96.0.1"]),
        endpoint_slice("web", "10.244.1.5"),
        service("other", cluster_ips=["10.96.0.2"]),
        endpoint_slice("other", "10.244.1.6"),
    )

    held = held_of(proxy, WEB)

    assert list(held.observed.frontends) == [WEB]
    assert held.observed.elements.total() == 3  # the frontend, its slot, its cluster IP
    assert held.new_connections == {WEB: 0}


def test_what_is_not_there_is_not_found(proxy: NodeProxy):
    assert held_of(proxy, WEB).observed.frontends == {}
    proxy.host.namespace.run(["nft", "delete table ip nfproxy"])
    assert held_of(proxy, WEB).tables == {Family.IPV6}


def test_a_question_without_objects_finds_frontends_by_address(proxy: NodeProxy):
    proxy.put(
        service("web", cluster_ips=["10.96.0.1"], node_port=30080),
        endpoint_slice("web", "10.244.1.5"),
    )

    def found(address: str, port: int) -> list[FrontendKey]:
        with NftSocket() as netlink:
            packed = parse_address(address) if address else b""
            return find_frontends(netlink, address=packed, port=port)

    call = proxy.host.namespace.call
    node_port = FrontendKey(Family.IPV4, b"", Protocol.TCP, 30080)
    assert call(found, "10.96.0.1", 0) == [WEB]
    assert call(found, "10.96.0.1", 81) == []
    assert call(found, "", 30080) == [node_port]
