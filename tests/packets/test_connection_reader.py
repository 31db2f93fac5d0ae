"""Connections of a Service by endpoint and state, from real packets."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from support.packets.scenes import CLUSTER_IP, PORT, TARGET_PORT, Scene
from support.packets.sending import probe
from support.processes.commands import wait_until

from nfproxy.dataplane.connectionreader import read_all_connections, read_connections
from nfproxy.insight.nodefacts import ConnectionCounts
from nfproxy.model.addresses import FAMILIES, Family, parse_address
from nfproxy.model.service import Protocol
from nfproxy.nft.schema import port_bytes
from nfproxy.plan.frontends import FrontendKey
from nfproxy.tools.lab import Host

families = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.label)


@pytest.fixture
def web(scene: Scene) -> Iterator[Scene]:
    scene.program(scene.web(), *scene.slices(scene.remote))
    yield scene
    scene.program()


def cluster_ip(family: Family, protocol: Protocol = Protocol.TCP) -> FrontendKey:
    return FrontendKey(family, parse_address(CLUSTER_IP.of(family)), protocol, PORT)


def node_port(family: Family) -> FrontendKey:
    return FrontendKey(family, b"", Protocol.TCP, 30080)


def look(scene: Scene, key: FrontendKey, endpoint: Host) -> ConnectionCounts:
    found = scene.node.namespace.call(read_connections, [key])
    end = parse_address(endpoint.address(key.family)) + port_bytes(TARGET_PORT)
    assert set(found) == {key}
    assert set(found[key]) <= {end}
    return found[key].get(end, ConnectionCounts())


@families
def test_open_connections_name_their_clients(web: Scene, family: Family):
    before = look(web, cluster_ip(family), web.remote)
    client = web.sources["pod"]
    kind = socket.AF_INET if family is Family.IPV4 else socket.AF_INET6
    with client.namespace.socket(kind, socket.SOCK_STREAM) as held:
        held.connect((CLUSTER_IP.of(family), PORT))
        held.recv(100)
        found = look(web, cluster_ip(family), web.remote)
    assert found.open == before.open + 1
    assert found.clients[parse_address(client.address(family))] >= 1
    assert not found.masqueraded


@families
def test_a_masqueraded_client_is_named(web: Scene, family: Family):
    client = web.sources["outside"]
    assert probe(client, web.node.address(family), 30080).masqueraded
    found = look(web, node_port(family), web.remote)
    assert found.source_changed == 1
    assert found.masqueraded == {parse_address(client.address(family)): 1}
    assert not look(web, cluster_ip(family), web.remote).masqueraded


def test_a_connection_without_an_answer_is_overdue_after_a_second(web: Scene):
    web.remote.namespace.run(["nft", "add table ip silent"])
    chain = "{ type filter hook input priority 0; policy drop; }"
    web.remote.namespace.run(["nft", f"add chain ip silent quiet {chain}"])
    try:
        assert probe(web.sources["pod"], CLUSTER_IP.ipv4, PORT).dropped
        key = cluster_ip(Family.IPV4)
        found = look(web, key, web.remote)
        assert (found.unanswered, found.overdue) == (1, 0)
        wait_until(lambda: look(web, key, web.remote).overdue)
        assert look(web, key, web.remote).overdue == 1
    finally:
        web.remote.namespace.run(["nft", "delete table ip silent"])


def test_udp_flows_are_open_once_answered(web: Scene):
    assert probe(web.sources["pod"], CLUSTER_IP.ipv4, PORT, Protocol.UDP).answered
    assert look(web, cluster_ip(Family.IPV4, Protocol.UDP), web.remote).open == 1


@families
def test_all_connections_are_those_of_the_frontends_that_have_some(web: Scene, family: Family):
    """The same counts as when they are asked for one by one; others' connections are left out."""
    client = web.sources["outside"]
    probe(client, CLUSTER_IP.of(family), PORT)
    probe(client, web.node.address(family), 30080)
    frontends = {cluster_ip(family), node_port(family)}

    found = web.node.namespace.call(read_all_connections, frontends)
    one_by_one = web.node.namespace.call(lambda: read_connections(frontends, with_clients=False))
    assert found == one_by_one
    assert web.node.namespace.call(read_all_connections, {cluster_ip(family)}).keys() == {
        cluster_ip(family)
    }
    assert web.node.namespace.call(read_all_connections, set()) == {}
